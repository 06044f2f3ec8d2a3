"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def by_hand(s, draw):
    weight = torch.tensor([1.0, 10.0])
    s.see("the norm of 3 and 4", s.rms_norm(torch.tensor([3.0, 4.0]), weight, 0.0))
    two = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    s.see("the norm of two tokens, with an eps of 1", s.rms_norm(two, weight, 1.0))


@visible("q2")
def two_tokens_of_an_mlp(s, draw):
    x, gate, up, down = draw.normal(2, 2), draw.normal(3, 2), draw.normal(3, 2), draw.normal(2, 3)
    s.see("the MLP", s.swiglu(x, gate, up, down))


@visible("q3")
def two_tokens(s, draw):
    s.see("ones at positions 0 and 1", s.rotate(torch.ones(1, 1, 2, 4), 100.0))


def layer(draw, C, H, Hkv, D):
    shapes = {"q": (H * D, C), "k": (Hkv * D, C), "v": (Hkv * D, C), "o": (C, H * D)}
    return {name: draw.normal(*shape, scale=C**-0.5) for name, shape in shapes.items()}


@visible("q4")
def small(s, draw):
    x, weights = draw.normal(1, 3, 4), layer(draw, 4, 4, 2, 2)
    s.see("three tokens, four heads over two", s.attention_layer(x, weights, 4, 2, 100.0))


@visible("q5")
def two_blocks(s, draw):
    blocks = [
        {
            "attention_norm": draw.normal(4), "attention": layer(draw, 4, 2, 1, 2),
            "mlp_norm": draw.normal(4), "gate": draw.normal(5, 4),
            "up": draw.normal(5, 4), "down": draw.normal(4, 5),
        }
        for _ in range(2)
    ]  # fmt: skip
    weights = {"embedding": draw.normal(6, 4), "blocks": blocks, "norm": draw.normal(4)}
    config = {"n_heads": 2, "n_kv_heads": 1, "theta": 100.0, "eps": 1e-5}
    s.see("the logits of two tokens", s.forward(torch.tensor([[1, 4]]), weights, config))


@visible("q6")
def tinyllama(s, draw):
    config = {
        "vocab_size": 32000,
        "d_model": 2048,
        "d_ff": 5632,
        "n_layers": 22,
        "n_heads": 32,
        "n_kv_heads": 4,
        "head_dim": 64,
    }
    s.see("TinyLlama's numbers, with a tied embedding", s.count_parameters(config))
