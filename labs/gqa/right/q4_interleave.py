def spread_heads(weight, n_heads, n_kv_heads):
    heads = weight.unflatten(0, (n_kv_heads, -1))
    return heads.repeat_interleave(n_heads // n_kv_heads, 0).flatten(0, 1)
