def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
    scores = scores + torch.full((T, S), -torch.inf).triu(S - T + 1)
    return torch.einsum("bhts,bhsd->bhtd", scores.softmax(-1), v)
