"""A weight takes two FLOPs for each sequence, a multiplication and an addition."""


def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return bytes_per_weight * peak_flops / bandwidth
