"""You take the mean away, as a layer norm does; a root mean square norm only divides."""

import torch


def rms_norm(x, weight, eps):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight
