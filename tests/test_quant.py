"""Int8 and int4: bounds that hold for any finite input, exact packing, exact integer products."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conftest import unchecked
from teachkit.quant import (
    Int4Weight,
    Int8Weight,
    dequantize_rows,
    error_bound,
    fit_groups,
    int4,
    int8,
    int_matmul,
    nearest_nibbles,
    pack_nibbles,
    quantize_rows,
    quantize_tokens,
    unpack_nibbles,
    w8a8_matmul,
)
from tolerance import TOLERANCE

close = torch.testing.assert_close
MAX, TINY = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NEAR_ONE = st.floats(-4, 4, width=32)
GROUP = st.sampled_from([32, 64, 128])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spike():
    weight = normal(5, 131)
    weight[2, 70] = 1e6
    return weight


ADVERSARIAL = {
    "all zero": torch.zeros(3, 70),
    "one element": torch.tensor([[-0.3]]),
    "one row": normal(1, 131),
    "one column": normal(7, 1),
    "an outlier": spike(),
    "constant rows": torch.tensor([[1000.3], [-1e-3], [0.1]]).expand(3, 65).contiguous(),
    "almost constant": 1 + normal(3, 67) * 2**-23,
    "neighbours in float32": 1 + torch.arange(33.0).view(3, 11) * 2**-23,
    "far from zero": 1e4 + normal(3, 97),
    "one row of zeros": torch.cat((normal(2, 67), torch.zeros(1, 67))),
    "denormal": normal(3, 33) * 1e-40,
    "the smallest": torch.full((2, 3), 2.0**-149),
    "normal but tiny": normal(3, 33) * 1e-37,
    "huge": normal(3, 33).clamp(-3, 3) * 1e38,
    "the largest": torch.full((2, 65), MAX),
    "both ends": torch.tensor([[MAX, -MAX, 0.0, 1.0] * 9]),
    "bfloat16": normal(3, 77).bfloat16(),
    "float16": (1e4 * normal(3, 77)).half(),
    "float64": normal(3, 77).double() * 1e-3,
}
adversarial = pytest.mark.parametrize("weight", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())


@st.composite
def matrices(draw):
    """Up to 3 rows of up to 140 floats, of any size, or about 1, some of them all alike."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 140)))
    fill = draw(st.sampled_from([FLOATS, NEAR_ONE]))
    return torch.from_numpy(draw(arrays.arrays(np.float32, shape, elements=fill, fill=fill)))


def assert_within(weight, values, bound):
    """In float64, so that the check rounds nothing itself."""
    assert values.shape == bound.shape == weight.shape
    assert values.isfinite().all()
    assert bound.isfinite().all()
    excess = (weight.double() - values.double()).abs() - bound.double()
    assert (excess <= 0).all(), f"{excess.max()} beyond the bound"


# --- int8 ----------------------------------------------------------------------------------------------


def test_int8_by_hand():
    # Row scales 254/127 = 2 and 12.7/127 = 0.1; 3/2 and 5/2 are ties and go to the even neighbour.
    made = int8(torch.tensor([[254.0, 3.0, 5.0, -254.0], [0.0, 12.7, 0.06, -0.04]]))
    assert made.q.tolist() == [[127, 2, 2, -127], [0, 127, 1, 0]]
    close(made.scale, torch.tensor([2.0, 0.1]), **TOLERANCE[torch.float32])
    assert (made.q.dtype, made.scale.dtype) == (torch.int8, torch.float32)


def test_int8_per_tensor_by_hand():
    made = int8(torch.tensor([[254.0, 1.2], [-4.0, 0.9]]), per="tensor")
    assert made.q.tolist() == [[127, 1], [-2, 0]]
    assert made.scale.shape == (1,)
    close(made.dequantize(), torch.tensor([[254.0, 2.0], [-4.0, 0.0]]), **TOLERANCE[torch.float32])


def test_int8_codes_are_the_nearest():
    weight = normal(5, 37)
    made = int8(weight)
    values = torch.arange(-127, 128) * made.scale[:, None, None].double()
    nearest = (weight[:, :, None].double() - values).abs().amin(-1)
    # The bound is reached in the middle between two values, nowhere else.
    excess = (weight.double() - made.dequantize().double()).abs() - nearest
    assert excess.abs().max() < 1e-6  # float32 rounds the product and the sum


@adversarial
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_int8_is_within_its_bound(weight, per):
    made = int8(weight, per=per)
    assert_within(weight, made.dequantize(), made.error_bound())
    assert made.q.abs().max() <= 127
    assert (made.scale > 0).all()


@settings(max_examples=150, deadline=None)
@given(matrices(), st.sampled_from(["channel", "tensor"]))
def test_int8_is_within_its_bound_for_any_floats(weight, per):
    made = int8(weight, per=per)
    assert_within(weight, made.dequantize(), made.error_bound())


def test_int8_keeps_zeros():
    made = int8(torch.cat((torch.zeros(1, 5), normal(1, 5))))
    assert (made.q[0] == 0).all()
    assert (made.dequantize()[0] == 0).all()


def test_one_outlier_costs_other_rows_only_per_tensor():
    weight = normal(7, 64)
    weight[3, 5] = 100.0
    rows = [0, 1, 2, 4, 5, 6]
    error = {per: (int8(weight, per=per).dequantize() - weight)[rows].norm() for per in ("channel", "tensor")}
    # Steps of 100/127, no longer of about 2.5/127.
    assert error["tensor"] > 20 * error["channel"]


def test_int8_size():
    made = int8(normal(5, 40))
    assert made.nbytes == 5 * 40 + 5 * 4
    assert made.bits_per_weight == 8 + 32 / 40
    assert int8(normal(5, 40), per="tensor").nbytes == 204


# --- int4 ----------------------------------------------------------------------------------------------


def test_int4_by_hand():
    # -8 to 7 in steps of 1 about 0: nibbles 0 to 15. Doubled and moved by 1: scale 2, zero 1.
    row = torch.arange(-8.0, 8.0).repeat(2)
    made = int4(torch.stack((row, 2 * row + 1)), group_size=32)
    assert made.scale.tolist() == [[1.0], [2.0]]
    assert made.zero.tolist() == [[0.0], [1.0]]
    assert unpack_nibbles(made.packed, 32).tolist() == [list(range(16)) * 2] * 2
    assert made.packed[0, :3].tolist() == [0x10, 0x32, 0x54]
    assert torch.equal(made.dequantize(), torch.stack((row, 2 * row + 1)))


def test_symmetric_int4_by_hand():
    # The smallest scale that reaches both ends of each: 8/8 = 1 down, 14/7 = 2 up.
    weight = torch.zeros(2, 32)
    weight[0, :4] = torch.tensor([-8.0, 3.4, 6.5, 0.5])
    weight[1, :4] = torch.tensor([-8.0, 14.0, 5.0, 3.0])
    made = int4(weight, group_size=32, symmetric=True)
    assert (made.scale.tolist(), made.zero.tolist()) == ([[1.0], [2.0]], [[0.0], [0.0]])
    assert unpack_nibbles(made.packed, 32)[:, :4].tolist() == [[0, 11, 14, 8], [4, 15, 10, 10]]
    assert (made.dequantize()[:, 4:] == 0).all()


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("symmetric", [False, True])
@adversarial
def test_int4_is_within_its_bound(weight, group_size, symmetric):
    made = int4(weight, group_size=group_size, symmetric=symmetric)
    assert_within(weight, made.dequantize(), made.error_bound())
    assert (made.scale > 0).all()
    assert made.scale.shape == made.zero.shape == (len(weight), math.ceil(weight.shape[1] / group_size))
    assert not symmetric or (made.zero == 0).all()


@settings(max_examples=300, deadline=None)
@given(matrices(), GROUP, st.booleans())
def test_int4_is_within_its_bound_for_any_floats(weight, group_size, symmetric):
    made = int4(weight, group_size=group_size, symmetric=symmetric)
    assert_within(weight, made.dequantize(), made.error_bound())


@pytest.mark.parametrize("symmetric", [False, True])
def test_int4_nibbles_are_the_best_for_the_scale_that_is_stored(symmetric):
    weight = normal(3, 100) + 0.3
    made = int4(weight, group_size=32, symmetric=symmetric)
    scale, zero = (t.double().repeat_interleave(32, 1)[:, :100, None] for t in (made.scale, made.zero))
    values = (torch.arange(16) - 8) * scale + zero
    nearest = (weight[:, :, None].double() - values).abs().amin(-1)
    excess = (weight.double() - made.dequantize().double()).abs() - nearest
    assert excess.abs().max() < 1e-6  # float32 rounds the product and the sum


def test_int4_steps_are_hardly_wider_than_the_range_asks_for():
    weight = normal(11, 640, seed=1)
    groups = weight.view(11, 10, 64)
    ideal = (groups.amax(-1) - groups.amin(-1)) / 15
    ratio = int4(weight).scale.float() / ideal
    # Rounding up to bfloat16 costs at most 2^-7, the rounded zero as much again at the far end.
    assert (ratio >= 1 - 1e-6).all()
    assert (ratio < 1.02).all()


def test_an_outlier_costs_its_own_group_only():
    weight = normal(3, 128)
    weight[1, 40] = 1e3
    error = (int4(weight, group_size=32).dequantize() - weight).abs()
    error[1, 40] = 0
    assert error[1, 32:64].max() > 0.5
    error[1, 32:64] = 0
    assert error.max() < 0.25


def test_a_short_last_group_is_its_own():
    weight = torch.cat((100 * normal(3, 64), normal(3, 3)), 1)
    made = int4(weight)
    alone = int4(weight[:, 64:])
    assert made.scale.shape == (3, 2)
    assert torch.equal(made.dequantize()[:, 64:], alone.dequantize())
    assert made.packed.shape == (3, 34)


def test_int4_is_what_the_kernel_of_pytorch_computes():
    weight, x = normal(64, 128), normal(3, 128, seed=1)
    made = int4(weight, group_size=32)
    nibbles = unpack_nibbles(made.packed, 128).to(torch.int32)
    packed = torch._convert_weight_to_int4pack_for_cpu(nibbles, 1)
    both = torch.stack((made.scale.T, made.zero.T), -1).contiguous()  # (groups, N, 2)
    out = torch._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, 32, both)
    exact = x.bfloat16().double() @ made.dequantize().double().T
    # The kernel adds in float32 and rounds its result to bfloat16, 8 bits; products of 128 columns.
    assert (out.double() - exact).abs().max() < 2**-8 * exact.abs().max()


def test_int4_size():
    assert int4(normal(5, 128)).nbytes == 5 * 64 + 2 * 5 * 2 * 2
    assert [int4(normal(5, 128), group_size=g).bits_per_weight for g in (32, 64, 128)] == [5, 4.5, 4.25]
    assert int4(normal(2, 33), group_size=32).nbytes == 2 * 17 + 2 * 2 * 2 * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dequantize_rounds_once_to_what_is_asked_for(dtype):
    for made in (int8(normal(3, 40)), int4(normal(3, 40))):
        assert torch.equal(made.dequantize(dtype), made.dequantize().to(dtype))
        assert made.dequantize(dtype).dtype == dtype


def test_inputs_are_left_as_they_are():
    weight = normal(3, 40)
    before = weight.clone()
    int8(weight)
    int4(weight)
    quantize_rows(weight, 4)
    quantize_tokens(weight)
    assert torch.equal(weight, before)


def test_no_gradient_is_kept():
    weight = torch.nn.Parameter(normal(3, 40))
    assert not int8(weight).scale.requires_grad
    assert not int4(weight).scale.requires_grad


# --- nibbles -------------------------------------------------------------------------------------------


def test_low_half_first_by_hand():
    packed = pack_nibbles(torch.tensor([[1, 2, 3], [15, 0, 10]], dtype=torch.uint8))
    assert packed.tolist() == [[0x21, 0x03], [0x0F, 0x0A]]
    assert packed.dtype == torch.uint8


def test_every_pair_of_nibbles():
    pairs = torch.cartesian_prod(*[torch.arange(16, dtype=torch.uint8)] * 2)
    packed = pack_nibbles(pairs)
    assert len(packed.unique()) == 256
    assert torch.equal(unpack_nibbles(packed, 2), pairs)
    assert torch.equal(pack_nibbles(unpack_nibbles(packed, 2)), packed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=2), st.integers(1, 37), st.integers(0, 2**31 - 1))
def test_packing_is_exact_both_ways(leading, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    nibbles = torch.randint(16, (*leading, columns), generator=generator).to(torch.uint8)
    packed = pack_nibbles(nibbles)
    assert packed.shape == (*leading, (columns + 1) // 2)
    assert torch.equal(unpack_nibbles(packed, columns), nibbles)


@pytest.mark.parametrize("columns", [2, 5, 0])
def test_columns_that_do_not_fit_the_bytes(columns):
    with pytest.raises(ValueError, match=f"columns: expected 3 or 4 in rows of 2 bytes, got {columns}"):
        unpack_nibbles(torch.zeros(1, 2, dtype=torch.uint8), columns)


def test_numbers_that_are_no_nibbles():
    with pytest.raises(ValueError, match="nibbles: expected numbers from 0 to 15, got 16"):
        pack_nibbles(torch.tensor([[3, 16]], dtype=torch.uint8))


# --- W8A8 ----------------------------------------------------------------------------------------------


def test_tokens_by_hand():
    codes, scale = quantize_tokens(torch.tensor([[[127.0, -1.0], [0.5, 0.25]]]))
    assert codes.tolist() == [[[127, -1], [127, 64]]]
    close(scale, torch.tensor([[[1.0], [0.5 / 127]]]), **TOLERANCE[torch.float32])


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_tokens_are_within_the_bound(x):
    codes, scale = quantize_tokens(x)
    assert_within(x, codes.float() * scale, error_bound(scale).expand(x.shape))


@pytest.mark.parametrize(
    ("M", "N", "K"), [(1, 1, 1), (1, 13, 1023), (17, 5, 1025), (3, 7, 2500), (24, 16, 64)]
)
def test_integer_products_are_exact(M, N, K):
    generator = torch.Generator().manual_seed(K)
    a, b = (torch.randint(-128, 128, (n, K), generator=generator).to(torch.int8) for n in (M, N))
    b[0] = 127
    a[-1], b[-1] = -128, -128  # the largest sum there is
    a[0] = torch.randint(110, 128, (K,), generator=generator)  # with b[0]: large, and of no round number
    out = int_matmul(a, b)
    assert out.dtype == torch.int32
    assert torch.equal(out.long(), a.long() @ b.long().T)


def test_more_columns_than_int32_can_add():
    row = torch.zeros(1, 2**17, dtype=torch.int8)
    with pytest.raises(ValueError, match="a: expected fewer than 131072 columns, got 131072"):
        int_matmul(row, row)


def test_w8a8_equals_integer_arithmetic():
    x, weight = normal(2, 3, 70), int8(normal(11, 70, seed=1))
    codes, scale = quantize_tokens(x)
    sums = (codes.long()[:, :, None] * weight.q.long()).sum(-1)
    assert torch.equal(w8a8_matmul(x, weight), sums.float() * scale * weight.scale)


def test_w8a8_with_one_scale_for_the_matrix():
    x, weight = normal(3, 70), int8(normal(11, 70, seed=1), per="tensor")
    codes, scale = quantize_tokens(x)
    sums = codes.long() @ weight.q.long().T
    assert torch.equal(w8a8_matmul(x, weight), sums.float() * scale * weight.scale)


@pytest.mark.parametrize("leading", [(), (0,), (1,), (2, 3)])
def test_w8a8_takes_any_leading_axes(leading):
    x, weight = normal(*leading, 70), int8(normal(11, 70, seed=1))
    out = w8a8_matmul(x, weight)
    assert out.shape == (*leading, 11)
    if leading == (2, 3):
        assert torch.equal(out[1, 2], w8a8_matmul(x[1, 2], weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_w8a8_is_close_to_the_product_that_it_stands_for(dtype):
    x, weight = normal(3, 256).to(dtype), normal(11, 256, seed=1)
    out = w8a8_matmul(x, int8(weight))
    assert out.dtype == dtype
    exact = x.double() @ weight.double().T
    # Two roundings of about 1/127 * 3 / sqrt(12) of a standard deviation each.
    assert (out.double() - exact).norm() < 0.02 * exact.norm()


def test_an_outlier_channel_takes_the_precision_of_all_others():
    x, weight = normal(50, 128), normal(32, 128, seed=1)
    x[:, 17] *= 100
    weight[:, 17] = 0  # so that what is measured is what the outlier does to the other channels
    made, exact = int8(weight), x @ weight.T
    activations = (w8a8_matmul(x, made) - exact).norm()
    weights_only = (x @ made.dequantize().T - exact).norm()
    # The step of a token is 1/127 of its outlier, here some 30 times what its other channels need.
    assert activations > 20 * weights_only
    x[:, 17] = 0
    assert (w8a8_matmul(x, made) - exact).norm() < 2 * weights_only


# --- rows of a cache -----------------------------------------------------------------------------------


def test_rows_of_8_bits_by_hand():
    codes, scale, zero = quantize_rows(torch.tensor([[254.0, 3.1, -127.0]]), 8)
    assert (codes.tolist(), scale.tolist(), zero) == ([[127, 2, -64]], [[2.0]], None)
    assert (codes.dtype, scale.dtype) == (torch.int8, torch.bfloat16)


def test_rows_of_4_bits_by_hand():
    codes, scale, zero = quantize_rows(torch.tensor([[[-7.0, 23.0, 1.0]]]), 4)
    assert (scale.tolist(), zero.tolist()) == ([[[2.0]]], [[[9.0]]])
    assert codes.tolist() == [[[0xF0, 0x04]]]
    assert codes.dtype == torch.uint8
    assert dequantize_rows(codes, scale, zero, columns=3).tolist() == [[[-7.0, 23.0, 1.0]]]


def assert_rows_within(x, bits, group_size):
    D = x.shape[-1]
    codes, scale, zero = quantize_rows(x, bits, group_size)
    values = dequantize_rows(codes, scale, zero, columns=D, group_size=group_size)
    bound = error_bound(scale, zero).repeat_interleave(group_size or D, -1)[..., :D]
    assert_within(x, values, bound)


@adversarial
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [None, 32, 64])
def test_rows_are_within_the_bound(weight, bits, group_size):
    assert_rows_within(weight, bits, group_size)


@settings(max_examples=200, deadline=None)
@given(matrices(), st.sampled_from([4, 8]), st.sampled_from([None, 32, 64, 128]))
def test_rows_are_within_the_bound_for_any_floats(x, bits, group_size):
    assert_rows_within(x, bits, group_size)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [None, 32])
def test_each_row_of_many_axes_is_quantized_alone(bits, group_size):
    x = normal(2, 3, 5, 67) * torch.tensor([1.0, 100.0, 1e-3])[:, None, None]
    whole = dequantize_rows(*quantize_rows(x, bits, group_size), columns=67, group_size=group_size)
    row = quantize_rows(x[1, 2, 3], bits, group_size)
    alone = dequantize_rows(*row, columns=67, group_size=group_size)
    assert torch.equal(whole[1, 2, 3], alone)
    half = dequantize_rows(
        *quantize_rows(x, bits, group_size), columns=67, group_size=group_size, dtype=torch.bfloat16
    )
    assert torch.equal(half, whole.bfloat16())


def test_rows_of_4_bits_are_nibbles_of_a_matrix():
    weight = normal(5, 64)
    made, (codes, scale, zero) = int4(weight), quantize_rows(weight, 4)
    assert torch.equal(codes, made.packed)
    assert torch.equal(scale, made.scale)
    assert torch.equal(zero, made.zero)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_not_finite_comes_back_as_nan_in_its_group_alone(bad, bits):
    x = normal(3, 64)
    x[1, 40] = bad
    values = dequantize_rows(*quantize_rows(x, bits, 32), columns=64, group_size=32)
    assert values[1, 32:].isnan().all()
    assert values[[0, 2]].isfinite().all()
    assert values[1, :32].isfinite().all()
    codes, scale = quantize_tokens(x)
    assert (codes.float() * scale)[1].isnan().all()


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [int8, int4])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite(make, bad):
    weight = normal(3, 40)
    weight[1, 7] = weight[2, 0] = bad
    with pytest.raises(ValueError, match=rf"weight: expected finite .* got {bad} in row 1, column 7"):
        make(weight)


@pytest.mark.parametrize("make", [int8, int4])
def test_a_weight_beyond_float32(make):
    with pytest.raises(ValueError, match=r"weight: .* .in float32., got inf in row 0"):
        make(torch.tensor([[1e39]], dtype=torch.float64))


@pytest.mark.parametrize("make", [int8, int4])
@pytest.mark.parametrize(
    "weight",
    [torch.zeros(3), torch.zeros(2, 3, 5), torch.zeros(0, 3), torch.zeros(2, 0), torch.zeros(2, 3).int()],
    ids=["vector", "three axes", "no rows", "no columns", "integers"],
)
def test_what_is_no_weight(make, weight):
    with unchecked(), pytest.raises(ValueError, match="weight: expected a floating-point matrix, got torch"):
        make(weight)


def test_unknown_per():
    with unchecked(), pytest.raises(ValueError, match="per: expected 'channel' or 'tensor', got 'row'"):
        int8(normal(2, 3), per="row")


@pytest.mark.parametrize("group_size", [0, -32, 16, 48, 256])
def test_group_sizes_that_there_are_not(group_size):
    message = f"group_size: expected 32, 64, 128; got {group_size}"
    with pytest.raises(ValueError, match=message):
        int4(normal(2, 64), group_size=group_size)
    with pytest.raises(ValueError, match=message):
        quantize_rows(normal(2, 64), 4, group_size)


@pytest.mark.parametrize("bits", [2, 0, 16])
def test_unknown_bits(bits):
    with pytest.raises(ValueError, match=f"bits: expected 4 or 8, got {bits}"):
        quantize_rows(normal(2, 64), bits)


# --- groups --------------------------------------------------------------------------------------------


def test_fitted_groups_reach_every_value():
    groups = normal(200, 32, seed=3) * 3 + 5
    scale, zero = (t.double() for t in fit_groups(groups))
    assert (zero - 8 * scale <= groups.amin(-1).double() + 1e-6).all()
    assert (zero + 7 * scale >= groups.amax(-1).double() - 1e-6).all()


def test_nearest_nibbles_by_hand():
    scale, zero = (torch.full((5,), v, dtype=torch.bfloat16) for v in (2.0, 10.0))
    x = torch.tensor([-1e9, 10.0, 11.5, 13.0, 1e9])  # (13 - 10) / 2 = 1.5 is a tie: to 2, the even one
    assert nearest_nibbles(x, scale, zero).tolist() == [0, 8, 9, 10, 15]


def test_results_are_frozen():
    assert isinstance(int8(normal(2, 3)), Int8Weight)
    made = int4(normal(2, 3))
    assert isinstance(made, Int4Weight)
    with pytest.raises(AttributeError):
        made.columns = 4
