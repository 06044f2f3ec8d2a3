"""That is the bound of each alone; whoever came later waits for those before, too."""


def bounds(requests, budget):
    total, out = 0, []
    for p, m in requests:
        total = -(-(p + m) // budget) + m
        out.append(total)
    return out
