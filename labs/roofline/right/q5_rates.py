def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    rate = 1 / seconds
    return rate * flops / peak_flops, rate * bytes / bandwidth
