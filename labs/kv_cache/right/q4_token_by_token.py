import torch


def attend_cached(q, k, v, cache):
    out = []
    for t in range(q.shape[2]):
        keys, values = cache.append(k[:, :, t : t + 1], v[:, :, t : t + 1])
        weights = (q[:, :, t : t + 1] @ keys.mT / q.shape[-1] ** 0.5).softmax(-1)
        out.append(weights @ values)
    return torch.cat(out, 2)
