"""2 % of x, not 0.02: divide by x before you take 1 away."""


def verdict(claimed, computed):
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 2**30 / 1e9, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        if any(abs(ratio - x) <= 0.02 for x in (factor, 1 / factor)):
            return name
    return "wrong"
