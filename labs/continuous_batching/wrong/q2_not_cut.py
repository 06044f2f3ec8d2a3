"""The last one gets more than is left of the budget: cut it."""


def plan_step(pending, budget):
    plan = []
    for name, tokens in pending:
        if tokens and budget > 0:
            plan.append((name, tokens))
            budget -= tokens
    return plan
