"""The mask should be of booleans."""

import torch


def causal_mask(T, S):
    if not 1 <= T <= S:
        raise ValueError
    return torch.ones(T, S).tril(S - T)
