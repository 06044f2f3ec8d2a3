import math

import torch


class OnlineAttention:
    def __init__(self, q):
        self.q = q
        self.state = [(float("-inf"), 0.0, torch.zeros_like(row)) for row in q]

    def add(self, k, v):
        for key, value in zip(k, v):
            for row, (highest, total, mixed) in enumerate(self.state):
                score = float(self.q[row] @ key) / self.q.shape[1] ** 0.5
                new = max(highest, score)
                fade = math.exp(highest - new)
                weight = math.exp(score - new)
                self.state[row] = (new, total * fade + weight, mixed * fade + weight * value)

    def result(self):
        return torch.stack([mixed / total for _, total, mixed in self.state])
