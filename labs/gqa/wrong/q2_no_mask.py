"""Tokens see later ones."""

import torch


def grouped_attention(q, k, v):
    (B, H, T, D), (Hkv, S) = q.shape, k.shape[1:3]
    q = q.reshape(B, Hkv, H // Hkv * T, D)
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.transpose(-2, -1) / D**0.5).reshape(B, H, T, S)
    probs = scores.softmax(-1)
    return (probs.reshape(B, Hkv, -1, S) @ v).reshape(B, H, T, D)
