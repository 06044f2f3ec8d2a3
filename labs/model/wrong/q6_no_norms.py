"""Norms have weights, too: two in each block, and one at the end."""


def count_parameters(config):
    C, D = config["d_model"], config["head_dim"]
    attention = 2 * C * D * (config["n_heads"] + config["n_kv_heads"])
    block = attention + 3 * C * config["d_ff"]
    return config["vocab_size"] * C + config["n_layers"] * block
