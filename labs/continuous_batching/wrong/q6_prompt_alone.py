"""After a preemption the tokens of the answer are computed again, too: it is p + m over the budget."""


def bounds(requests, budget):
    total, out = 0, []
    for p, m in requests:
        total += -(-p // budget) + m
        out.append(total)
    return out
