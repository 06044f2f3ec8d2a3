import torch


def rms_norm(x, weight, eps):
    mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True) ** 2 / x.shape[-1]
    return x * (mean + eps) ** -0.5 * weight
