"""Your mask counts queries from the first token. They are the last T of the S: query i is token S - T
+ i.
"""

import torch


def causal_mask(T, S):
    if not 1 <= T <= S:
        raise ValueError
    return torch.ones(T, S, dtype=torch.bool).tril()
