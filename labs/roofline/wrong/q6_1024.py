"""GiB over GB is 2^30 / 10^9, which is 1.074; 1.024 is KiB over kB."""


def verdict(claimed, computed):
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 1.024, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        if any(abs(ratio / x - 1) <= 0.02 for x in (factor, 1 / factor)):
            return name
    return "wrong"
