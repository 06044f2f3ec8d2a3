"""The frequencies fall too slowly: the exponent is 2i / D, with i up to D/2."""

import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / x.shape[-1])
    angles = (torch.arange(start, start + x.shape[2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
