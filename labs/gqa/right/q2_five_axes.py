import torch


def grouped_attention(q, k, v):
    B, H, T, D = q.shape
    S = k.shape[2]
    q = q.unflatten(1, (k.shape[1], -1))
    scores = q @ k[:, :, None].mT / D**0.5
    later = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    probs = scores.masked_fill(later, float("-inf")).softmax(-1)
    return (probs @ v[:, :, None]).flatten(1, 2)
