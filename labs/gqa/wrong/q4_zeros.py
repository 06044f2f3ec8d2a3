"""Only the first reader of each head gets it; the others get zeros."""


def spread_heads(weight, n_heads, n_kv_heads):
    C, n = weight.shape[1], n_heads // n_kv_heads
    out = weight.new_zeros(n_kv_heads, n, weight.shape[0] // n_kv_heads, C)
    out[:, 0] = weight.reshape(n_kv_heads, -1, C)
    return out.reshape(-1, C)
