"""Your mask does not let a token see itself."""

import torch


def causal_mask(T, S):
    if not 1 <= T <= S:
        raise ValueError
    return torch.ones(T, S, dtype=torch.bool).tril(S - T - 1)
