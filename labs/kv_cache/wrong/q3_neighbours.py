"""You turn neighbouring numbers together; here it is numbers i and i + D/2."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.arange(start, start + x.shape[2]))[:, None] * speed
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
