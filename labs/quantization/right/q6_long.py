import torch


def w8a8(x, codes, scales):
    top = x.abs().amax(1, keepdim=True)
    steps = torch.where(top == 0, torch.ones_like(top), top / 127)
    sums = torch.einsum("tc,nc->tn", torch.round(x / steps).long(), codes.long())
    return sums.float() * (steps @ scales.T)
