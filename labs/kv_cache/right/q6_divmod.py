def kv_bytes(n_layers, n_kv_heads, head_dim, tokens, batch, bytes_per_number):
    return sum(2 * n_kv_heads * head_dim * bytes_per_number for _ in range(n_layers)) * (tokens * batch)


def largest_batch(memory_bytes, weight_bytes, n_layers, n_kv_heads, head_dim, tokens, bytes_per_number):
    if weight_bytes > memory_bytes:
        return 0
    return divmod(
        memory_bytes - weight_bytes, kv_bytes(n_layers, n_kv_heads, head_dim, tokens, 1, bytes_per_number)
    )[0]
