"""Steps are whole numbers: round up for each request, and give integers."""


def bounds(requests, budget):
    total, out = 0, []
    for p, m in requests:
        total += (p + m) / budget + m
        out.append(total)
    return out
