"""A step that is full in part is a step, too: round up."""


def bounds(requests, budget):
    total, out = 0, []
    for p, m in requests:
        total += (p + m) // budget + m
        out.append(total)
    return out
