"""The MLP has three matrices: gate, up and down."""


def count_parameters(config):
    C, D = config["d_model"], config["head_dim"]
    attention = 2 * C * D * (config["n_heads"] + config["n_kv_heads"])
    block = attention + 2 * C * config["d_ff"] + 2 * C
    return config["vocab_size"] * C + config["n_layers"] * block + C
