"""The first token stands at position 0, and is not turned."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(1, x.shape[-2] + 1, dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
