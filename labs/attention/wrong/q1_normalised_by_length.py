"""The weights of a row do not add up to 1: divide by their sum, not by how many there are."""


def softmax(x):
    weights = (x - x.amax(-1, keepdim=True)).exp()
    return weights / x.shape[-1]
