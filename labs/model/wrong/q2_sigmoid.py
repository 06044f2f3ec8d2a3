"""silu(z) is z times sigmoid(z), not sigmoid(z) alone."""

import torch


def swiglu(x, gate, up, down):
    silu = torch.nn.functional.silu
    return (torch.sigmoid(x @ gate.T) * (x @ up.T)) @ down.T
