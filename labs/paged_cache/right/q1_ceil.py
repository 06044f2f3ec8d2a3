import math


def blocks_for(n_tokens, P):
    return math.ceil(n_tokens / P)


def waste(lengths, P):
    slots = P * sum((n + P - 1) // P for n in lengths)
    if slots == 0:
        return 0.0
    return (slots - sum(lengths)) / slots
