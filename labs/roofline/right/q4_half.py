def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    return 0.5 * bytes_per_weight * (peak_flops / bandwidth)
