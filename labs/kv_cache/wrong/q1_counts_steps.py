"""The length goes up by one for each call; it should go up by the tokens stored."""

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
        self.length += 1
        return self.k[:, :, :end], self.v[:, :, :end]

    def truncate(self, length):
        if not 0 <= length <= self.length:
            raise ValueError("length")
        self.length = length
