"""Half a sequence is none: round down."""


def kv_bytes(n_layers, n_kv_heads, head_dim, tokens, batch, bytes_per_number):
    return 2 * n_layers * n_kv_heads * head_dim * tokens * batch * bytes_per_number


def largest_batch(memory_bytes, weight_bytes, n_layers, n_kv_heads, head_dim, tokens, bytes_per_number):
    one = kv_bytes(n_layers, n_kv_heads, head_dim, tokens, 1, bytes_per_number)
    return max(0, -(-(memory_bytes - weight_bytes) // one))
