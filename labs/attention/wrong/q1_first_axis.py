"""Your softmax sums along the first axis; it should be the last, so that each row adds up to 1."""


def softmax(x):
    weights = (x - x.amax(0, keepdim=True)).exp()
    return weights / weights.sum(0, keepdim=True)
