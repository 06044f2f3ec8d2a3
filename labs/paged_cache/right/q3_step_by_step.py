class BlockTable:
    def __init__(self, pool, P):
        self.pool, self.P, self.blocks, self.length = pool, P, [], 0

    def reserve(self, n_new):
        room = len(self.blocks) * self.P - self.length
        more = 0
        while room + more * self.P < n_new:
            more += 1
        if more > self.pool.n_free:
            raise ValueError("too few")
        for _ in range(more):
            self.blocks.append(self.pool.allocate())
        self.length = self.length + n_new

    def truncate(self, length):
        self.length = length
        while self.blocks and (len(self.blocks) - 1) * self.P >= length:
            self.pool.release(self.blocks.pop(-1))

    def place(self, p):
        if p < 0 or p >= self.length:
            raise ValueError(p)
        number, slot = divmod(p, self.P)
        return self.blocks[number], slot
