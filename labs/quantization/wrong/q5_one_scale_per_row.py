"""All groups of a row have the same scale; each should have its own."""


def quantize_groups(w, bits, group_size):
    n, c = w.shape
    if c % group_size:
        raise ValueError("group_size")
    codes, scales = quantize(w, bits)
    return codes, scales.repeat(1, c // group_size)


def bits_per_weight(bits, group_size, scale_bits):
    return bits + scale_bits / group_size
