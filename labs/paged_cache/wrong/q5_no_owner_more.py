"""fork must make itself an owner of every block, or they are free when the first sequence ends."""


class BlockTable:
    def __init__(self, pool, P):
        self.pool, self.P = pool, P
        self.blocks, self.length = [], 0

    def reserve(self, n_new):
        held = self.length % self.P
        copies = n_new > 0 and held > 0 and self.pool.owners(self.blocks[-1]) > 1
        missing = blocks_for(self.length + n_new, self.P) - len(self.blocks)
        if missing + copies > self.pool.n_free:
            raise ValueError("not enough free blocks")
        copy = None
        if copies:
            target = self.pool.allocate()
            copy = (self.blocks[-1], target, held)
            self.pool.release(self.blocks[-1])
            self.blocks[-1] = target
        self.blocks += [self.pool.allocate() for _ in range(missing)]
        self.length += n_new
        return copy

    def truncate(self, length):
        while len(self.blocks) > blocks_for(length, self.P):
            self.pool.release(self.blocks.pop())
        self.length = length

    def place(self, p):
        if not 0 <= p < self.length:
            raise ValueError("not there")
        return self.blocks[p // self.P], p % self.P

    def fork(self):
        other = BlockTable(self.pool, self.P)
        other.blocks, other.length = list(self.blocks), self.length
        return other
