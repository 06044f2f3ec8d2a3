import torch


class KVCache:
    def __init__(self, batch, heads, capacity, dim):
        self.memory = torch.empty(2, capacity, batch, heads, dim)
        self.length = 0

    def append(self, k, v):
        n = k.size(2)
        if self.length + n > self.memory.size(1):
            raise ValueError(n)
        for token in range(n):
            self.memory[0, self.length + token] = k[:, :, token]
            self.memory[1, self.length + token] = v[:, :, token]
        self.length += n
        k, v = self.memory[:, : self.length].permute(0, 2, 3, 1, 4)
        return k, v

    def truncate(self, length):
        if length < 0 or length > self.length:
            raise ValueError(length)
        self.length = length
