import torch


def grouped_attention(q, k, v, mask):
    share, left = divmod(q.shape[1], k.shape[1])
    if left:
        raise ValueError("heads")
    out = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // share].mT / q.shape[-1] ** 0.5
        out.append(scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v[:, head // share])
    return torch.stack(out, 1)
