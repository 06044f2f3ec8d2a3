"""The first token of an answer comes from the prefill: a pass of decoding fewer."""


def static_batching(prompts, answers, batch_size):
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += len(prompts[batch]) * (max(prompts[batch]) + max(answers[batch]))
    return computed, sum(prompts) + sum(answers)
