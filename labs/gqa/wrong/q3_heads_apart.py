"""Neighbouring heads share; you pool heads that lie n_kv_heads apart."""


def pool_heads(weight, n_heads, n_kv_heads):
    C = weight.shape[1]
    return weight.reshape(n_heads // n_kv_heads, n_kv_heads, -1, C).mean(0).reshape(-1, C)
