"""A request whose tokens do not all fit is cut; yours gets nothing."""


def plan_step(pending, budget):
    plan = []
    for name, tokens in pending:
        if 0 < tokens <= budget:
            plan.append((name, tokens))
            budget -= tokens
    return plan
