"""Quantized layers: against products of the numbers that they stand for, in float64 or in whole numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from teachkit import kernels
from teachkit.linear import Int4Linear, Int8Embedding, Int8Linear, W8A8Linear, use_of
from teachkit.quant import Int4Weight, int4, int8, pack_nibbles
from tolerance import TOLERANCE

close = torch.testing.assert_close
FP32, FP64, BF16 = (TOLERANCE[t] for t in (torch.float32, torch.float64, torch.bfloat16))
PLAIN, FUSED = (41, 37), (48, 96)  # no kernel takes the first; the CPU's int4 product takes the second


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def matrix(shape):
    """Rows of sizes from 1 to 1,000: a scale of another row would be far off."""
    return normal(*shape) * torch.logspace(0, 3, shape[0])[:, None] / shape[1] ** 0.5


def exact_nibbles(shape, group_size):
    """Nibbles with scales and zeros that make every value exact in bfloat16; both differ between groups."""
    N, K = shape
    generator = torch.Generator().manual_seed(5)
    nibbles = torch.randint(16, shape, generator=generator).to(torch.uint8)
    groups = (N, -(-K // group_size))
    scale = 2.0 ** torch.randint(-9, 9, groups, generator=generator)
    zero = scale * torch.randint(-5, 6, groups, generator=generator)
    values = torch.empty(shape)
    for n in range(N):
        for k in range(K):
            g = k // group_size
            values[n, k] = (int(nibbles[n, k]) - 8) * scale[n, g] + zero[n, g]
    return Int4Weight(pack_nibbles(nibbles), scale.bfloat16(), zero.bfloat16(), K, group_size), values


# --- products ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("leading", [(), (1,), (3, 5)])
def test_int8_is_the_product_with_code_times_scale(leading, per):
    weight, bias = int8(matrix(PLAIN), per=per), normal(41, seed=1, dtype=torch.float64)
    x = normal(*leading, 37, seed=2, dtype=torch.float64)
    expected = x @ (weight.q.double() * weight.scale.double()[:, None]).T
    close(Int8Linear(weight)(x), expected, **FP64)
    close(Int8Linear(weight, bias)(x), expected + bias, **FP64)


def test_w8a8_is_a_sum_of_whole_numbers():
    weight, bias = int8(matrix(PLAIN)), normal(41, seed=1)
    x = normal(2, 5, 37, seed=2) * torch.tensor([1.0, 1e-3, 1e3, 7.0, 0.1])[:, None]
    rows = x.reshape(-1, 37).numpy()
    scale = np.abs(rows).max(1, keepdims=True) / np.float32(127)
    sums = np.rint(rows / scale).astype(np.int64) @ weight.q.numpy().astype(np.int64).T
    expected = torch.from_numpy(sums * scale * weight.scale.numpy().astype(np.float64)).float().view(2, 5, 41)
    close(W8A8Linear(weight)(x), expected, **FP32)
    close(W8A8Linear(weight, bias)(x), expected + bias, **FP32)


@pytest.mark.parametrize(
    ("shape", "fused"), [(PLAIN, False), (FUSED, True), ((41, 96), False), ((48, 80), False)]
)
def test_int4_column_by_column_is_exactly_what_the_nibbles_stand_for(shape, fused):
    """A product with the unit matrix shows every weight: neither order nor scale of a nibble can be wrong."""
    weight, values = exact_nibbles(shape, 32)
    layer = Int4Linear(weight)
    assert layer.fused is fused
    close(layer(torch.eye(shape[1])).T, values, rtol=0, atol=0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_fused_int4_rounds_the_activations_to_bfloat16_and_no_more(group_size, symmetric):
    weight = int4(normal(48, 256) / 16, group_size=group_size, symmetric=symmetric)
    x, bias = normal(3, 5, 256, seed=2), normal(48, seed=1)
    layer = Int4Linear(weight, bias)
    assert layer.fused
    close(layer(x).double(), x.bfloat16().double() @ weight.dequantize().double().T + bias, **BF16)
    assert layer(x).dtype == torch.float32


def test_int4_without_a_kernel_is_the_dequantized_product():
    weight, bias = int4(normal(*PLAIN) / 6, group_size=32), normal(41, seed=1)
    x = normal(3, 5, 37, seed=2)
    close(Int4Linear(weight, bias)(x), x @ weight.dequantize().T + bias, **FP32)


# --- what is held --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "group_size"), [(PLAIN, 32), (FUSED, 32), ((16, 256), 128), ((48, 80), 64)]
)
def test_int4_weight_comes_back_from_the_order_of_the_kernel(shape, group_size):
    weight = int4(normal(*shape), group_size=group_size)
    back = Int4Linear(weight).weight
    assert torch.equal(back.packed, weight.packed)
    assert torch.equal(back.scale, weight.scale)
    assert torch.equal(back.zero, weight.zero)
    assert (back.columns, back.group_size) == (weight.columns, weight.group_size)


@pytest.mark.parametrize(
    ("layer", "nbytes"),
    [
        (Int8Linear(int8(matrix(PLAIN)), torch.ones(41)), 41 * 37 + 41 * 4),
        (W8A8Linear(int8(matrix(PLAIN), per="tensor")), 41 * 37 + 4),
        (Int4Linear(int4(matrix(PLAIN), group_size=32)), 41 * 19 + 41 * 2 * 4),
        (Int4Linear(int4(matrix(FUSED), group_size=32), torch.ones(48)), 48 * 48 + 48 * 3 * 4),
    ],
)
def test_bytes_are_those_of_the_weight_and_those_that_are_held(layer, nbytes):
    assert layer.nbytes == layer.weight.nbytes == nbytes
    held = {t.data_ptr(): t.nbytes for t in layer.buffers() if t is not layer.bias}
    assert sum(held.values()) == nbytes
    use = use_of("it", layer, rows=1, device="cpu", compiled=False)
    assert use.nbytes == nbytes
    assert use.bits_per_weight == 8 * nbytes / (layer.out_features * layer.in_features)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [PLAIN, FUSED])
def test_another_dtype_leaves_codes_and_scales_as_they_are(shape, dtype):
    for layer in (
        Int8Linear(int8(matrix(shape)), torch.ones(shape[0])),
        W8A8Linear(int8(matrix(shape)), torch.ones(shape[0])),
        Int4Linear(int4(matrix(shape), group_size=32), torch.ones(shape[0])),
    ):
        before = {name: t.clone() for name, t in layer.named_buffers() if name != "bias"}
        layer.to(dtype)
        assert layer.bias.dtype == dtype
        for name, held in before.items():
            close(getattr(layer, name), held, rtol=0, atol=0)
        assert layer(torch.ones(1, shape[1], dtype=dtype)).dtype == dtype


def test_a_kind_of_device_without_the_kernel_gets_the_plain_order():
    weight = int4(normal(*FUSED), group_size=32)
    layer = Int4Linear(weight, torch.ones(48))
    moved = copy.deepcopy(layer).to("meta")
    assert not moved.fused
    assert {t.device.type for t in moved.buffers()} == {"meta"}
    assert moved.packed.shape == weight.packed.shape
    assert moved.scales.shape == (*weight.scale.shape, 2)
    held = layer.packed.clone()
    assert torch.equal(layer.to("cpu").packed, held)


# --- tied weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_embedding_gives_the_rows_of_the_matrix(per):
    weight = int8(matrix(PLAIN), per=per)
    tokens = torch.tensor([[40, 0, 7], [7, 3, 11]])
    vectors = Int8Embedding(Int8Linear(weight), torch.float32)(tokens)
    assert torch.equal(vectors, weight.dequantize()[tokens])


def test_embedding_holds_nothing_and_follows_its_head():
    head = Int8Linear(int8(matrix(PLAIN)))
    embedding = Int8Embedding(head, torch.float32)
    assert not list(embedding.buffers())
    assert not list(embedding.children())
    both = torch.nn.ModuleDict({"embedding": embedding, "head": head}).to(torch.bfloat16)
    assert embedding(torch.tensor([3])).dtype == torch.bfloat16
    twin = copy.deepcopy(both)
    twin["head"].q.zero_()
    assert not twin["embedding"](torch.tensor([3])).any()
    assert embedding(torch.tensor([3])).any()


# --- which kernel --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "compiled"), [(1, False), (1, True), (2, True)])
def test_use_of_names_the_kernel(rows, compiled):
    def use(layer):
        return use_of("it", layer, rows=rows, device="cpu", compiled=compiled)

    one = kernels.ROW_SUM if rows == 1 and compiled else kernels.LIBRARY
    found = [
        use(torch.ones(41, 37)),
        use(torch.ones(41, 37, dtype=torch.bfloat16)),
        use(Int8Linear(int8(matrix(PLAIN)))),
        use(W8A8Linear(int8(matrix(PLAIN)))),
        use(Int4Linear(int4(matrix(FUSED), group_size=32))),
        use(Int4Linear(int4(matrix(PLAIN)))),
    ]
    assert [(u.scheme, u.kernel, u.shape) for u in found] == [
        ("float32", one, PLAIN),
        ("bfloat16", one, PLAIN),
        ("int8", one, PLAIN),
        ("w8a8", kernels.INTEGER, PLAIN),
        ("int4", kernels.INT4, FUSED),
        ("int4", kernels.DEQUANTIZE, PLAIN),
    ]
    assert [u.bits_per_weight for u in found[:2]] == [32, 16]
