"""The speeds should fall with i, from 1 on: the exponent is negative."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
