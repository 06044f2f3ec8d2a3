"""You always give the lowest free number; it should be the block released last."""


class BlockPool:
    def __init__(self, n_blocks):
        self.free = list(range(n_blocks))[::-1]
        self.counts = [0] * n_blocks

    def allocate(self):
        if not self.free:
            raise ValueError("no free block")
        block = self.free.pop()
        self.counts[block] = 1
        return block

    def share(self, block):
        if not self.owners(block):
            raise ValueError("no owner")
        self.counts[block] += 1

    def release(self, block):
        if not self.owners(block):
            raise ValueError("no owner")
        self.counts[block] -= 1
        if not self.counts[block]:
            self.free = sorted([*self.free, block], reverse=True)

    def owners(self, block):
        return self.counts[block] if 0 <= block < len(self.counts) else 0

    @property
    def n_free(self):
        return len(self.free)
