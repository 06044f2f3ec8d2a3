def shared_head(head, n_heads, n_kv_heads):
    if n_heads % n_kv_heads or not 0 <= head < n_heads:
        raise ValueError("heads")
    group = n_heads // n_kv_heads
    return [kv for kv in range(n_kv_heads) for _ in range(group)][head]
