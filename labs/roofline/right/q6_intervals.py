def verdict(claimed, computed):
    r = claimed / computed
    table = [
        (1.0, "right"),
        (1.073741824, "GB and GiB"),
        (1 / 1.073741824, "GB and GiB"),
        (2, "a factor of two"),
        (1 / 2, "a factor of two"),
        (8, "bits and bytes"),
        (1 / 8, "bits and bytes"),
    ]
    found = [name for x, name in table if 0.98 * x <= r <= 1.02 * x]
    return found[0] if found else "wrong"
