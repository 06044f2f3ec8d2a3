"""You mask the weights after the softmax: those that are left no longer add up to 1."""


def attention(q, k, v, mask):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores.softmax(-1) * mask) @ v
