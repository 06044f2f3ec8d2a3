"""silu goes on the gate alone, before it is multiplied."""

import torch


def swiglu(x, gate, up, down):
    silu = torch.nn.functional.silu
    return silu((x @ gate.T) * (x @ up.T)) @ down.T
