"""Your softmax sums over the whole tensor; each row along the last axis should add up to 1 by itself."""


def softmax(x):
    weights = (x - x.max()).exp()
    return weights / weights.sum()
