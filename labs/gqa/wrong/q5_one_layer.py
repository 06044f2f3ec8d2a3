"""Every layer has keys and values of its own."""


def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    return 2 * n_kv_heads * head_dim * bytes_per_number


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    return 2 * n_heads / n_kv_heads / bytes_per_number
