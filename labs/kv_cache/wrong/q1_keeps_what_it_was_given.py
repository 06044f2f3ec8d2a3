"""What is stored changes when the given tensors are changed: copy the numbers into memory of your own."""

import torch


class KVCache:
    def __init__(self, batch, heads, capacity, dim):
        self.parts, self.capacity, self.length = [], capacity, 0

    def append(self, k, v):
        if self.length + k.shape[2] > self.capacity:
            raise ValueError("full")
        self.parts.append((k, v))
        self.length += k.shape[2]
        k, v = (torch.zeros(*x.shape[:2], self.length, x.shape[3]) for x in (k, v))
        start = 0
        for a, b in self.parts:
            end = start + a.shape[2]
            k[:, :, start:end], v[:, :, start:end] = a, b
            start = end
        return k, v

    def truncate(self, length):
        if not 0 <= length <= self.length:
            raise ValueError("length")
        self.length = length
