"""Heads must go in front before blocks and slots are joined: as it is, tokens of different heads stand
behind one another.
"""

import torch


def gather(pool, blocks, length):
    N, H, P, D = pool.shape
    return pool[blocks].reshape(H, -1, D)[:, :length]
