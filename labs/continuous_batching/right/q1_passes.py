def static_batching(prompts, answers, batch_size):
    computed = 0
    for i in range(0, len(prompts), batch_size):
        p, a = prompts[i : i + batch_size], answers[i : i + batch_size]
        rows = len(p)
        computed += rows * max(p)
        for _ in range(1, max(a)):
            computed += rows
    return (computed, sum(p + a - 1 for p, a in zip(prompts, answers)))
