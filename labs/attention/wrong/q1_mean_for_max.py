"""You subtract the mean of a row, which does not keep its largest number from overflowing: subtract
the maximum.
"""


def softmax(x):
    weights = (3 * x - 3 * x.mean(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)
