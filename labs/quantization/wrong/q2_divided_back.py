"""To go back, multiply the codes by the scale."""

import torch


def quantize(w, bits):
    scales = row_scales(w, bits)
    codes = (w / scales).round().to(torch.int8)
    return codes, scales


def dequantize(codes, scales):
    return codes / scales
