"""It is the peak over the bandwidth, not the other way round."""


def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return 2 * bandwidth / (bytes_per_weight * peak_flops)
