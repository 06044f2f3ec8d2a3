def generate(model, prompt, n_new, end):
    if n_new == 0:
        return []
    token = model.feed(list(prompt)).argmax().item()
    out = [token]
    for _ in range(n_new - 1):
        if token == end:
            return out
        token = model.feed([token]).argmax().item()
        out.append(token)
    return out
