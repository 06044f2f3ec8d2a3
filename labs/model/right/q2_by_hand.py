import torch


def swiglu(x, gate, up, down):
    z = torch.nn.functional.linear(x, gate)
    z = z / (1 + torch.exp(-z))
    return torch.nn.functional.linear(z * torch.nn.functional.linear(x, up), down)
