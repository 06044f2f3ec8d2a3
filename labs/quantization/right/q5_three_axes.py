import torch


def quantize_groups(w, bits, group_size):
    if w.shape[1] % group_size != 0:
        raise ValueError("groups")
    groups = w.unflatten(1, (-1, group_size))
    scales = groups.abs().amax(-1) / (2 ** (bits - 1) - 1)
    scales[scales == 0] = 1
    return torch.round(groups / scales[..., None]).to(torch.int8).flatten(1), scales


def bits_per_weight(bits, group_size, scale_bits):
    return (bits * group_size + scale_bits) / group_size
