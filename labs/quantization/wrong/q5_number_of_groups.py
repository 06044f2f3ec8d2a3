"""group_size is how many weights a group has, not how many groups there are."""


def quantize_groups(w, bits, group_size):
    n, c = w.shape
    if c % group_size:
        raise ValueError("group_size")
    codes, scales = quantize(w.reshape(n * group_size, -1), bits)
    return codes.reshape(n, c), scales.reshape(n, group_size)


def bits_per_weight(bits, group_size, scale_bits):
    return bits + scale_bits / group_size
