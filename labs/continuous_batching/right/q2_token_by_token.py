def plan_step(pending, budget):
    plan = {}
    for name, tokens in pending:
        while tokens > 0 and budget > 0:
            plan[name] = plan.get(name, 0) + 1
            tokens, budget = tokens - 1, budget - 1
    return list(plan.items())
