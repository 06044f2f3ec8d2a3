"""The sum of the values is scaled down when the maximum rises, and the sum of the weights is not: both
have to be.
"""

import torch


class OnlineAttention:
    def __init__(self, q):
        self.q = q / q.shape[-1] ** 0.5
        self.highest = torch.full((len(q), 1), -torch.inf)
        self.total, self.mixed = torch.zeros(len(q), 1), torch.zeros_like(q)

    def add(self, k, v):
        scores = self.q @ k.T
        highest = torch.maximum(self.highest, scores.amax(-1, keepdim=True))
        weights, fade = (scores - highest).exp(), (self.highest - highest).exp()
        self.total = self.total + weights.sum(-1, keepdim=True)
        self.mixed = self.mixed * fade + weights @ v
        self.highest = highest

    def result(self):
        return self.mixed / self.total
