"""What counts: random shapes, all different, and the corners of each contract."""

from teachgrade.scenario import hidden

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@hidden("q1", times=4)
def any_norm(s, draw):
    shape = draw.primes(draw.integer(1, 3))
    x = draw.normal(*shape, scale=draw.choice([0.01, 1.0, 30.0])) + 0.5
    s.see("the norm", s.rms_norm(x, draw.normal(shape[-1]), draw.choice([1e-5, 1e-2])))


@hidden("q1", times=1)
def a_token_of_zeros(s, draw):
    x = draw.normal(3, 5)
    x[1] = 0
    s.see("the norm, with a token of zeros", s.rms_norm(x, draw.normal(5), 1e-5))


@hidden("q2", times=4)
def any_mlp(s, draw):
    T, C, F = draw.primes(3)
    s.see(
        "the MLP",
        s.swiglu(draw.normal(2, T, C), draw.normal(F, C), draw.normal(F, C), draw.normal(C, F)),
        **CLOSE,
    )


@hidden("q3", times=4)
def any_rotation(s, draw):
    B, H, T = draw.primes(3, 7)
    s.see(
        "the rotated tensor",
        s.rotate(draw.normal(B, H, T, 2 * draw.integer(1, 6)), draw.choice([50.0, 10000.0])),
        **CLOSE,
    )


def layer(draw, C, H, Hkv, D):
    shapes = {"q": (H * D, C), "k": (Hkv * D, C), "v": (Hkv * D, C), "o": (C, H * D)}
    return {name: draw.normal(*shape, scale=C**-0.5) for name, shape in shapes.items()}


@hidden("q4", times=5)
def any_layer(s, draw):
    B, T, C = draw.primes(3, 7)
    Hkv, G, D = draw.integer(1, 3), draw.integer(1, 3), 2 * draw.integer(1, 3)
    weights = layer(draw, C, Hkv * G, Hkv, D)
    s.see(
        "the layer",
        s.attention_layer(draw.normal(B, T, C), weights, Hkv * G, Hkv, draw.choice([50.0, 10000.0])),
        **CLOSE,
    )


@hidden("q4", times=1)
def one_token(s, draw):
    x, weights = draw.normal(2, 1, 5), layer(draw, 5, 2, 1, 4)
    s.see("a single token, which sees itself alone", s.attention_layer(x, weights, 2, 1, 100.0), **CLOSE)


@hidden("q5", times=4)
def any_model(s, draw):
    B, T, C, F = draw.primes(4, 7)
    Hkv, G, D, V = draw.integer(1, 2), draw.integer(1, 3), 2 * draw.integer(1, 2), 13
    blocks = [
        {
            "attention_norm": draw.normal(C), "attention": layer(draw, C, Hkv * G, Hkv, D),
            "mlp_norm": draw.normal(C), "gate": draw.normal(F, C),
            "up": draw.normal(F, C), "down": draw.normal(C, F, scale=0.3),
        }
        for _ in range(draw.integer(2, 3))
    ]  # fmt: skip
    weights = {"embedding": draw.normal(V, C), "blocks": blocks, "norm": draw.normal(C)}
    config = {"n_heads": Hkv * G, "n_kv_heads": Hkv, "theta": 100.0, "eps": 1e-2}
    s.see("the logits", s.forward(draw.integers(0, V - 1, B, T), weights, config), **CLOSE)


@hidden("q6", times=4)
def any_config(s, draw):
    names = ("vocab_size", "d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim")
    s.see("numbers", s.count_parameters({name: draw.integer(2, 300) for name in names}))
