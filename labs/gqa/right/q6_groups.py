def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    for group in range(1, n_heads + 1):
        if n_heads % group == 0:
            n = n_heads // group
            if 2 * n * n_layers * head_dim * bytes_per_number * tokens <= memory_bytes:
                return n
    return 0
