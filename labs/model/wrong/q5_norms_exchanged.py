"""The two norms of a block are exchanged."""


def forward(tokens, weights, config):
    x = weights["embedding"][tokens]
    for block in weights["blocks"]:
        normed = rms_norm(x, block["mlp_norm"], config["eps"])
        x = x + attention_layer(
            normed, block["attention"], config["n_heads"], config["n_kv_heads"], config["theta"]
        )
        normed = rms_norm(x, block["attention_norm"], config["eps"])
        x = x + swiglu(normed, block["gate"], block["up"], block["down"])
    return rms_norm(x, weights["norm"], config["eps"]) @ weights["embedding"].T
