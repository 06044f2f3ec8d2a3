"""silu goes on the product with gate, not on the one with up."""

import torch


def swiglu(x, gate, up, down):
    silu = torch.nn.functional.silu
    return ((x @ gate.T) * silu(x @ up.T)) @ down.T
