"""Whole heads are repeated, not single rows."""


def spread_heads(weight, n_heads, n_kv_heads):
    return weight.repeat_interleave(n_heads // n_kv_heads, 0)
