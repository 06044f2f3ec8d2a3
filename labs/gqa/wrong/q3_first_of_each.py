"""You take the first head of each group; it should be the mean of all that will share."""


def pool_heads(weight, n_heads, n_kv_heads):
    C = weight.shape[1]
    return weight.reshape(n_kv_heads, n_heads // n_kv_heads, -1, C)[:, 0].reshape(-1, C)
