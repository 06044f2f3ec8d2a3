"""Your softmax runs over the queries; the weights of each query should add up to 1 over the keys."""

import torch


def attention(q, k, v, mask):
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-2).nan_to_num() @ v
