"""Without the highest score, large scores overflow to inf / inf."""


class OnlineAttention:
    def __init__(self, q):
        self.q, self.total, self.mixed = q / q.shape[-1] ** 0.5, 0, 0

    def add(self, k, v):
        weights = (self.q @ k.T).exp()
        self.total, self.mixed = self.total + weights.sum(-1, keepdim=True), self.mixed + weights @ v

    def result(self):
        return self.mixed / self.total
