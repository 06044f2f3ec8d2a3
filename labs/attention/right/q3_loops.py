import torch


def causal_mask(T, S):
    if T < 1 or T > S:
        raise ValueError("T")
    return torch.tensor([[j <= S - T + i for j in range(S)] for i in range(T)])
