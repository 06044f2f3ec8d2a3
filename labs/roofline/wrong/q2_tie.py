"""Where both take the same time, the side is "compute"."""


def time_bound(flops, bytes, peak_flops, bandwidth):
    c, m = flops / peak_flops, bytes / bandwidth
    return max(c, m), "compute" if c > m else "memory"
