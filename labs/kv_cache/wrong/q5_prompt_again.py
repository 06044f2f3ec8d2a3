"""Every step feeds the whole text again; the model remembers it. After the prompt, feed only the new
token.
"""


def generate(model, prompt, n_new, end):
    tokens = list(prompt)
    while len(tokens) < len(prompt) + n_new:
        tokens.append(int(model.feed(tokens).argmax()))
        if tokens[-1] == end:
            break
    return tokens[len(prompt) :]
