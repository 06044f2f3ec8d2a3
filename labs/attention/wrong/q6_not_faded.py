"""When a block brings a higher score, what was summed before has to be scaled down by e^(old maximum -
new maximum).
"""

import torch


class OnlineAttention:
    def __init__(self, q):
        self.q = q / q.shape[-1] ** 0.5
        self.highest = torch.full((len(q), 1), -torch.inf)
        self.total, self.mixed = torch.zeros(len(q), 1), torch.zeros_like(q)

    def add(self, k, v):
        scores = self.q @ k.T
        self.highest = torch.maximum(self.highest, scores.amax(-1, keepdim=True))
        weights = (scores - self.highest).exp()
        self.total, self.mixed = self.total + weights.sum(-1, keepdim=True), self.mixed + weights @ v

    def result(self):
        return self.mixed / self.total
