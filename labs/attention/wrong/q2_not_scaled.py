"""The scores are not divided by the square root of D."""


def scaled_scores(q, k):
    return q @ k.transpose(-2, -1)
