def count_parameters(config):
    C = config["d_model"]
    total = config["vocab_size"] * C
    for _ in range(config["n_layers"]):
        total += 2 * config["n_heads"] * config["head_dim"] * C
        total += 2 * config["n_kv_heads"] * config["head_dim"] * C
        total += 3 * config["d_ff"] * C + C + C
    return total + C
