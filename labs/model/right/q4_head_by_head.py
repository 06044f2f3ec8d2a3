import torch


def attention_layer(x, weights, n_heads, n_kv_heads, theta):
    T, D = x.shape[1], len(weights["q"]) // n_heads
    mask = torch.full((T, T), float("-inf")).triu(1)
    outs = []
    for head in range(n_heads):
        shared = head // (n_heads // n_kv_heads)
        q = x @ weights["q"][head * D : (head + 1) * D].T
        k = x @ weights["k"][shared * D : (shared + 1) * D].T
        v = x @ weights["v"][shared * D : (shared + 1) * D].T
        q, k = rotate(q[:, None], theta)[:, 0], rotate(k[:, None], theta)[:, 0]
        outs.append((q @ k.mT / D**0.5 + mask).softmax(-1) @ v)
    return torch.cat(outs, -1) @ weights["o"].T
