import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] / theta ** (torch.arange(half) / half)
    angles = torch.cat((angles, angles), -1)
    exchanged = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * angles.cos() + exchanged * angles.sin()
