"""What counts: random sizes, all different, and the corners of each contract."""

from teachgrade.scenario import hidden


@hidden("q1", times=5)
def any_head(s, draw):
    n_kv, group = draw.integer(1, 6), draw.integer(1, 6)
    s.see("the head that is read", s.shared_head(draw.integer(0, n_kv * group - 1), n_kv * group, n_kv))


@hidden("q1", times=1)
def heads_that_there_are_not(s, draw):
    for head, n_heads, n_kv_heads in ((8, 8, 2), (-1, 8, 2), (0, 8, 3), (0, 2, 4)):
        s.see(f"head {head} of {n_heads} over {n_kv_heads}", s.shared_head(head, n_heads, n_kv_heads))


@hidden("q2", times=6)
def any_groups(s, draw):
    B, T, D = draw.primes(3, 7)
    Hkv, G, S = draw.integer(1, 4), draw.integer(1, 4), T + draw.integer(0, 5)
    s.see(
        "attention",
        s.grouped_attention(
            draw.normal(B, Hkv * G, T, D), draw.normal(B, Hkv, S, D), draw.normal(B, Hkv, S, D)
        ),
    )


@hidden("q3", times=5)
def any_weight(s, draw):
    D, C = draw.primes(2, 7)
    Hkv, G = draw.integer(1, 4), draw.integer(1, 4)
    s.see("the pooled weight", s.pool_heads(draw.normal(Hkv * G * D, C), Hkv * G, Hkv))


@hidden("q4", times=5)
def any_spread(s, draw):
    D, C = draw.primes(2, 7)
    Hkv, G = draw.integer(1, 4), draw.integer(1, 4)
    s.see("the spread weight", s.spread_heads(draw.normal(Hkv * D, C), Hkv * G, Hkv))


@hidden("q5", times=5)
def any_model(s, draw):
    Hkv = draw.integer(1, 16)
    s.see(
        "bytes a token",
        s.kv_bytes_per_token(draw.integer(2, 90), Hkv, draw.integer(16, 256), draw.choice([1, 2, 4])),
    )
    s.see("FLOPs per byte", s.attention_intensity(Hkv * draw.integer(1, 16), Hkv, draw.choice([1, 2, 4])))


@hidden("q6", times=8)
def any_server(s, draw):
    n_heads, L, D, width, tokens = (
        draw.choice([6, 8, 12, 16, 20]),
        draw.integer(2, 40),
        draw.integer(16, 128),
        2,
        draw.integer(100, 9000),
    )
    one = 2 * L * D * width * tokens
    s.see(
        "heads that fit",
        s.most_kv_heads(
            n_heads, L, D, width, tokens, one * draw.integer(0, n_heads + 1) + draw.integer(0, one - 1)
        ),
    )


@hidden("q6", times=1)
def just_fits(s, draw):
    s.see("memory for exactly four", s.most_kv_heads(8, 1, 2, 1, 10, 160))
    s.see("a byte less", s.most_kv_heads(8, 1, 2, 1, 10, 159))
    s.see("exactly one", s.most_kv_heads(8, 1, 2, 1, 10, 40))
    s.see("less than one", s.most_kv_heads(8, 1, 2, 1, 10, 39))
    s.see("three of twelve", s.most_kv_heads(12, 1, 2, 1, 10, 120))
