def plan_step(pending, budget):
    out, used = [], 0
    for name, tokens in pending:
        give = max(0, min(tokens, budget - used))
        used += give
        out.append((name, give))
    return [(name, n) for name, n in out if n > 0]
