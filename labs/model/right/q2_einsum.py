import torch


def swiglu(x, gate, up, down):
    z, u = torch.einsum("...c,fc->...f", x, gate), torch.einsum("...c,fc->...f", x, up)
    return torch.einsum("...f,cf->...c", z * z.sigmoid() * u, down)
