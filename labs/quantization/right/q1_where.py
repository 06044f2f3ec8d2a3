import torch


def row_scales(w, bits):
    top = torch.maximum(w.max(dim=1, keepdim=True).values, -w.min(dim=1, keepdim=True).values)
    return torch.where(top > 0, top / ((1 << bits - 1) - 1), torch.ones_like(top))
