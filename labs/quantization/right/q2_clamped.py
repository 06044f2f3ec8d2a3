import torch


def quantize(w, bits):
    most = 2 ** (bits - 1) - 1
    top = w.abs().max(1, keepdim=True).values
    scales = torch.where(top == 0, torch.ones_like(top), top / most)
    return torch.clamp(torch.round(w / scales), -most, most).char(), scales


def dequantize(codes, scales):
    return codes.float() * scales
