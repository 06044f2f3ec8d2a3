def softmax(x):
    x = x - x.max(dim=-1, keepdim=True).values
    return (x - x.exp().sum(-1, keepdim=True).log()).exp()
