"""Published numbers are rounded: allow 2 %."""


def verdict(claimed, computed):
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 2**30 / 1e9, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        if any(abs(ratio / x - 1) <= 1e-9 for x in (factor, 1 / factor)):
            return name
    return "wrong"
