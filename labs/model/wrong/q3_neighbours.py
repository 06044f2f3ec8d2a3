"""You turn neighbouring numbers together; here it is numbers i and i + D/2."""

import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack(
        (a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1
    ).flatten(-2)
