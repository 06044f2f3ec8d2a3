"""A block that nobody owns can be released again, and is then on the free list twice: two sequences
would get it.
"""


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
        self.counts[block] = max(0, self.counts[block] - 1)
        if not self.counts[block]:
            self.free.append(block)

    def owners(self, block):
        return self.counts[block] if 0 <= block < len(self.counts) else 0

    @property
    def n_free(self):
        return len(self.free)
