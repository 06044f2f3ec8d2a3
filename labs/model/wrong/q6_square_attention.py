"""The projections lead to heads of head_dim numbers, which need not be d_model in all."""


def count_parameters(config):
    C, D = config["d_model"], config["head_dim"]
    attention = 4 * C * C
    block = attention + 3 * C * config["d_ff"] + 2 * C
    return config["vocab_size"] * C + config["n_layers"] * block + C
