"""You put requests of like length together; static batching takes them in the order in which they
came.
"""


def static_batching(prompts, answers, batch_size):
    computed = 0
    prompts, answers = sorted(prompts), sorted(answers)
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += len(prompts[batch]) * (max(prompts[batch]) + max(answers[batch]) - 1)
    return computed, sum(prompts) + sum(answers) - len(answers)
