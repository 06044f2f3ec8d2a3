"""The rotation goes the wrong way round: it is a cos - b sin, then b cos + a sin."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() + b * angles.sin(), b * angles.cos() - a * angles.sin()), -1)
