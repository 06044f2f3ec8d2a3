"""Tokens that just fill their blocks need no further one."""


def blocks_for(n_tokens, P):
    return n_tokens // P + 1


def waste(lengths, P):
    slots = sum(blocks_for(n, P) * P for n in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0
