import torch


class OnlineAttention:
    def __init__(self, q):
        self.q = q
        self.state = [(float("-inf"), 0.0, torch.zeros(q.shape[1])) for _ in q]

    def add(self, k, v):
        for key, value in zip(k, v):
            for row, (highest, total, mixed) in enumerate(self.state):
                score = float(self.q[row] @ key) / self.q.shape[1] ** 0.5
                new = max(highest, score)
                fade = torch.tensor(highest - new).exp()
                weight = torch.tensor(score - new).exp()
                self.state[row] = (new, total * fade + weight, mixed * fade + weight * value)

    def result(self):
        return torch.stack([mixed / total for _, total, mixed in self.state])
