"""MFU comes first, MBU second."""


def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return bytes / seconds / bandwidth, flops / seconds / peak_flops
