"""You multiply by the square root of D; the scores should be divided by it."""


def scaled_scores(q, k):
    return q @ k.transpose(-2, -1) * q.shape[-1] ** 0.5
