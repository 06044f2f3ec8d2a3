import torch


class OnlineAttention:
    def __init__(self, q):
        self.q, self.out, self.log_total = q * q.shape[-1] ** -0.5, None, None

    def add(self, k, v):
        scores = self.q @ k.T
        log_total = scores.logsumexp(-1, keepdim=True)
        out = (scores - log_total).exp() @ v
        if self.out is None:
            self.out, self.log_total = out, log_total
            return
        both = torch.logaddexp(self.log_total, log_total)
        self.out = self.out * (self.log_total - both).exp() + out * (log_total - both).exp()
        self.log_total = both

    def result(self):
        return self.out
