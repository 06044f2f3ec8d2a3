"""A step that takes longer reaches less: divide by the seconds."""


def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return flops * seconds / peak_flops, bytes * seconds / bandwidth
