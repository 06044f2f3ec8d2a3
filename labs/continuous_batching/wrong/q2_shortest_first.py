"""The oldest comes first, however many tokens it has pending."""


def plan_step(pending, budget):
    plan = []
    for name, tokens in sorted(pending, key=lambda pair: pair[1]):
        n = min(tokens, budget)
        if n:
            plan.append((name, n))
            budget -= n
    return plan
