"""After the token `end` nothing more should be written."""


def generate(model, prompt, n_new, end):
    out, new = [], list(prompt)
    while len(out) < n_new:
        new = [int(model.feed(new).argmax())]
        out += new
    return out
