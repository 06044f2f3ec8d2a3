"""A scale is shared by its group: each weight bears one group_size-th of it."""


def quantize_groups(w, bits, group_size):
    n, c = w.shape
    if c % group_size:
        raise ValueError("group_size")
    codes, scales = quantize(w.reshape(-1, group_size), bits)
    return codes.reshape(n, c), scales.reshape(n, c // group_size)


def bits_per_weight(bits, group_size, scale_bits):
    return float(bits + scale_bits)
