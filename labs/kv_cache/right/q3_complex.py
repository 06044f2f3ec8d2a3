import torch


def rotate(x, start):
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half].contiguous(), x[..., half:].contiguous())
    places = torch.arange(start, start + x.shape[2], dtype=torch.float32)
    speed = torch.tensor([10000.0 ** (-2 * i / x.shape[-1]) for i in range(half)])
    z = z * torch.polar(torch.ones(x.shape[2], half), torch.outer(places, speed))
    return torch.cat((z.real, z.imag), -1)
