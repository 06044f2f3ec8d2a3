"""Memory that is just enough is enough."""


def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    one = tokens * kv_bytes_per_token(n_layers, 1, head_dim, bytes_per_number)
    return max([n for n in range(1, n_heads + 1) if n_heads % n == 0 and n * one < memory_bytes], default=0)
