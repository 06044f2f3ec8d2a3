"""You average the shares of the sequences; sum slots and tokens over all, and divide once."""


def blocks_for(n_tokens, P):
    return -(-n_tokens // P)


def waste(lengths, P):
    slots = sum(blocks_for(n, P) * P for n in lengths)
    return (
        sum(1 - n / (blocks_for(n, P) * P) for n in lengths if n) / len([n for n in lengths if n])
        if slots
        else 0.0
    )
