def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    keys = n_kv_heads * head_dim
    return sum((keys + keys) * bytes_per_number for _ in range(n_layers))


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    group = n_heads / n_kv_heads
    return group * 2 / bytes_per_number
