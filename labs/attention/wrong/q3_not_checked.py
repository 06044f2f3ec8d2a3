"""T larger than S, or below 1, should raise ValueError."""

import torch


def causal_mask(T, S):
    return torch.ones(T, S, dtype=torch.bool).tril(S - T)
