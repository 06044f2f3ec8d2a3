def blocks_for(n_tokens, P):
    n = 0
    while n * P < n_tokens:
        n += 1
    return n


def waste(lengths, P):
    empty = total = 0
    for n in lengths:
        total += blocks_for(n, P) * P
        empty += blocks_for(n, P) * P - n
    return empty / total if total > 0 else 0.0
