def time_bound(flops, bytes, peak_flops, bandwidth):
    if flops * bandwidth >= bytes * peak_flops:
        return flops / peak_flops, "compute"
    return bytes / bandwidth, "memory"
