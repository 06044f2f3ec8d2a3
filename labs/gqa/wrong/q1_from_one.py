"""All numbers begin at 0."""


def shared_head(head, n_heads, n_kv_heads):
    if n_heads % n_kv_heads or not 0 <= head < n_heads:
        raise ValueError("heads")
    return head // (n_heads // n_kv_heads) + 1
