"""The first query heads read the first shared head."""


def shared_head(head, n_heads, n_kv_heads):
    if n_heads % n_kv_heads or not 0 <= head < n_heads:
        raise ValueError("heads")
    return n_kv_heads - 1 - head // (n_heads // n_kv_heads)
