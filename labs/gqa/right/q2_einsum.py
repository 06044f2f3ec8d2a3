import torch


def grouped_attention(q, k, v):
    B, H, T, D = q.shape
    S = k.shape[2]
    q = q.unflatten(1, (k.shape[1], -1))
    scores = torch.einsum("bkgtd,bksd->bkgts", q, k) / D**0.5
    later = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    probs = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("bkgts,bksd->bkgtd", probs, v).flatten(1, 2)
