def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    return n_layers * head_dim * bytes_per_number * n_kv_heads * 2


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    tokens, dim = 100, 64
    flops = 2 * 2 * n_heads * dim * tokens
    moved = 2 * n_kv_heads * dim * tokens * bytes_per_number
    return flops / moved
