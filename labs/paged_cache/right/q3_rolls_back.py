class BlockTable:
    def __init__(self, pool, P):
        self.pool, self.P, self.blocks, self.length = pool, P, [], 0

    def reserve(self, n_new):
        taken = []
        try:
            while (len(self.blocks) + len(taken)) * self.P < self.length + n_new:
                taken.append(self.pool.allocate())
        except ValueError:
            for block in reversed(taken):
                self.pool.release(block)
            raise
        self.blocks.extend(taken)
        self.length += n_new

    def truncate(self, length):
        keep = (length + self.P - 1) // self.P
        for _ in range(len(self.blocks) - keep):
            self.pool.release(self.blocks.pop())
        self.length = length

    def place(self, p):
        if p not in range(self.length):
            raise ValueError(p)
        return self.blocks[p // self.P], p - p // self.P * self.P
