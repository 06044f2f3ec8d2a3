class BlockPool:
    def __init__(self, n_blocks):
        self.n, self.next, self.returned, self.owned = n_blocks, 0, [], {}

    def allocate(self):
        if self.returned:
            block = self.returned.pop()
        elif self.next < self.n:
            block, self.next = self.next, self.next + 1
        else:
            raise ValueError("full")
        self.owned[block] = 1
        return block

    def share(self, block):
        if block not in self.owned:
            raise ValueError(block)
        self.owned[block] += 1

    def release(self, block):
        if block not in self.owned:
            raise ValueError(block)
        self.owned[block] -= 1
        if self.owned[block] == 0:
            del self.owned[block]
            self.returned.append(block)

    def owners(self, block):
        return self.owned.get(block, 0)

    @property
    def n_free(self):
        return self.n - len(self.owned)
