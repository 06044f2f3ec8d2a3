def time_bound(flops, bytes, peak_flops, bandwidth):
    sides = {"compute": flops / peak_flops, "memory": bytes / bandwidth}
    side = max(sides, key=sides.get)
    return sides[side], side
