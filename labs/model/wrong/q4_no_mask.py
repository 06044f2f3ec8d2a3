"""Tokens see later ones."""

import torch


def attention_layer(x, weights, n_heads, n_kv_heads, theta):
    q = (x @ weights["q"].T).unflatten(-1, (n_heads, -1)).transpose(1, 2)
    k = (x @ weights["k"].T).unflatten(-1, (n_kv_heads, -1)).transpose(1, 2)
    v = (x @ weights["v"].T).unflatten(-1, (n_kv_heads, -1)).transpose(1, 2)
    q, k = rotate(q, theta), rotate(k, theta)
    k, v = (y.repeat_interleave(n_heads // n_kv_heads, 1) for y in (k, v))
    T = x.shape[1]
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ weights["o"].T
