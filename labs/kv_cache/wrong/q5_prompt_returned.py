"""The list should hold the new tokens alone, without the prompt."""


def generate(model, prompt, n_new, end):
    out, new = [], list(prompt)
    while len(out) < n_new:
        new = [int(model.feed(new).argmax())]
        out += new
        if new == [end]:
            break
    return list(prompt) + out
