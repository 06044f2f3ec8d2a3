"""New tokens see one another in both directions: a token must not see a later one."""

import torch


def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.ones(T, S, dtype=torch.bool)
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1).nan_to_num() @ v
