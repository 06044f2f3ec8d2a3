"""The heads lie along the rows; you pool columns into them."""


def pool_heads(weight, n_heads, n_kv_heads):
    pooled = weight.reshape(n_kv_heads, n_heads // n_kv_heads, -1, weight.shape[1]).mean(1)
    return pooled.mean(-1, keepdim=True).expand_as(pooled).reshape(-1, weight.shape[1])
