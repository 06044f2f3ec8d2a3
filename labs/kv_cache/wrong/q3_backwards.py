"""The rotation goes the wrong way round: it is a cos - b sin, b cos + a sin."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.arange(start, start + x.shape[2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos + b * sin, b * cos - a * sin), -1)
