import math

import torch


def scaled_scores(q, k):
    return torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.size(-1))
