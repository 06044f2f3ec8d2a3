def forward(tokens, weights, config):
    def norm(x, weight):
        return rms_norm(x, weight, config["eps"])

    heads = config["n_heads"], config["n_kv_heads"], config["theta"]
    x = weights["embedding"][tokens]
    for b in weights["blocks"]:
        x = x + attention_layer(norm(x, b["attention_norm"]), b["attention"], *heads)
        x = x + swiglu(norm(x, b["mlp_norm"]), b["gate"], b["up"], b["down"])
    return norm(x, weights["norm"]) @ weights["embedding"].mT
