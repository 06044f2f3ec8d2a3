"""The token that ends the text should be the last of the list."""


def generate(model, prompt, n_new, end):
    out, new = [], list(prompt)
    while len(out) < n_new:
        new = [int(model.feed(new).argmax())]
        if new == [end]:
            break
        out += new
    return out
