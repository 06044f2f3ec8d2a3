import torch


def pool_heads(weight, n_heads, n_kv_heads):
    D, group = len(weight) // n_heads, n_heads // n_kv_heads
    heads = weight.split(D)
    pooled = [sum(heads[i * group : (i + 1) * group]) / group for i in range(n_kv_heads)]
    return torch.cat(pooled)
