"""The MLP reads what attention has left, not the block's input: the two come one after the other."""


def forward(tokens, weights, config):
    x = weights["embedding"][tokens]
    for block in weights["blocks"]:
        before = x
        normed = rms_norm(x, block["attention_norm"], config["eps"])
        x = x + attention_layer(
            normed, block["attention"], config["n_heads"], config["n_kv_heads"], config["theta"]
        )
        normed = rms_norm(before, block["mlp_norm"], config["eps"])
        x = x + swiglu(normed, block["gate"], block["up"], block["down"])
    return rms_norm(x, weights["norm"], config["eps"]) @ weights["embedding"].T
