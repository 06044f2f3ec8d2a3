"""More query heads to a shared head do more with each byte: n_heads over n_kv_heads."""


def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    return 2 * n_layers * n_kv_heads * head_dim * bytes_per_number


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    return 2 * n_kv_heads / n_heads / bytes_per_number
