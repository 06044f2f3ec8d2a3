"""More bytes per weight take longer to read, so the critical batch grows with them."""


def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return peak_flops / (2 * bandwidth * bytes_per_weight)
