"""The exponent is -2i/D, and D is twice the number of pairs: yours falls half as fast."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / x.shape[-1])
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
