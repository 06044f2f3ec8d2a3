"""The blocks are in the order of their numbers; they should be in that of the table."""

import torch


def gather(pool, blocks, length):
    return pool[sorted(blocks)].transpose(0, 1).flatten(1, 2)[:, :length]
