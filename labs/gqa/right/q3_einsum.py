import torch


def pool_heads(weight, n_heads, n_kv_heads):
    group = n_heads // n_kv_heads
    heads = weight.unflatten(0, (n_kv_heads, group, -1))
    return torch.einsum("kgdc,g->kdc", heads, torch.full((group,), 1 / group)).flatten(0, 1)
