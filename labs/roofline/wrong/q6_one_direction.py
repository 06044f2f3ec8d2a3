"""A claim may also be too small by such a factor: look at the inverse, too."""


def verdict(claimed, computed):
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 2**30 / 1e9, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        if abs(ratio / factor - 1) <= 0.02:
            return name
    return "wrong"
