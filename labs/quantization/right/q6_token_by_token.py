import torch


def w8a8(x, codes, scales):
    out = []
    for token in x:
        x_codes, step = quantize(token[None], 8)
        sums = (x_codes.int() * codes.int()).sum(1)
        out.append(sums * step[0] * scales[:, 0])
    return torch.stack(out)
