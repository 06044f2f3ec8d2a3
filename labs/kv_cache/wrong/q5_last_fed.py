"""The last token is fed, too, and nobody asks what comes after it."""


def generate(model, prompt, n_new, end):
    out, scores = [], None
    if n_new:
        scores = model.feed(list(prompt))
    while len(out) < n_new:
        out.append(int(scores.argmax()))
        scores = model.feed([out[-1]])
        if out[-1] == end:
            break
    return out
