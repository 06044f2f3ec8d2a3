"""The largest code is 2^(bits-1) - 1, 127 for 8 bits, not 128."""


def row_scales(w, bits):
    scales = w.abs().amax(-1, keepdim=True) / 2 ** (bits - 1)
    return scales.masked_fill(scales == 0, 1)
