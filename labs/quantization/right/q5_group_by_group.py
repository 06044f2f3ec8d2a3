import torch


def quantize_groups(w, bits, group_size):
    parts = w.split(group_size, 1)
    if parts[-1].shape[1] != group_size:
        raise ValueError("groups")
    made = [quantize(part, bits) for part in parts]
    return torch.cat([codes for codes, _ in made], 1), torch.cat([scales for _, scales in made], 1)


def bits_per_weight(bits, group_size, scale_bits):
    return float(bits) + scale_bits / float(group_size)
