"""The number of shared heads must divide n_heads."""


def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    one = tokens * kv_bytes_per_token(n_layers, 1, head_dim, bytes_per_number)
    return min(n_heads, memory_bytes // one)
