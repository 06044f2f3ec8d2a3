"""The two of FLOPs per weight stands below the line, not above it."""


def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return 2 * peak_flops / bandwidth * bytes_per_weight
