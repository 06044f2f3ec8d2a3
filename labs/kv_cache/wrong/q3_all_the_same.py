"""All new tokens are turned by the same position; each has its own."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.full((x.shape[2],), start))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
