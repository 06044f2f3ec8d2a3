import math

import torch


def rotate(x, start):
    out = torch.empty_like(x)
    half = x.shape[-1] // 2
    for t in range(x.shape[2]):
        for i in range(half):
            angle = (start + t) * 10000 ** (-i / half)
            a, b = x[:, :, t, i], x[:, :, t, i + half]
            out[:, :, t, i] = a * math.cos(angle) - b * math.sin(angle)
            out[:, :, t, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out
