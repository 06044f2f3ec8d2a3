def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    one = 2 * n_layers * head_dim * bytes_per_number * tokens
    fits = [n for n in range(1, n_heads + 1) if n_heads % n == 0 and n * one <= memory_bytes]
    return max(fits, default=0)
