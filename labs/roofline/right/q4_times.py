def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    read_s = bytes_per_weight / bandwidth
    multiply_s = 2 / peak_flops
    return read_s / multiply_s
