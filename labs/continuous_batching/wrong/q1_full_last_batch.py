"""The last batch may be smaller; you count rows that are not there."""


def static_batching(prompts, answers, batch_size):
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += batch_size * (max(prompts[batch]) + max(answers[batch]) - 1)
    return computed, sum(prompts) + sum(answers) - len(answers)
