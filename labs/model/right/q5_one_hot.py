import torch


def forward(tokens, weights, config):
    E = weights["embedding"]
    x = torch.nn.functional.one_hot(tokens, len(E)).to(E.dtype) @ E
    for b in weights["blocks"]:
        a = attention_layer(
            rms_norm(x, b["attention_norm"], config["eps"]),
            b["attention"],
            config["n_heads"],
            config["n_kv_heads"],
            config["theta"],
        )
        x = (x + a) + swiglu(rms_norm(x + a, b["mlp_norm"], config["eps"]), b["gate"], b["up"], b["down"])
    return torch.nn.functional.linear(rms_norm(x, weights["norm"], config["eps"]), E)
