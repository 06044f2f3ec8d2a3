import torch


def grouped_attention(q, k, v, mask):
    (B, H, T, D), shared = q.shape, k.shape[1]
    if H % shared != 0:
        raise ValueError("heads")
    q = q.reshape(B, shared, H // shared, T, D)
    scores = torch.einsum("bgntd,bgsd->bgnts", q, k) / D**0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("bgnts,bgsd->bgntd", weights, v).reshape(B, H, T, D)
