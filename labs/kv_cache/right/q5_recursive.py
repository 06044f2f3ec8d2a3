def generate(model, prompt, n_new, end):
    if not n_new:
        return []
    scores = model.feed(prompt).tolist()
    token = scores.index(max(scores))
    return [token] + ([] if token == end else generate(model, [token], n_new - 1, end))
