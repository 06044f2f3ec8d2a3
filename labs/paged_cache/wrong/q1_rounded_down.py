"""A block that is full in part is a block, too: round up."""


def blocks_for(n_tokens, P):
    return n_tokens // P


def waste(lengths, P):
    slots = sum(blocks_for(n, P) * P for n in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0
