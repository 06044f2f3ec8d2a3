"""Keys and values have n_kv_heads heads, not n_heads."""


def count_parameters(config):
    C, D = config["d_model"], config["head_dim"]
    attention = 2 * C * D * (2 * config["n_heads"])
    block = attention + 3 * C * config["d_ff"] + 2 * C
    return config["vocab_size"] * C + config["n_layers"] * block + C
