"""A byte holds two neighbouring codes; you pair the first half of a row with the second."""

import torch


def pack(codes):
    if codes.shape[-1] % 2:
        raise ValueError("odd")
    nibbles = (codes + 8).to(torch.uint8)
    return nibbles[:, : nibbles.shape[1] // 2] | nibbles[:, nibbles.shape[1] // 2 :] << 4


def unpack(packed):
    nibbles = torch.cat((packed & 15, packed >> 4), -1)
    return nibbles.to(torch.int8) - 8
