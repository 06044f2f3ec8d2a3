"""Your query heads take the shared heads in turn (0, 1, 0, 1); neighbours should share (0, 0, 1, 1).
That is what repeat does, and repeat_interleave does not.
"""

import torch


def grouped_attention(q, k, v, mask):
    if q.shape[1] % k.shape[1]:
        raise ValueError
    k, v = (x.repeat(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v))
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v
