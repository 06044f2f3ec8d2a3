"""You take the mean of neighbouring rows within a head; it should be row by row over the heads of a
group.
"""


def pool_heads(weight, n_heads, n_kv_heads):
    C = weight.shape[1]
    return weight.reshape(-1, n_heads // n_kv_heads, C).mean(1)
