"""The side that binds is the one that takes longer."""


def time_bound(flops, bytes, peak_flops, bandwidth):
    c, m = flops / peak_flops, bytes / bandwidth
    return max(c, m), "memory" if c > m else "compute"
