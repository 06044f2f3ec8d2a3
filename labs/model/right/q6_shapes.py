import math


def count_parameters(config):
    C, F, D = config["d_model"], config["d_ff"], config["head_dim"]
    H, Hkv = config["n_heads"] * D, config["n_kv_heads"] * D
    block = [(H, C), (Hkv, C), (Hkv, C), (C, H), (F, C), (F, C), (C, F), (C,), (C,)]
    shapes = block * config["n_layers"] + [(config["vocab_size"], C), (C,)]
    return sum(math.prod(shape) for shape in shapes)
