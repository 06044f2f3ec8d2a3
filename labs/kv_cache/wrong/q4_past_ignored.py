"""The new tokens see only one another; what is in the cache is not attended to."""

import torch


def attend_cached(q, k, v, cache):
    cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1).nan_to_num() @ v
