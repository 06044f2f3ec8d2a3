"""A shared head has n_heads / n_kv_heads readers, not n_kv_heads."""


def shared_head(head, n_heads, n_kv_heads):
    if n_heads % n_kv_heads or not 0 <= head < n_heads:
        raise ValueError("heads")
    return min(head // n_kv_heads, n_kv_heads - 1)
