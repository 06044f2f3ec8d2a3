"""Each token of the answer takes a step of its own."""


def bounds(requests, budget):
    total, out = 0, []
    for p, m in requests:
        total += -(-(p + m) // budget)
        out.append(total)
    return out
