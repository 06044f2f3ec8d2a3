def static_batching(prompts, answers, batch_size):
    computed = wanted = 0
    left = list(zip(prompts, answers))
    while left:
        batch, left = left[:batch_size], left[batch_size:]
        longest = max(p for p, _ in batch)
        steps = max(a for _, a in batch) - 1
        for p, a in batch:
            computed += longest + steps
            wanted += p + a - 1
    return computed, wanted
