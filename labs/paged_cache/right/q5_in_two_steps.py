class BlockTable:
    def __init__(self, pool, P):
        self.pool, self.P, self.blocks, self.length = pool, P, [], 0

    def reserve(self, n_new):
        used = self.length - self.length // self.P * self.P
        shared = bool(n_new and used and self.pool.owners(self.blocks[-1]) >= 2)
        wanted = (self.length + n_new + self.P - 1) // self.P - len(self.blocks) + int(shared)
        if wanted > self.pool.n_free:
            raise ValueError("too few")
        fresh = [self.pool.allocate() for _ in range(wanted)]
        copy = None
        if shared:
            old = self.blocks.pop()
            self.pool.release(old)
            copy = (old, fresh[0], used)
        self.blocks = self.blocks + fresh
        self.length += n_new
        return copy

    def truncate(self, length):
        while len(self.blocks) * self.P >= length + self.P:
            self.pool.release(self.blocks.pop())
        self.length = length

    def place(self, p):
        if p < 0 or p >= self.length:
            raise ValueError(p)
        return self.blocks[p // self.P], p % self.P

    def fork(self):
        child = BlockTable(self.pool, self.P)
        child.length = self.length
        for block in self.blocks:
            child.blocks.append(block)
            self.pool.share(block)
        return child
