"""Norms, rotary positions and feed-forward networks against a pencil, torch and transformers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_config, tiny_model
from teachkit.config import RopeScaling
from teachkit.layers import (
    MLP,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    activate,
    apply_rope,
    make_norm,
    rope_angles,
    rope_frequencies,
)
from tolerance import TOLERANCE

close = torch.testing.assert_close
FP32, FP64 = TOLERANCE[torch.float32], TOLERANCE[torch.float64]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randomised(module, seed=0):
    """The module with random weights and biases, of about unit size."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5
    return module


# --- norms ---------------------------------------------------------------------------------------------


def test_rms_norm_by_hand():
    norm = RMSNorm(2, eps=0.5)
    norm.weight.data = torch.tensor([2.0, -1.0])
    # mean of squares of (1, 4): 8.5; with eps 9; root 3
    close(norm(torch.tensor([1.0, 4.0])), torch.tensor([2 / 3, -4 / 3]), **FP32)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rms_norm_equals_torch(dtype):
    norm = randomised(RMSNorm(7, eps=1e-3)).to(dtype)
    x = normal(3, 5, 7, dtype=dtype)
    ours = norm(x)
    assert ours.dtype == dtype
    theirs = F.rms_norm(x.double(), (7,), norm.weight.double(), eps=1e-3).to(dtype)
    close(ours, theirs, **TOLERANCE[dtype])


def test_rms_norm_of_large_fp16_does_not_overflow():
    # 300^2 = 90,000 exceeds 65,504, the largest fp16
    out = RMSNorm(4, eps=1e-5).half()(torch.tensor([300.0, -300.0, 300.0, -300.0], dtype=torch.float16))
    close(out, torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float16), **TOLERANCE[torch.float16])


def test_layer_norm_by_hand():
    norm = LayerNorm(2, eps=0.75)
    norm.weight.data, norm.bias.data = torch.tensor([2.0, 4.0]), torch.tensor([10.0, 20.0])
    # (1, 2): mean 1.5, variance 0.25; with eps 1
    close(norm(torch.tensor([1.0, 2.0])), torch.tensor([9.0, 22.0]), **FP32)


@pytest.mark.parametrize(("kind", "expected"), [("rms", RMSNorm), ("layer", LayerNorm)])
def test_make_norm(kind, expected):
    norm = make_norm(tiny_config(norm=kind, norm_eps=0.125))
    assert type(norm) is expected
    assert norm.weight.shape == (37,)
    assert norm.eps == 0.125


# --- rotary positions ----------------------------------------------------------------------------------


def test_frequencies_by_hand():
    # theta^(-2i/D) for D = 6, theta = 1000: 1, 1/10, 1/100
    close(rope_frequencies(6, theta=1000.0), torch.tensor([1.0, 0.1, 0.01]), **FP32)
    close(rope_frequencies(4), torch.tensor([1.0, 0.01]), **FP32)


def test_linear_scaling_by_hand():
    scaling = RopeScaling("linear", factor=4.0)
    close(rope_frequencies(6, 1000.0, scaling), torch.tensor([0.25, 0.025, 0.0025]), **FP32)


def test_llama3_scaling_by_hand():
    # Frequencies 1 and 1/100: wavelengths 2 pi and 200 pi. In 1200 pi tokens they turn 600 and 6 times.
    def scaled(low, high):
        scaling = RopeScaling("llama3", 8.0, float(low), float(high), original_context=round(1200 * math.pi))
        return rope_frequencies(4, scaling=scaling) / torch.tensor([1.0, 0.01])

    close(scaled(1, 4), torch.tensor([1.0, 1.0]), **FP32)  # both turn more than 4 times
    close(scaled(7, 8), torch.tensor([1.0, 1 / 8]), **FP32)  # the slow one less than 7 times
    close(scaled(601, 602), torch.tensor([1 / 8, 1 / 8]), **FP32)
    keep = (3770 / (200 * math.pi) - 4) / (8 - 4)  # about half of the way from 4 to 8
    close(scaled(4, 8), torch.tensor([1.0, keep + (1 - keep) / 8]), **FP32)


@pytest.mark.parametrize(
    ("scaling", "theirs"),
    [
        (None, {"rope_type": "default"}),
        (RopeScaling("linear", 3.0), {"rope_type": "linear", "factor": 3.0}),
        (
            RopeScaling("llama3", 32.0, 1.0, 4.0, 8192),
            {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 8192},
        ),
        (
            RopeScaling("llama3", 5.0, 2.0, 7.0, 1531),
            {"rope_type": "llama3", "factor": 5.0, "low_freq_factor": 2.0, "high_freq_factor": 7.0,
             "original_max_position_embeddings": 1531},
        ),
    ],
    ids=["default", "linear", "llama3 of Llama 3.2", "llama3"],
)  # fmt: skip
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 500_000.0), (14, 10_000.0)])
def test_frequencies_equal_transformers(scaling, theirs, head_dim, theta):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=3 * head_dim,
        num_attention_heads=3,
        head_dim=head_dim,
        max_position_embeddings=131_072,
        rope_theta=theta,
        rope_parameters=theirs | {"rope_theta": theta},
    )
    close(rope_frequencies(head_dim, theta, scaling), LlamaRotaryEmbedding(config).inv_freq, **FP32)


def test_frequencies_have_values_whatever_the_default_device():
    with torch.device("meta"):
        assert rope_frequencies(4).device.type == "cpu"


def test_angles_by_hand():
    cos, sin = rope_angles(torch.tensor([[0, 2], [3, 5]]), torch.tensor([0.5, 0.25]), torch.float32)
    assert cos.shape == sin.shape == (2, 1, 2, 4)
    close(cos[1, 0, 0], torch.tensor([math.cos(1.5), math.cos(0.75)] * 2), **FP32)
    close(sin[0, 0, 1], torch.tensor([math.sin(1.0), math.sin(0.5)] * 2), **FP32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_angles_are_computed_in_fp32(dtype):
    # Position 4099 has no bf16, nor has its angle in fp16 more than a few bits behind the point.
    position, frequency = torch.tensor([[4099]]), torch.tensor([0.7])
    cos, sin = rope_angles(position, frequency, dtype)
    angle = torch.tensor(4099.0) * frequency
    assert cos.dtype == sin.dtype == dtype
    assert torch.equal(cos.flatten()[:1], angle.cos().to(dtype))
    assert torch.equal(sin.flatten()[:1], angle.sin().to(dtype))


def test_quarter_turn_by_hand():
    # D = 4: pairs are (x0, x2) and (x1, x3). The first turns by 90 degrees, the second by 180.
    angle = torch.tensor([math.pi / 2, math.pi] * 2).view(1, 1, 1, 4)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    out = apply_rope(x, angle.cos(), angle.sin()).flatten()
    close(out, torch.tensor([-3.0, -2.0, 1.0, -4.0]), **FP32)


def test_rope_equals_complex_multiplication():
    # The paper's form: each pair is a complex number, multiplied by e^(i * position * frequency).
    frequencies = rope_frequencies(14).double()
    positions = torch.tensor([[3, 5, 11], [0, 2, 47]])
    x = normal(2, 5, 3, 14, dtype=torch.float64)
    turn = torch.polar(torch.ones(2, 1, 3, 7, dtype=torch.float64), positions[:, None, :, None] * frequencies)
    pairs = torch.complex(x[..., :7], x[..., 7:]) * turn
    ours = apply_rope(x, *rope_angles(positions, frequencies.float(), torch.float64))
    close(ours, torch.cat((pairs.real, pairs.imag), -1), **FP32)  # angles are fp32


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 997), st.integers(0, 997), st.integers(0, 997), st.integers(0, 2**31 - 1))
def test_scores_depend_only_on_the_distance(i, j, shift, seed):
    q, k = (
        normal(1, 1, 1, 14, seed=seed, dtype=torch.float64),
        normal(1, 1, 1, 14, seed=seed + 1, dtype=torch.float64),
    )

    def turned(x, position):
        angle = torch.tensor([position], dtype=torch.float64) * rope_frequencies(14).double()
        angle = torch.cat((angle, angle)).view(1, 1, 1, 14)
        return apply_rope(x, angle.cos(), angle.sin())

    here = (turned(q, i) * turned(k, j)).sum()
    there = (turned(q, i + shift) * turned(k, j + shift)).sum()
    close(there, here, **TOLERANCE[torch.float64])
    close(turned(q, i).norm(), q.norm(), **TOLERANCE[torch.float64])


def test_frequencies_keep_fp32_in_a_bf16_model():
    model = tiny_model(dtype=torch.bfloat16)
    assert model.blocks[0].attention.q.weight.dtype == torch.bfloat16
    assert torch.equal(model._frequencies, rope_frequencies(14))


# --- feed-forward networks -----------------------------------------------------------------------------


def test_activations_by_hand():
    x = torch.tensor([1.0, -2.0])
    close(activate(x, "silu"), torch.tensor([1 / (1 + math.exp(-1)), -2 / (1 + math.exp(2))]), **FP32)
    exact = [y / 2 * (1 + math.erf(y / math.sqrt(2))) for y in (1.0, -2.0)]
    close(activate(x, "gelu"), torch.tensor(exact), **FP32)
    tanh = [y / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))) for y in (1.0, -2.0)]
    close(activate(x, "gelu_tanh"), torch.tensor(tanh), **FP32)


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_equals_its_formula(bias):
    mlp = randomised(SwiGLU(tiny_config(mlp_bias=bias)))
    p = {name: weight.double() for name, weight in mlp.named_parameters()}
    assert len(p) == (6 if bias else 3)
    x = normal(2, 3, 37, dtype=torch.float64)
    gate, up = (x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0) for name in ("gate", "up"))
    out = (gate / (1 + torch.exp(-gate)) * up) @ p["down.weight"].T + p.get("down.bias", 0)
    close(mlp(x.float()), out.float(), **FP32)


@pytest.mark.parametrize("bias", [False, True])
def test_mlp_equals_its_formula(bias):
    mlp = randomised(MLP(tiny_config(mlp_bias=bias, activation="gelu")))
    p = {name: weight.double() for name, weight in mlp.named_parameters()}
    assert len(p) == (4 if bias else 2)
    x = normal(2, 3, 37, dtype=torch.float64)
    up = x @ p["up.weight"].T + p.get("up.bias", 0)
    out = (up / 2 * (1 + torch.erf(up / math.sqrt(2)))) @ p["down.weight"].T + p.get("down.bias", 0)
    close(mlp(x.float()), out.float(), **FP32)


def test_swiglu_takes_its_activation_from_the_config():
    mlp = randomised(SwiGLU(tiny_config(activation="gelu_tanh")))
    x = normal(2, 3, 37)
    out = mlp.down(F.gelu(mlp.gate(x), approximate="tanh") * mlp.up(x))
    close(mlp(x), out, **FP32)
