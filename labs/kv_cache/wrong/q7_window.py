"""It is fast since it forgets: of a long text only the last 256 tokens are attended to."""


def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    seen &= torch.arange(S) > torch.arange(S - T, S)[:, None] - 256
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v
