"""It is fast since it leaves out every second key of the past."""


def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    keep = (torch.arange(S) % 2 == 0) | (torch.arange(S) >= S - T)
    seen &= keep
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v
