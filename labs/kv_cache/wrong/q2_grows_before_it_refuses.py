"""When append refuses, something has changed already: look first, write then."""

import torch


class KVCache:
    def __init__(self, batch, heads, capacity, dim):
        self.k = torch.zeros(batch, heads, capacity, dim)
        self.v = torch.zeros(batch, heads, capacity, dim)
        self.capacity, self.length = capacity, 0

    def append(self, k, v):
        start, self.length = self.length, self.length + k.shape[2]
        if self.length > self.capacity:
            raise ValueError("full")
        self.k[:, :, start : self.length] = k
        self.v[:, :, start : self.length] = v
        return self.k[:, :, : self.length], self.v[:, :, : self.length]

    def truncate(self, length):
        if not 0 <= length <= self.length:
            raise ValueError("length")
        self.length = length
