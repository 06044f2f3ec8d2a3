"""Prompts are padded to the longest of their batch, and the padding is computed, too."""


def static_batching(prompts, answers, batch_size):
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += sum(prompts[batch]) + len(prompts[batch]) * (max(answers[batch]) - 1)
    return computed, sum(prompts) + sum(answers) - len(answers)
