"""The scores are not divided by the square root of D."""

import torch


def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.transpose(-2, -1)).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1).nan_to_num() @ v
