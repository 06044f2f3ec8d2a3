def verdict(claimed, computed):
    r = claimed / computed
    gib = 2**30 / 10**9

    def near(x):
        return abs(r / x - 1) <= 0.02

    if near(1):
        return "right"
    if near(gib) or near(1 / gib):
        return "GB and GiB"
    if near(2) or near(0.5):
        return "a factor of two"
    return "bits and bytes" if near(8) or near(0.125) else "wrong"
