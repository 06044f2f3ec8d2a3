"""Who gets nothing is not in the plan."""


def plan_step(pending, budget):
    plan = []
    for name, tokens in pending:
        n = min(tokens, budget)
        plan.append((name, n))
        budget -= n
    return plan
