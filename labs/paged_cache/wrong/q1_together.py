"""You put all sequences into the same blocks; each needs blocks of its own."""


def blocks_for(n_tokens, P):
    return -(-n_tokens // P)


def waste(lengths, P):
    slots = blocks_for(sum(lengths), P) * P
    return 1 - sum(lengths) / slots if slots else 0.0
