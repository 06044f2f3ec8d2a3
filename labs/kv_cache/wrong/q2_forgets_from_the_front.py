"""truncate forgets the first tokens; it should keep them, and forget those behind."""

import torch


class KVCache:
    def __init__(self, batch, heads, capacity, dim):
        self.k = torch.zeros(batch, heads, capacity, dim)
        self.v = torch.zeros(batch, heads, capacity, dim)
        self.capacity, self.length = capacity, 0

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError("full")
        self.k[:, :, self.length : end] = k
        self.v[:, :, self.length : end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def truncate(self, length):
        if not 0 <= length <= self.length:
            raise ValueError("length")
        drop = self.length - length
        self.k, self.v = self.k.roll(-drop, 2), self.v.roll(-drop, 2)
        self.length = length
