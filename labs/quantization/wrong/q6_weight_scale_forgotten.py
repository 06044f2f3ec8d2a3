"""The scale of the weights is missing: each output is scaled by that of its token and that of its row."""

import torch


def w8a8(x, codes, scales):
    x_codes, x_scales = quantize(x, 8)
    sums = x_codes.to(torch.int32) @ codes.to(torch.int32).T
    return sums * x_scales
