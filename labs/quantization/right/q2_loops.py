import torch


def quantize(w, bits):
    scales = row_scales(w, bits)
    codes = torch.zeros(w.shape, dtype=torch.int8)
    for i, row in enumerate(w):
        codes[i] = torch.round(row / scales[i])
    return codes, scales


def dequantize(codes, scales):
    return torch.stack([row.float() * scale for row, scale in zip(codes, scales)])
