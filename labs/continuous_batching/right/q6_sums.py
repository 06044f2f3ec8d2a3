def bounds(requests, budget):
    alone = [(p + m + budget - 1) // budget + m for p, m in requests]
    return [sum(alone[: i + 1]) for i in range(len(alone))]
