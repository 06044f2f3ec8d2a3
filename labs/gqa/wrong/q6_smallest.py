"""Asked is the largest number that fits."""


def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    one = tokens * kv_bytes_per_token(n_layers, 1, head_dim, bytes_per_number)
    return 1 if one <= memory_bytes else 0
