import torch


def rms_norm(x, weight, eps):
    scale = torch.rsqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps)
    return weight * (x * scale)
