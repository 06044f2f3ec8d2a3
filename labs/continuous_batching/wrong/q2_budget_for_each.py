"""The budget is for the step, not for each request."""


def plan_step(pending, budget):
    return [(name, min(tokens, budget)) for name, tokens in pending if tokens]
