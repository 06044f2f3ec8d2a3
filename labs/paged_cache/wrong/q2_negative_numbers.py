"""Block -1 is no block: Python would take the last one."""


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
            self.free.append(block)

    def owners(self, block):
        return self.counts[block] if block < len(self.counts) else 0

    @property
    def n_free(self):
        return len(self.free)
