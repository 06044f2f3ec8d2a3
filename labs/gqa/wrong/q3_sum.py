"""It is the mean of the heads, not their sum."""


def pool_heads(weight, n_heads, n_kv_heads):
    C = weight.shape[1]
    return weight.reshape(n_kv_heads, n_heads // n_kv_heads, -1, C).sum(1).reshape(-1, C)
