"""Moved by four places in the wrong direction, the second code of each two is lost."""

import torch


def pack(codes):
    if codes.shape[-1] % 2:
        raise ValueError("odd")
    nibbles = (codes + 8).to(torch.uint8)
    return nibbles[:, ::2] | nibbles[:, 1::2] >> 4


def unpack(packed):
    nibbles = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
    return nibbles.to(torch.int8) - 8
