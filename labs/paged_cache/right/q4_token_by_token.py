import torch


def gather(pool, blocks, length):
    P = pool.shape[2]
    return torch.stack([pool[blocks[p // P], :, p % P] for p in range(length)], 1)
