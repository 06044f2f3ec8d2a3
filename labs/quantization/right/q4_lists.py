import torch


def pack(codes):
    if codes.size(1) & 1:
        raise ValueError("odd")
    rows = codes.tolist()
    return torch.tensor(
        [[(a + 8) | (b + 8) << 4 for a, b in zip(r[::2], r[1::2])] for r in rows], dtype=torch.uint8
    )


def unpack(packed):
    rows = packed.tolist()
    return torch.tensor([[v - 8 for b in r for v in (b & 15, b >> 4)] for r in rows], dtype=torch.int8)
