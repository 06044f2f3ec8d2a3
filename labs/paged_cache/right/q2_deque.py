from collections import Counter, deque


class BlockPool:
    def __init__(self, n_blocks):
        self.stack, self.count, self.n_free = deque(range(n_blocks)), Counter(), n_blocks

    def allocate(self):
        try:
            block = self.stack.popleft()
        except IndexError:
            raise ValueError("none") from None
        self.count[block] += 1
        self.n_free -= 1
        return block

    def share(self, block):
        self.need(block)
        self.count[block] += 1

    def release(self, block):
        self.need(block)
        self.count[block] -= 1
        if self.count[block] == 0:
            self.stack.appendleft(block)
            self.n_free += 1

    def need(self, block):
        if self.count[block] < 1:
            raise ValueError(block)

    def owners(self, block):
        return self.count[block]
