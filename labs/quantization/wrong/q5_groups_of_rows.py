"""Your groups go down the columns; a group is of neighbouring weights in one row."""


def quantize_groups(w, bits, group_size):
    n, c = w.shape
    if c % group_size:
        raise ValueError("group_size")
    codes, scales = quantize(w.T.reshape(-1, group_size) if n * c % group_size == 0 else w, bits)
    return codes.reshape(c, n).T.contiguous(), scales.reshape(-1)[: n * c // group_size].reshape(
        n, c // group_size
    )


def bits_per_weight(bits, group_size, scale_bits):
    return bits + scale_bits / group_size
