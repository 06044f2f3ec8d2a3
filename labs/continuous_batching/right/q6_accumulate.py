import itertools
import math


def bounds(requests, budget):
    return list(itertools.accumulate(math.ceil((p + m) / budget) + m for p, m in requests))
