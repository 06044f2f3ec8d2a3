"""FLOPs go over FLOPs per second, bytes over bytes per second."""


def time_bound(flops, bytes, peak_flops, bandwidth):
    c, m = flops / bandwidth, bytes / peak_flops
    return max(c, m), "compute" if c >= m else "memory"
