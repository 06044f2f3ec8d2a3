"""Bounds in time: by hand, part by part, on every device; what a measured time says of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import unchecked
from teachkit import cost, roofline
from teachkit.cost import Component, Cost
from teachkit.hardware import DEVICES, Device, device
from teachkit.shapes import shape

# 10 FLOPs in the time of a byte.
TOY = Device(
    "toy", 1.0, 100.0, {"fp16": 1000.0, "int8": 2000.0}, "https://example.org", link_bytes_per_s=50.0
)
LLAMA = shape("llama-2-7b").config
A100 = device("a100-80gb")


def step(*parts: Component) -> Cost:
    return Cost("decode", parts, 1)


def test_a_part_takes_as_long_as_its_slower_side_and_parts_add_up():
    bound = roofline.time_bound(
        step(
            Component("computes", flops=3000, weight_bytes=100),
            Component(
                "reads", flops=100, weight_bytes=100, activation_bytes=50, kv_read_bytes=40, kv_write_bytes=10
            ),
            Component("talks", link_bytes=100, messages=2),
        ),
        TOY,
    )
    assert [(p.name, p.seconds, p.side) for p in bound.parts] == [
        ("computes", 3.0, "compute"),
        ("reads", 2.0, "memory"),
        ("talks", 2.0, "link"),
    ]
    assert bound.seconds == 7.0
    assert bound.side == "compute"
    assert bound["reads"].compute_s == 0.1


def test_narrow_operands_use_their_own_peak():
    part = Component("mlp", flops=4000, bits=8)
    assert roofline.time_bound(step(part), TOY).seconds == 2.0


def test_efficiencies_divide_the_peaks():
    part = Component("mlp", flops=1000, weight_bytes=100)
    bound = roofline.time_bound(step(part), TOY, flops_efficiency=0.5, memory_efficiency=0.8)
    assert (bound["mlp"].compute_s, bound["mlp"].memory_s) == (2.0, 1.25)


def test_a_message_takes_at_least_its_latency():
    part = Component("communication", link_bytes=100, messages=4)  # 25 bytes each: 0.5 s
    assert roofline.time_bound(step(part), TOY).seconds == 2.0
    assert roofline.time_bound(step(part), TOY, message_s=0.75).seconds == 3.0


def test_decode_of_llama_2_7b_is_its_bytes_over_the_bandwidth():
    decode = cost.decode_step(LLAMA, 1, 1)
    bound = roofline.time_bound(decode, A100)
    assert bound.side == "memory"
    # 6.74 billion weights less the embedding of 131 million, 2 bytes each, at 2,039 GB/s.
    assert bound.seconds == pytest.approx(2 * (6_738_415_616 - 32000 * 4096) / 2.039e12, rel=1e-3)


def test_prefill_of_llama_2_7b_is_its_flops_over_the_peak():
    bound = roofline.time_bound(cost.prefill(LLAMA, 1, 2048), A100)
    assert bound.side == "compute"
    assert bound["mlp"].seconds == 2 * 2048 * 32 * 3 * 4096 * 11008 / 312e12


# F / BW, by hand from the data sheets.
RIDGES = {"v100-16gb": 125e12 / 900e9, "a100-40gb": 312e12 / 1555e9, "a100-80gb": 312e12 / 2039e9}


@pytest.mark.parametrize("name", RIDGES)
def test_ridge_and_critical_batch(name):
    assert roofline.ridge(device(name)) == pytest.approx(RIDGES[name])
    assert roofline.critical_batch(device(name)) == pytest.approx(RIDGES[name])


def test_quantizing_weights_alone_lowers_the_critical_batch_and_with_activations_it_stays():
    critical = roofline.critical_batch
    assert critical(A100, weight_bits=8) == pytest.approx(critical(A100) / 2)
    assert critical(A100, weight_bits=4) == pytest.approx(critical(A100) / 4)
    assert critical(A100, weight_bits=8, act_bits=8) == pytest.approx(critical(A100))


def test_critical_batch_is_where_the_two_sides_of_a_matrix_meet():
    """With next to no context and a wide model, activations and cache hardly count."""
    n = round(roofline.critical_batch(A100))
    below, above = (roofline.time_bound(cost.decode_step(LLAMA, b, 1), A100)["mlp"] for b in (n - 10, n + 30))
    assert (below.side, above.side) == ("memory", "compute")


def test_turning_batch_is_the_first_that_computes_for_most_of_the_time():
    n = roofline.turning_batch(LLAMA, A100, 16)
    sides = [roofline.time_bound(cost.decode_step(LLAMA, b, 16), A100).side for b in (n - 1, n)]
    assert sides == ["memory", "compute"]
    assert n > roofline.critical_batch(A100)


def test_with_a_long_context_no_batch_is_large_enough():
    assert roofline.turning_batch(LLAMA, A100, 4096) is None


def test_used_bandwidth_and_arithmetic_by_hand():
    made = step(Component("mlp", flops=500, weight_bytes=100))
    assert roofline.mbu(made, TOY, 4.0) == 0.25
    assert roofline.mfu(made, TOY, 4.0) == 0.125
    assert roofline.mfu(made, TOY, 4.0, bits=8) == 0.0625


def test_gpt_fast_s_published_speed_is_its_published_bandwidth():
    """104.9 tokens/s for Llama-2-7B in bf16 on an A100-80GB, printed beside 1,397 GB/s."""
    used = roofline.mbu(cost.decode_step(LLAMA, 1, 200), A100, 1 / 104.9)
    assert used == pytest.approx(1397 / 2039, rel=0.02)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_gives_a_finite_time_for_every_rate_it_has(name):
    for bits in (32, 16, 8, 4):
        try:
            DEVICES[name].peak(bits)
        except ValueError:
            continue
        made = cost.decode_step(LLAMA, 2, 100, weight_bits=bits, act_bits=bits, kv_bits=bits)
        assert 0 < roofline.time_bound(made, DEVICES[name]).seconds < math.inf


@given(st.integers(1, 500), st.integers(1, 4000), st.sampled_from([4, 8, 16]), st.sampled_from([8, 16]))
def test_more_is_never_faster_and_no_part_beats_its_bounds(batch, context, weight_bits, kv_bits):
    def at(batch, context, weight_bits, kv_bits):
        made = cost.decode_step(LLAMA, batch, context, weight_bits=weight_bits, kv_bits=kv_bits)
        return made, roofline.time_bound(made, A100)

    made, bound = at(batch, context, weight_bits, kv_bits)
    for more in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 4, 0), (0, 0, 0, 8)):
        changed = [a + b for a, b in zip((batch, context, weight_bits, kv_bits), more, strict=True)]
        if changed[3] <= 16:
            assert at(*changed)[1].seconds >= bound.seconds
    rounding = 1 - 1e-12  # sums in another order
    assert bound.seconds >= made.flops / A100.peak(16) * rounding
    assert bound.seconds >= made.bytes / A100.bytes_per_s * rounding
    assert bound.seconds == sum(part.seconds for part in bound.parts)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: roofline.time_bound(step(), TOY, flops_efficiency=0.0),
            "flops_efficiency: expected more than 0",
        ),
        (lambda: roofline.time_bound(step(), TOY, memory_efficiency=1.5), "memory_efficiency: .* got 1.5"),
        (lambda: roofline.mbu(step(), TOY, 0.0), "measured_s: expected a positive time, got 0"),
        (lambda: roofline.mfu(step(), TOY, -1.0), "measured_s: expected a positive time, got -1"),
        (lambda: roofline.mfu(step(), TOY, float("nan")), "measured_s: expected a positive time, got nan"),
        (
            lambda: roofline.time_bound(
                step(Component("c", link_bytes=1, messages=1)), replace(TOY, link_bytes_per_s=None)
            ),
            "toy has no published link",
        ),
        (
            lambda: roofline.time_bound(step(Component("mlp", flops=1, bits=4)), TOY),
            "no published rate for 4",
        ),
        (lambda: roofline.critical_batch(TOY, act_bits=32), "no published rate for 32"),
    ],
)
def test_bad_input_is_named(call, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        call()


def test_parts_have_names():
    bound = roofline.time_bound(step(Component("mlp", flops=1)), TOY)
    with pytest.raises(KeyError, match="mlp"):
        bound["head"]
