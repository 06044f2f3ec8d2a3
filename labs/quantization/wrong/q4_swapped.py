"""The two halves of a byte are swapped: the first of two codes goes into the low four bits."""

import torch


def pack(codes):
    if codes.shape[-1] % 2:
        raise ValueError("odd")
    nibbles = (codes + 8).to(torch.uint8)
    return nibbles[:, ::2] << 4 | nibbles[:, 1::2]


def unpack(packed):
    nibbles = torch.stack((packed >> 4, packed & 15), -1).flatten(-2)
    return nibbles.to(torch.int8) - 8
