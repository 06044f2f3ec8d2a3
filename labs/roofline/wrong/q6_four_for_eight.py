"""A byte has eight bits."""


def verdict(claimed, computed):
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 2**30 / 1e9, "a factor of two": 2, "bits and bytes": 4}
    for name, factor in factors.items():
        if any(abs(ratio / x - 1) <= 0.02 for x in (factor, 1 / factor)):
            return name
    return "wrong"
