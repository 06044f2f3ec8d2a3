"""The scores are not divided by the square root of D."""

import torch


def attention(q, k, v, mask):
    scores = (q @ k.transpose(-2, -1)).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).nan_to_num() @ v
