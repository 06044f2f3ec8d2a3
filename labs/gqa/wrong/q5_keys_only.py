"""A token has a key and a value in each layer."""


def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    return n_layers * n_kv_heads * head_dim * bytes_per_number


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    return 2 * n_heads / n_kv_heads / bytes_per_number
