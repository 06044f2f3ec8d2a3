import torch


def spread_heads(weight, n_heads, n_kv_heads):
    heads = weight.chunk(n_kv_heads)
    return torch.cat([heads[head * n_kv_heads // n_heads] for head in range(n_heads)])
