"""It is the root of the *mean* of the squares, not of their sum."""

import torch


def rms_norm(x, weight, eps):
    return x / (x.pow(2).sum(-1, keepdim=True) + eps).sqrt() * weight
