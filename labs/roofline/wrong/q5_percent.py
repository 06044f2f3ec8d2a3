"""1.0 is all of it, not 100."""


def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return 100 * flops / seconds / peak_flops, 100 * bytes / seconds / bandwidth
