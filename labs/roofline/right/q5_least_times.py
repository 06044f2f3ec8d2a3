def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return (flops / peak_flops) / seconds, (bytes / bandwidth) / seconds
