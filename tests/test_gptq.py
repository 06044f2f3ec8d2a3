"""GPTQ: by hand, against one inverse per column, and against rounding to nearest."""

from __future__ import annotations

import inspect

import pytest
import torch

from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.gptq import collect_inputs, gptq, hessian
from teachkit.quant import fit_groups, int4, unpack_nibbles
from tolerance import TOLERANCE

close = torch.testing.assert_close
FP32, FP64 = TOLERANCE[torch.float32], TOLERANCE[torch.float64]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n, K, seed=0):
    """Inputs that go up and down together, as those of a trained model do: a few directions, and noise."""
    return normal(n, 7, seed=seed) @ normal(7, K, seed=seed + 1) + 0.3 * normal(n, K, seed=seed + 2)


def nibbles_of(made):
    return unpack_nibbles(made.packed, made.columns)


def output_error(weight, made, H):
    """Mean squared error of an output: (W - Ŵ) H/2 (W - Ŵ)ᵀ, summed over outputs."""
    difference = weight.double() - made.dequantize().double()
    return ((difference @ H / 2) * difference).sum().item()


def by_inverting_anew(weight, H, *, group_size, symmetric, damping):
    """Optimal brain quantization in the given order: one row at a time, one inverse per column."""
    K = weight.shape[1]
    H = H + damping * H.diagonal().mean() * torch.eye(K, dtype=torch.float64)
    nibbles = torch.empty(weight.shape, dtype=torch.uint8)
    scales, zeros = [], []
    for n, row in enumerate(weight.double()):
        w = row.clone()
        for j in range(K):
            if j % group_size == 0:
                scale, zero = fit_groups(w[j : j + group_size].float(), symmetric=symmetric)
                scales.append(scale)
                zeros.append(zero)
            values = (torch.arange(16) - 8) * scale.double() + zero.double()
            nibbles[n, j] = (values - w[j]).abs().argmin()
            inverse = torch.linalg.inv(H[j:, j:])
            error = (w[j] - values[nibbles[n, j].item()]) / inverse[0, 0]
            w[j:] -= error * inverse[0]
    shape = (len(weight), -1)
    return nibbles, torch.stack(scales).view(shape), torch.stack(zeros).view(shape)


# --- the hessian ---------------------------------------------------------------------------------------


def test_hessian_by_hand():
    # XᵀX = [[1 + 4, 1 + 0], [1 + 0, 1 + 0]], twice that over two rows.
    H = hessian([torch.tensor([[1.0, 1.0], [2.0, 0.0]])])
    assert H.tolist() == [[5.0, 1.0], [1.0, 1.0]]
    assert H.dtype == torch.float64


def test_hessian_of_pieces_is_that_of_the_whole():
    x = normal(2, 11, 5)
    close(hessian(iter([x[:1], x[1, :3], x[1, 3:]])), hessian([x]), **FP64)


@pytest.mark.parametrize("inputs", [[], [torch.zeros(0, 3)]], ids=["none", "no rows"])
def test_hessian_of_nothing(inputs):
    with pytest.raises(ValueError, match="inputs: expected at least one row, got none"):
        hessian(inputs)


# --- the algorithm -------------------------------------------------------------------------------------


def test_error_feedback_by_hand():
    # Scale 1 for both rows: the -8 decides. The first column is 0.4 too low (row 0) or too high (row 1) once
    # it is rounded to 0. With e1 free, e H e is least at e1 = -H10 / H11 * e0 = -2 * e0: the second column
    # moves to -8 + 0.8 and rounds to -7 (row 0), or to -8 - 0.8, out of reach, and stays (row 1).
    H = torch.tensor([[8.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    weight = torch.tensor([[0.4, -8.0], [-0.4, -8.0]])
    made = gptq(weight, H, symmetric=True, damping=0.0)
    assert made.dequantize().tolist() == [[0.0, -7.0], [0.0, -8.0]]
    assert int4(weight, symmetric=True).dequantize().tolist() == [[0.0, -8.0], [0.0, -8.0]]
    # Row 0: e = (0.4, -1) costs 1.28 - 1.6 + 1, and (0.4, 0) costs 1.28; half of each.
    assert output_error(weight[:1], made_of(made, 0), H) == pytest.approx(0.34)
    assert output_error(weight[:1], int4(weight[:1], symmetric=True), H) == pytest.approx(0.64)


def made_of(made, row):
    """One row of it."""
    part = slice(row, row + 1)
    return type(made)(made.packed[part], made.scale[part], made.zero[part], made.columns, made.group_size)


@pytest.mark.parametrize(
    ("K", "group_size", "symmetric"),
    [(29, 32, False), (67, 32, True), (131, 64, False), (160, 128, False), (259, 64, False)],
)
def test_equals_inverting_anew_for_each_column(K, group_size, symmetric):
    """Within a group, across groups, across blocks of 128, a last group and a last block that are short."""
    weight, H = normal(3, K, seed=K).float(), hessian([correlated(4 * K, K)])
    settings = {"group_size": group_size, "symmetric": symmetric, "damping": 0.02}
    made = gptq(weight, H, **settings)
    nibbles, scale, zero = by_inverting_anew(weight, H, **settings)
    assert torch.equal(nibbles_of(made), nibbles)
    assert torch.equal(made.scale, scale)
    assert torch.equal(made.zero, zero)
    assert not torch.equal(nibbles, nibbles_of(int4(weight, group_size=group_size, symmetric=symmetric)))


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("symmetric", [False, True])
def test_outputs_are_closer_than_after_rounding_to_nearest(group_size, symmetric):
    weight = normal(24, 256, seed=5).float()
    H = hessian([correlated(2000, 256)])
    unseen = hessian([correlated(4000, 256)[2000:]])  # of the same kind
    settings = {"group_size": group_size, "symmetric": symmetric}
    for inputs in (H, unseen):
        ours = output_error(weight, gptq(weight, H, **settings), inputs)
        assert ours < 0.2 * output_error(weight, int4(weight, **settings), inputs)


def test_weights_are_further_than_after_rounding_to_nearest():
    weight = normal(24, 256, seed=5).float()
    made = gptq(weight, hessian([correlated(2000, 256)]))
    assert (made.dequantize() - weight).norm() > 1.05 * (int4(weight).dequantize() - weight).norm()


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_of_unrelated_inputs_it_is_rounding_to_nearest(group_size):
    weight = normal(5, 200).float()
    made = gptq(weight, 3 * torch.eye(200, dtype=torch.float64), group_size=group_size)
    plain = int4(weight, group_size=group_size)
    for ours, theirs in zip(
        (made.packed, made.scale, made.zero), (plain.packed, plain.scale, plain.zero), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_columns_whose_input_is_always_zero():
    x, weight = correlated(500, 70), normal(5, 70, seed=1).float()
    x[:, [3, 41]] = 0
    H = hessian([x])
    clean = weight.clone()
    clean[:, [3, 41]] = 0
    weight[:, 41] = 1e6  # decides no scale: nothing is ever multiplied by it
    made, plain = gptq(weight, H), gptq(clean, H)
    assert torch.equal(made.packed, plain.packed)
    assert torch.equal(made.scale, plain.scale)
    assert made.dequantize()[:, 41].abs().max() < 0.5


def test_fewer_inputs_than_columns():
    weight, H = normal(5, 70).float(), hessian([correlated(9, 70)])
    made = gptq(weight, H)
    assert output_error(weight, made, H) < 0.2 * output_error(weight, int4(weight), H)


def test_the_format_is_that_of_int4():
    weight, H = normal(5, 70).bfloat16(), hessian([correlated(100, 70)])
    made, plain = gptq(weight, H, group_size=32), int4(weight, group_size=32)
    assert (made.columns, made.group_size, made.nbytes) == (70, 32, plain.nbytes)
    for ours, theirs in ((made.packed, plain.packed), (made.scale, plain.scale), (made.zero, plain.zero)):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def test_inputs_are_left_as_they_are():
    weight, H = normal(5, 150), hessian([correlated(100, 150)])
    before = weight.clone(), H.clone()
    gptq(weight, H)
    assert torch.equal(weight, before[0])
    assert torch.equal(H, before[1])


# --- a model's inputs ----------------------------------------------------------------------------------


def test_collects_what_each_linear_receives():
    model, tokens = tiny_model(), random_tokens(4, 11)
    found = collect_inputs(model, tokens.split(3))
    linears = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert set(found) == linears
    assert "head" in found
    first = model.blocks[0].attention_norm(model.embedding(tokens)).double().flatten(0, 1)
    close(found["blocks.0.attention.q"], 2 / 44 * first.T @ first, **FP32)
    assert torch.equal(found["blocks.0.attention.q"], found["blocks.0.attention.v"])
    assert found["blocks.1.mlp.down"].shape == (41, 41)
    assert found["blocks.1.attention.o"].shape == (15 * 14, 15 * 14)
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_the_head_receives_every_token():
    model, tokens = tiny_model(), random_tokens(2, 11)
    seen = []
    with model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        model(tokens)
    close(collect_inputs(model, [tokens])["head"], hessian(seen), **FP64)


def test_no_hook_is_left_after_an_error():
    model = tiny_model()
    with pytest.raises(ValueError, match="tokens"):
        collect_inputs(model, [torch.full((1, 3), 61)])
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_texts_are_cut_into_windows(bundled):
    text = inspect.getsource(inspect)[:5000]
    ids = torch.tensor([bundled.tokenizer.encode(text)])
    assert ids.shape[1] > 1024
    found = collect_inputs(bundled, [text])
    norm = bundled.blocks[0].attention_norm.weight.double()
    rows = bundled.embedding(ids)[0].double()
    rows = rows / (rows.square().mean(-1, keepdim=True) + bundled.config.norm_eps).sqrt() * norm
    close(found["blocks.0.attention.k"], hessian([rows]), **FP32)
    batches = collect_inputs(bundled, ids.split(512, 1))
    assert torch.equal(batches["blocks.5.mlp.down"], found["blocks.5.mlp.down"])


def test_real_layers_answer_better_on_text_they_were_not_calibrated_with(bundled):
    """Every fourth matrix of the bundled model; some of a file to calibrate, more of it to judge."""
    ids = torch.tensor(bundled.tokenizer.encode(inspect.getsource(inspect)[:40_000]))
    windows = ids[: len(ids) // 512 * 512].view(-1, 512)
    calibration, judged_by = collect_inputs(bundled, [windows[:7]]), collect_inputs(bundled, [windows[7:]])
    for name in list(calibration)[::4]:
        weight = bundled.get_submodule(name).weight
        ours = output_error(weight, gptq(weight, calibration[name]), judged_by[name])
        assert ours < 0.9 * output_error(weight, int4(weight), judged_by[name]), name


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "H",
    [torch.eye(4), torch.eye(5)[:4], torch.full((5, 5), float("nan"))],
    ids=["too small", "not square", "not finite"],
)
def test_a_hessian_that_does_not_fit(H):
    with unchecked(), pytest.raises(ValueError, match=r"hessian: expected finite numbers of shape \(5, 5\)"):
        gptq(normal(3, 5), H.double())


def test_a_hessian_that_is_none():
    H = -torch.eye(5, dtype=torch.float64)
    with pytest.raises(
        ValueError, match="hessian: expected positive definite, got one that is not at column 0"
    ):
        gptq(normal(3, 5), H)


def test_without_damping_few_inputs_do_not_determine_the_columns():
    H = torch.full((5, 5), 4.0, dtype=torch.float64)  # of inputs that are all alike
    with pytest.raises(ValueError, match="at column 1; calibrate with more text or raise the damping"):
        gptq(normal(3, 5), H, damping=0.0)


@pytest.mark.parametrize(
    ("weight", "group_size", "message"),
    [
        (torch.zeros(5), 64, "weight: expected a floating-point matrix"),
        (torch.full((2, 5), float("nan")), 64, "weight: expected finite numbers"),
        (torch.zeros(2, 5), 48, "group_size: expected 32, 64, 128; got 48"),
    ],
    ids=["vector", "NaN", "group size"],
)
def test_what_int4_refuses(weight, group_size, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        gptq(weight, torch.eye(5, dtype=torch.float64), group_size=group_size)


def test_nothing_to_calibrate_with():
    with pytest.raises(ValueError, match="inputs: expected at least one row, got none"):
        collect_inputs(tiny_model(), [])


def test_text_without_a_tokenizer():
    message = "calibration: expected batches of tokens for a model without a tokenizer, got text"
    with pytest.raises(ValueError, match=message):
        collect_inputs(tiny_model(tiny_config(tied=True)), ["def f():"])
