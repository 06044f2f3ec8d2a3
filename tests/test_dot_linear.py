"""Layers in the order of the own kernel: the layer that each came from, and how several are one call."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from teachkit import kernels, native
from teachkit.dot_linear import DotLinear, can_dot, together
from teachkit.linear import Int4Linear, Int8Embedding, Int8Linear, W8A8Linear
from teachkit.quant import Int8Weight, int4, int8

close = torch.testing.assert_close
N, K = 48, 96
pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="PyTorch for Windows links with Microsoft's compiler, which takes other flags",
)


def matrix(n_out=N, n_in=K, seed=0):
    """Rows of sizes from 1 to 1,000: a scale of another row would be far off."""
    noise = torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(seed))
    return noise * torch.logspace(0, 3, n_out)[:, None] / n_in**0.5


def layer_of(kind, n_out=N, n_in=K, seed=0, bias=True):
    held = torch.randn(n_out, generator=torch.Generator().manual_seed(seed + 1)) if bias else None
    weight = matrix(n_out, n_in, seed)
    if kind == "int4":
        return Int4Linear(int4(weight, group_size=32), held)
    if kind == "int8, one scale":
        return Int8Linear(int8(weight, per="tensor"), held)
    return (Int8Linear if kind == "int8" else W8A8Linear)(int8(weight), held)


KINDS = ["int8", "int8, one scale", "w8a8", "int4"]
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_holds_what_the_layer_held(kind):
    layer = layer_of(kind)
    made = DotLinear(layer)
    assert (made.scheme, made.out_features, made.in_features) == (layer.scheme, N, K)
    assert torch.equal(made.bias, layer.bias)
    assert torch.equal(made.weight.dequantize(), layer.weight.dequantize())
    if kind == "int4":
        for part in ("packed", "scale", "zero", "columns", "group_size"):
            assert torch.equal(*(torch.as_tensor(getattr(w, part)) for w in (made.weight, layer.weight))), (
                part
            )
    else:
        assert torch.equal(made.weight.q, layer.weight.q)
        assert torch.equal(made.weight.scale, layer.weight.scale.expand(N))
    assert made.nbytes == made.weight.nbytes
    assert made.nbytes == layer.nbytes + (4 * (N - 1) if kind == "int8, one scale" else 0)
    for rows in (1, 7):
        assert made.kernel(rows=rows, device="cpu", compiled=False) == kernels.DOT


@each_kind
@pytest.mark.parametrize("bias", [True, False])
def test_is_the_product_of_the_layers_values(kind, bias):
    layer = layer_of(kind, bias=bias)
    x = torch.randn(2, 5, K) * torch.tensor([1.0, 1e-3, 1e3, 7.0, 0.1])[:, None]
    found = DotLinear(layer)(x).double()
    values = layer.weight.dequantize().double()
    expected = x.double() @ values.T + (layer.bias.double() if bias else 0)
    steps = 254 if kind == "w8a8" else 2 * 127 * 254
    # Half a step of the digits for each weight; and what float32 rounds, of products and of the bias.
    allowed = x.abs().amax(-1, keepdim=True).double() * values.abs().sum(1) * (1.01 / steps + 2.0**-20)
    assert ((found - expected).abs() <= allowed + 1e-6).all()
    if kind == "w8a8":
        close(found.float(), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_looks_up_rows(kind):
    layer = layer_of(kind)
    tokens = torch.tensor([[47, 0, 16], [16, 15, 33]])
    assert torch.equal(DotLinear(layer).lookup(tokens), layer.weight.dequantize()[tokens])
    vectors = Int8Embedding(DotLinear(layer), torch.bfloat16)(tokens[:0])
    assert vectors.shape == (0, 3, K)


def test_which_layers_can():
    assert all(can_dot(layer_of(kind)) for kind in KINDS)
    assert not can_dot(layer_of("int8", n_out=41))
    assert not can_dot(layer_of("int8", n_in=37))
    assert not can_dot(layer_of("int4", n_in=80)), "a short last group"
    assert not can_dot(Int4Linear(int4(matrix(48, 32), group_size=64))), "a group longer than the row"
    assert not can_dot(layer_of("int8").to("meta"))
    assert not can_dot(DotLinear(layer_of("int8"))), "one already"


def test_codes_that_are_not_contiguous():
    weight = int8(matrix(K, N))
    turned = Int8Weight(weight.q.T, torch.ones(N))
    assert torch.equal(DotLinear(Int8Linear(turned)).weight.q, weight.q.T)


@each_kind
def test_stays_on_the_cpu_and_takes_a_dtype(kind):
    made = DotLinear(layer_of(kind))
    with pytest.raises(RuntimeError, match="made fast for the CPU, not for meta; move the original"):
        made.to("meta")
    held = made.tiles.clone()
    copied = copy.deepcopy(made).to(torch.bfloat16)
    assert copied.bias.dtype == torch.bfloat16
    assert torch.equal(copied.tiles, held)
    assert copied(torch.ones(1, K, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert made(torch.ones(1, K, dtype=torch.float64)).dtype == torch.float64


@each_kind
@pytest.mark.parametrize("rows", [1, 5])
def test_together_is_one_call_and_one_by_one_in_bits(kind, rows, monkeypatch):
    layers = [DotLinear(layer_of(kind, n, K, n, bias=n != 16)) for n in (48, 16, 32)]
    x = torch.randn(1, rows, K)
    expected = [layer(x) for layer in layers]
    calls, dot = [], native.dot
    monkeypatch.setattr(native, "dot", lambda *a, **k: calls.append(1) or dot(*a, **k))
    found = together(x, *layers)
    assert len(calls) == 1
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_together_of_mixed_kinds_is_each_for_itself():
    dots = [DotLinear(layer_of(kind)) for kind in ("int8", "w8a8", "int4")]
    dots.append(DotLinear(Int4Linear(int4(matrix(N, 128), group_size=128))))
    x = torch.randn(1, 3, K)
    plain = [layer_of("int8"), torch.nn.Linear(K, 16)]
    for layers in ([dots[0], dots[1]], [dots[2], dots[0]], [dots[0], *plain], [*plain, dots[0]], plain):
        for one, layer in zip(together(x, *layers), layers, strict=True):
            assert torch.equal(one, layer(x))
