"""The rates are per second: divide by the time the step took."""


def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return flops / peak_flops, bytes / bandwidth
