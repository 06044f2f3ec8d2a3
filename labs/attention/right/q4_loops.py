import torch


def attention(q, k, v, mask):
    (B, H, T, D), S = q.shape, k.shape[2]
    mask = mask.expand(B, H, T, S)
    out = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = mask[b, h, t]
                if seen.any():
                    scores = k[b, h, seen] @ q[b, h, t] / D**0.5
                    out[b, h, t] = scores.softmax(0) @ v[b, h, seen]
    return out
