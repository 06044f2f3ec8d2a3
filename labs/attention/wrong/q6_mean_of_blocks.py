"""You average the results of the blocks; a block with higher scores should weigh more."""


class OnlineAttention:
    def __init__(self, q):
        self.q, self.parts = q / q.shape[-1] ** 0.5, []

    def add(self, k, v):
        self.parts.append((self.q @ k.T).softmax(-1) @ v)

    def result(self):
        return sum(self.parts) / len(self.parts)
