def kv_bytes(n_layers, n_kv_heads, head_dim, tokens, batch, bytes_per_number):
    of_a_token = n_layers * (n_kv_heads * head_dim + n_kv_heads * head_dim)
    return of_a_token * bytes_per_number * tokens * batch


def largest_batch(memory_bytes, weight_bytes, n_layers, n_kv_heads, head_dim, tokens, bytes_per_number):
    left = memory_bytes - weight_bytes
    n = 0
    while kv_bytes(n_layers, n_kv_heads, head_dim, tokens, n + 1, bytes_per_number) <= left:
        n += 1
    return n
