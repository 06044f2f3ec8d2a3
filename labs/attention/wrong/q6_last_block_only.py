"""The result is that of the last block alone: what the earlier ones gave is lost."""


class OnlineAttention:
    def __init__(self, q):
        self.q = q / q.shape[-1] ** 0.5

    def add(self, k, v):
        self.mixed = (self.q @ k.T).softmax(-1) @ v

    def result(self):
        return self.mixed
