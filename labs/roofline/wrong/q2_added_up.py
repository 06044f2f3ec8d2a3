"""Arithmetic and memory work at the same time: the longer counts, not the sum."""


def time_bound(flops, bytes, peak_flops, bandwidth):
    c, m = flops / peak_flops, bytes / bandwidth
    return c + m, "compute" if c >= m else "memory"
