import torch


def grouped_attention(q, k, v):
    H, T, S = q.shape[1], q.shape[2], k.shape[2]
    mask = torch.full((T, S), float("-inf")).triu(S - T + 1)
    outs = []
    for head in range(H):
        shared = head * k.shape[1] // H
        scores = q[:, head] @ k[:, shared].mT / q.shape[-1] ** 0.5 + mask
        outs.append(scores.softmax(-1) @ v[:, shared])
    return torch.stack(outs, 1)
