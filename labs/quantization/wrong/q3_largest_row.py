"""Each row has an error of its own; you give the largest of all to every row."""

import torch


def worst_error(scales):
    return torch.full_like(scales, float(scales.max()) / 2)
