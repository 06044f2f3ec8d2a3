"""What counts: random sizes, all different, and the corners of each contract."""

import torch

from teachgrade.scenario import hidden


def rows(draw, N, C, bits):
    """(N, C), no number near the middle between two codes, where the last bit of a scale would decide."""
    most = 2 ** (bits - 1) - 1
    codes = draw.integers(-most + 1, most - 1, N, C) + draw.integers(-40, 40, N, C) / 100
    codes[torch.arange(N), draw.integers(0, C - 1, N)] = float(draw.choice([-most, most]))
    return codes * draw.normal(N, 1).exp()


@hidden("q1", times=4)
def any_matrix(s, draw):
    N, C = draw.primes(2)
    s.see("the scales", s.row_scales(draw.normal(N, C) * draw.normal(N, 1).exp(), draw.choice([8, 4, 3])))


@hidden("q1", times=2)
def rows_of_zeros(s, draw):
    w = draw.normal(3, 5)
    w[1] = 0
    s.see("the scales where a row is all zeros", s.row_scales(w, 8))


@hidden("q2", times=4)
def any_codes(s, draw):
    N, C = draw.primes(2)
    bits = draw.choice([8, 4, 3])
    s.see("codes and scales", s.quantize(rows(draw, N, C, bits), bits))


@hidden("q2", times=3)
def back(s, draw):
    N, C = draw.primes(2)
    codes = draw.integers(-127, 127, N, C).to(torch.int8)
    s.see("what codes stand for", s.dequantize(codes, draw.normal(N, 1).abs() + 0.01))


@hidden("q2", times=2)
def the_negative_end(s, draw):
    w = torch.tensor([[-12.7, 3.14, 0.02, -5.03], [12.7, -3.14, 0.02, 5.03]])
    s.see("codes of the largest weights", s.quantize(w, 8))
    s.see("codes of zeros", s.quantize(torch.zeros(2, 3), 8))


@hidden("q3", times=3)
def any_scales(s, draw):
    s.see("the worst error", s.worst_error(draw.normal(draw.integer(2, 7), 1).abs()))


@hidden("q4", times=4)
def any_nibbles(s, draw):
    codes = draw.integers(-8, 7, draw.integer(1, 5), 2 * draw.integer(1, 6)).to(torch.int8)
    s.see("packed", s.pack(codes))
    s.see("packed and unpacked", s.unpack(s.pack(codes)))


@hidden("q4", times=2)
def any_bytes(s, draw):
    s.see("unpacked", s.unpack(draw.integers(0, 255, 3, 5).to(torch.uint8)))


@hidden("q4", times=1)
def an_odd_row(s, draw):
    s.see("three columns", s.pack(torch.zeros(2, 3, dtype=torch.int8)))


@hidden("q5", times=4)
def any_groups(s, draw):
    size, n, N, bits = draw.choice([2, 4, 8]), draw.integer(2, 5), draw.integer(2, 5), draw.choice([8, 4])
    s.see("codes and scales", s.quantize_groups(rows(draw, N * n, size, bits).reshape(N, -1), bits, size))


@hidden("q5", times=2)
def groups_that_do_not_fill(s, draw):
    s.see("groups of 4 in rows of 6", s.quantize_groups(draw.normal(2, 6), 4, 4))
    w = rows(draw, 4, 3, 4).reshape(2, 6)
    w[0, :3] = 0
    s.see("a group of zeros", s.quantize_groups(w, 4, 3))
    s.see("one group", s.quantize_groups(rows(draw, 2, 6, 4), 4, 6))


@hidden("q5", times=2)
def bits(s, draw):
    s.see(
        "bits of a weight",
        s.bits_per_weight(draw.choice([2, 3, 4, 8]), draw.choice([16, 32, 128]), draw.choice([16, 32])),
    )


@hidden("q6", times=4)
def any_product(s, draw):
    T, N, C = draw.primes(3)
    x, codes = rows(draw, T, C, 8), draw.integers(-127, 127, N, C).to(torch.int8)
    s.see("the product", s.w8a8(x, codes, draw.normal(N, 1).abs() + 0.01))


@hidden("q6", times=1)
def sums_too_large_for_small_integers(s, draw):
    x = torch.full((2, 64), 3.0)
    s.see(
        "a sum of many large products",
        s.w8a8(x, torch.full((3, 64), 127, dtype=torch.int8), torch.ones(3, 1)),
    )


@hidden("q6", times=2)
def an_outlier(s, draw):
    x = rows(draw, 3, 16, 8)
    x[1] = draw.integers(-2, 2, 16) * 2.0
    x[1, 5] = 254
    s.see(
        "with one large activation",
        s.w8a8(x, draw.integers(-127, 127, 5, 16).to(torch.int8), torch.ones(5, 1)),
    )
    s.see(
        "a token of zeros",
        s.w8a8(torch.zeros(1, 16), draw.integers(-9, 9, 5, 16).to(torch.int8), torch.ones(5, 1)),
    )
