"""A step takes as long as the slower side."""


def time_bound(flops, bytes, peak_flops, bandwidth):
    c, m = flops / peak_flops, bytes / bandwidth
    return min(c, m), "compute" if c >= m else "memory"
