"""Your mask is the wrong way round: True means that a query may see the key."""

import torch


def causal_mask(T, S):
    if not 1 <= T <= S:
        raise ValueError
    return torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
