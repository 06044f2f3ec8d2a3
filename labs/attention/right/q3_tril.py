import torch


def causal_mask(T, S):
    if T < 1 or T > S:
        raise ValueError("T")
    return torch.tril(torch.ones(S, S)).bool()[-T:]
