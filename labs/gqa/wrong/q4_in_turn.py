"""A shared head stands next to itself, once for each of its readers; yours come in turn."""


def spread_heads(weight, n_heads, n_kv_heads):
    return weight.repeat(n_heads // n_kv_heads, 1)
