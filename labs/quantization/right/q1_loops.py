import torch


def row_scales(w, bits):
    most = float(2 ** (bits - 1) - 1)
    return torch.tensor([[max(abs(v) for v in row) / most or 1.0] for row in w.tolist()])
