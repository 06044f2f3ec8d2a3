"""The mask is not used."""


def grouped_attention(q, k, v, mask):
    if q.shape[1] % k.shape[1]:
        raise ValueError
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
