import torch


def attention_layer(x, weights, n_heads, n_kv_heads, theta):
    B, T, _ = x.shape
    D = weights["q"].shape[0] // n_heads

    def heads(name, n):
        return torch.nn.functional.linear(x, weights[name]).view(B, T, n, D).permute(0, 2, 1, 3)

    q, k = rotate(heads("q", n_heads), theta), rotate(heads("k", n_kv_heads), theta)
    k, v = (y.repeat_interleave(n_heads // n_kv_heads, dim=1) for y in (k, heads("v", n_kv_heads)))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.permute(0, 2, 1, 3).reshape(B, T, -1) @ weights["o"].T
