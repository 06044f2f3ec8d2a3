"""You quantize all tokens with one scale; each token has its own, or one large activation spoils them
all.
"""

import torch


def w8a8(x, codes, scales):
    x_codes, x_scales = quantize(x.reshape(1, -1), 8)
    sums = x_codes.reshape(x.shape).to(torch.int32) @ codes.to(torch.int32).T
    return sums * x_scales * scales.T
