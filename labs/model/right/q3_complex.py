import torch


def rotate(x, theta):
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half].contiguous(), x[..., half:].contiguous())
    places = torch.arange(x.shape[-2]).float()
    speeds = torch.tensor([theta ** (-2 * i / x.shape[-1]) for i in range(half)])
    z = z * torch.exp(1j * torch.outer(places, speeds))
    return torch.cat((z.real, z.imag), -1)
