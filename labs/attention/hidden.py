"""What counts: random sizes, all different, and the corners of each contract."""

import torch

from teachgrade.scenario import hidden


@hidden("q1", times=4)
def any_shape(s, draw):
    s.see("softmax of normal numbers", s.softmax(draw.normal(*draw.primes(3), scale=3)))


@hidden("q1", times=2)
def very_large_and_very_small(s, draw):
    x = draw.normal(5, 7)
    s.see("softmax of numbers near 1e4", s.softmax(x + 1e4))
    s.see("softmax of numbers near -1e4", s.softmax(x - 1e4))
    s.see("softmax in float64", s.softmax(draw.normal(3, 5, dtype=torch.float64)))


@hidden("q1", times=2)
def rows_far_apart(s, draw):
    x = draw.normal(3, 7) + torch.tensor([[0.0], [1000.0], [-1000.0]])
    s.see("softmax where one row is far below another", s.softmax(x))


@hidden("q2", times=4)
def random_scores(s, draw):
    B, H, T, S = draw.primes(4, 7)
    s.see("the scores", s.scaled_scores(draw.normal(B, H, T, 11), draw.normal(B, H, S, 11)))


@hidden("q2", times=1)
def double_scores(s, draw):
    q, k = draw.normal(2, 1, 3, 7, dtype=torch.float64), draw.normal(2, 1, 5, 7, dtype=torch.float64)
    s.see("the scores in float64", s.scaled_scores(q, k))


@hidden("q3", times=6)
def random_masks(s, draw):
    S = draw.integer(2, 17)
    s.see("the mask", s.causal_mask(draw.integer(1, S), S))


@hidden("q3", times=1)
def first_and_last(s, draw):
    for T, S in ((1, 1), (1, 5), (4, 5), (5, 5)):
        s.see(f"the mask of {T} and {S}", s.causal_mask(T, S))


@hidden("q3", times=1)
def refused(s, draw):
    s.see("more queries than keys", s.causal_mask(4, 3))
    s.see("no queries", s.causal_mask(0, 3))


def inputs(draw, shared=1, dtype=torch.float32):
    B, Hkv, T, S = draw.primes(4, 7)
    D = 11
    q = draw.normal(B, Hkv * shared, T, D, dtype=dtype)
    return q, draw.normal(B, Hkv, S, D, dtype=dtype), draw.normal(B, Hkv, S, D, dtype=dtype)


@hidden("q4", times=4)
def random_mask(s, draw):
    q, k, v = inputs(draw)
    mask = draw.integers(0, 2, q.shape[0], 1, q.shape[2], k.shape[2]) > 0
    mask[..., 0] = True
    s.see("attention", s.attention(q, k, v, mask))


@hidden("q4", times=2)
def nobody_to_see(s, draw):
    q, k, v = inputs(draw)
    mask = draw.integers(0, 1, q.shape[2], k.shape[2]) > 0
    mask[draw.integer(0, q.shape[2] - 1)] = False
    s.see("attention where a query may see nothing", s.attention(q, k, v, mask))


@hidden("q4", times=2)
def high_scores(s, draw):
    q, k, v = inputs(draw, dtype=torch.float64)
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    mask[:, -1] = False
    k[:, :, -1] *= 1e6
    s.see("attention beside a masked key of very high score", s.attention(q * 50, k, v, mask))
    s.see("attention with very large scores", s.attention(q * 5000, k, v, mask))


@hidden("q5", times=4)
def shared_heads(s, draw):
    q, k, v = inputs(draw, shared=draw.integer(2, 4))
    T, S = q.shape[2], k.shape[2]
    mask = draw.integers(0, 1, T, S) > 0
    mask[:, 0] = True
    s.see("attention", s.grouped_attention(q, k, v, mask))


@hidden("q5", times=1)
def heads_that_do_not_divide(s, draw):
    mask = torch.ones(2, 5, dtype=torch.bool)
    s.see(
        "3 query heads over 2",
        s.grouped_attention(draw.normal(1, 3, 2, 7), *[draw.normal(1, 2, 5, 7)] * 2, mask),
    )


@hidden("q5", times=1)
def each_its_own(s, draw):
    q, k, v = inputs(draw, dtype=torch.float64)
    mask = torch.ones(q.shape[2], k.shape[2]) > 0
    s.see("as many query heads as there are", s.grouped_attention(q, k, v, mask))
    s.see("very large scores", s.grouped_attention(q * 5000, k, v, mask))


@hidden("q6", times=5)
def blocks_of_any_size(s, draw):
    T, D = draw.primes(2)
    online = s.OnlineAttention(draw.normal(T, D))
    for number in range(draw.integer(1, 5)):
        n = draw.integer(1, 6)
        online.add(draw.normal(n, D, scale=1 + 3 * number), draw.normal(n, D))
        if draw.integer(0, 1):
            s.see(f"the result after {number + 1} blocks", online.result())
    s.see("the result at the end", online.result())


@hidden("q6", times=2)
def highest_first_and_last(s, draw):
    for label, factors in (("first", (30, 1, 1)), ("last", (1, 1, 30))):
        online = s.OnlineAttention(draw.normal(3, 5))
        for factor in factors:
            online.add(draw.normal(4, 5, scale=factor), draw.normal(4, 5))
        s.see(f"the result with the highest scores {label}", online.result())


@hidden("q6", times=2)
def doubles(s, draw):
    one = {"dtype": torch.float64}
    online = s.OnlineAttention(draw.normal(3, 5, **one))
    for _ in range(3):
        online.add(draw.normal(4, 5, scale=500, **one), draw.normal(4, 5, **one))
    s.see("the result in float64, of very large scores", online.result())


@hidden("q6", times=1)
def two_at_a_time(s, draw):
    one, other = s.OnlineAttention(draw.normal(2, 3)), s.OnlineAttention(draw.normal(5, 3))
    for online in (one, other, one):
        online.add(draw.normal(4, 3), draw.normal(4, 3))
    s.see("one", one.result())
    s.see("another at the same time", other.result())
