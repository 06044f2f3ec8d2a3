"""A row whose answer has ended goes on being computed until the longest of its batch is done."""


def static_batching(prompts, answers, batch_size):
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += len(prompts[batch]) * max(prompts[batch]) + sum(answers[batch]) - len(answers[batch])
    return computed, sum(prompts) + sum(answers) - len(answers)
