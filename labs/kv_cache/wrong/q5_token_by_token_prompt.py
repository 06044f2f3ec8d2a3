"""The prompt is fed one token at a time; it should go in at once, in one call."""


def generate(model, prompt, n_new, end):
    if not n_new:
        return []
    for token in prompt:
        scores = model.feed([token])
    out = [int(scores.argmax())]
    while len(out) < n_new and out[-1] != end:
        out.append(int(model.feed([out[-1]]).argmax()))
    return out
