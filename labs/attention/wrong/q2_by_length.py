"""You divide by the square root of the number of keys; it is that of D, the length of a query."""


def scaled_scores(q, k):
    return q @ k.transpose(-2, -1) / k.shape[-2] ** 0.5
