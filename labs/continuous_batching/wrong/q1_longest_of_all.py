"""Each batch is padded to its own longest, not to the longest of all."""


def static_batching(prompts, answers, batch_size):
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += len(prompts[batch]) * (max(prompts) + max(answers) - 1)
    return computed, sum(prompts) + sum(answers) - len(answers)
