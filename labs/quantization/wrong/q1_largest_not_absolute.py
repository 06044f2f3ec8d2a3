"""A large negative weight counts as well: take the largest absolute value."""


def row_scales(w, bits):
    scales = w.amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return scales.masked_fill(scales == 0, 1)
