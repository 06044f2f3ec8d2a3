"""Samplers, by distribution: drawn frequencies, exact probabilities, two independent oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import teachkit as tk
from teachkit.sampling import Sampler, greedy, probabilities, sampler
from tolerance import TOLERANCE

close = torch.testing.assert_close
FP32 = TOLERANCE[torch.float32]
INF = float("inf")


def random_logits(*shape, seed=0):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_sorting(logits, *, temperature=1.0, top_k=None, top_p=None):
    """The definition for one row, in Python floats; NumPy only for the result."""
    exps = [math.exp((x - max(logits)) / temperature) for x in logits]
    probs = [e / sum(exps) for e in exps]
    order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
    kept = order if top_k is None else order[:top_k]
    total, held, nucleus = sum(probs[i] for i in kept), 0.0, []
    for i in kept:
        if top_p is not None and held >= top_p:
            break
        nucleus.append(i)
        held += probs[i] / total
    result = np.zeros(len(probs))
    result[nucleus] = [probs[i] for i in nucleus]
    return result / result.sum()


# --- probabilities -------------------------------------------------------------------------------------


HALVES = torch.tensor([0.25, 0.5, 0.125, 0.125]).log()  # sums of these are exact in binary


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({}, [0.25, 0.5, 0.125, 0.125]),
        ({"temperature": 0.5}, [4 / 22, 16 / 22, 1 / 22, 1 / 22]),  # squares: 1/16, 1/4, 1/64, 1/64
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [1 / 3, 2 / 3, 0, 0]),
        ({"top_k": 3}, [2 / 7, 4 / 7, 1 / 7, 0]),  # of equals, the first
        ({"top_k": 4}, [0.25, 0.5, 0.125, 0.125]),
        ({"top_k": 5}, [0.25, 0.5, 0.125, 0.125]),
        ({"top_p": 1e-9}, [0, 1, 0, 0]),  # never none
        ({"top_p": 0.4}, [0, 1, 0, 0]),
        ({"top_p": 0.6}, [1 / 3, 2 / 3, 0, 0]),  # 0.5 is not enough
        ({"top_p": 0.8}, [2 / 7, 4 / 7, 1 / 7, 0]),
        ({"top_p": 1.0}, [0.25, 0.5, 0.125, 0.125]),
        ({"top_k": 2, "top_p": 0.6}, [0, 1, 0, 0]),  # of the two, 2/3 is enough
        ({"top_k": 2, "top_p": 0.7}, [1 / 3, 2 / 3, 0, 0]),
        ({"temperature": 0.5, "top_p": 0.7}, [0, 1, 0, 0]),  # temperature first: 16/22 is enough
        ({"temperature": 0.0, "top_k": 2, "top_p": 0.7}, [0, 1, 0, 0]),
    ],
    ids=str,
)
def test_probabilities_by_hand(settings_, expected):
    close(probabilities(HALVES, **settings_), torch.tensor(expected, dtype=torch.float32), **FP32)


@pytest.mark.parametrize(("top_p", "kept"), [(0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_top_p_stops_as_soon_as_p_is_reached(top_p, kept):
    # Equal logits: each probability is 1/4 exactly.
    probs = probabilities(torch.zeros(4), top_p=top_p)
    close(probs, torch.tensor([1 / kept] * kept + [0.0] * (4 - kept)), **FP32)


GRID = [
    {},
    {"temperature": 0.7},
    {"temperature": 2.0},
    {"top_k": 5},
    {"top_p": 0.9},
    {"temperature": 1.5, "top_k": 7, "top_p": 0.8},
    {"temperature": 0.3, "top_k": 100, "top_p": 0.99},
]


@pytest.mark.parametrize("settings_", GRID, ids=str)
def test_equals_sorting(settings_):
    logits = random_logits(3, 5, 23)
    expected = [[by_sorting(row, **settings_) for row in rows] for rows in logits.tolist()]
    close(probabilities(logits, **settings_), torch.tensor(np.array(expected)).float(), **FP32)


@pytest.mark.parametrize("settings_", GRID, ids=str)
def test_equals_transformers(settings_):
    from transformers.generation import logits_process as theirs

    logits = random_logits(7, 61)
    scores = theirs.TemperatureLogitsWarper(settings_.get("temperature", 1.0))(None, logits)
    if "top_k" in settings_:
        scores = theirs.TopKLogitsWarper(settings_["top_k"])(None, scores)
    if "top_p" in settings_:
        scores = theirs.TopPLogitsWarper(settings_["top_p"])(None, scores)
    close(probabilities(logits, **settings_), scores.softmax(-1), **FP32)


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=13),
    temperature=st.floats(0.05, 20),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_properties(logits, temperature, top_k, top_p):
    logits = torch.tensor(logits)
    probs = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    full = probabilities(logits, temperature=temperature)
    kept = probs > 0
    close(probs.sum(), torch.tensor(1.0), **FP32)
    assert kept[logits.argmax()]
    assert kept.sum() <= (top_k or len(logits))
    # What is kept is at least as likely as what is not, and its proportions are those of the softmax.
    assert full[kept].min() >= full[~kept].max() if (~kept).any() else True
    close(probs[kept] * full[kept].sum(), full[kept], **FP32)


def test_a_constant_added_to_all_logits_changes_nothing():
    logits = (random_logits(5, 7) * 8).round() / 8  # so that the sum is exact
    settings_ = {"temperature": 0.5, "top_k": 5, "top_p": 0.9}
    assert torch.equal(probabilities(logits, **settings_), probabilities(logits + 100, **settings_))


def test_top_p_of_one_keeps_every_token():
    # The running sum of 4,099 probabilities, rounded, may reach 1 before the last of them.
    logits = random_logits(5, 4099)
    assert torch.equal(probabilities(logits, top_p=1.0), probabilities(logits))


def test_low_temperature_tends_to_greedy_and_high_to_uniform():
    logits = random_logits(5, 7)
    cold = probabilities(logits, temperature=1e-3)
    close(cold, probabilities(logits, temperature=0.0), **FP32)
    close(probabilities(logits, temperature=1e9), torch.full((5, 7), 1 / 7), **FP32)


def test_minus_infinity_is_never_chosen():
    logits = torch.tensor([0.0, -INF, 0.0, -INF])
    for settings_ in ({}, {"top_k": 3}, {"top_p": 1.0}, {"temperature": 0.5}):
        close(probabilities(logits, **settings_), torch.tensor([0.5, 0, 0.5, 0]), **FP32)
    assert probabilities(torch.tensor([-INF, 2.0]), temperature=0.0).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_logits_give_fp32(dtype):
    logits = random_logits(5, 7).to(dtype)
    probs = probabilities(logits, temperature=0.7, top_p=0.9)
    assert probs.dtype == torch.float32
    close(probs, probabilities(logits.float(), temperature=0.7, top_p=0.9), **FP32)


def test_logits_are_not_changed():
    logits = random_logits(3, 7)
    before = logits.clone()
    probabilities(logits, temperature=0.5, top_k=2, top_p=0.5)
    assert torch.equal(logits, before)


# --- what is drawn -------------------------------------------------------------------------------------


N = 20_011
# Chi-square that N honest draws exceed once in 10,000 times, by degrees of freedom (kinds of token less one).
CHI_SQUARE = {1: 15.14, 2: 18.42, 3: 21.11, 4: 23.51, 5: 25.74, 6: 27.86}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "settings_",
    [{}, {"temperature": 0.6}, {"temperature": 3.0}, {"top_k": 3}, {"top_p": 0.9},
     {"temperature": 2.0, "top_k": 4, "top_p": 0.95}],
    ids=str,
)  # fmt: skip
def test_draws_follow_the_probabilities(settings_, seed):
    logits = torch.tensor([1.0, 0.0, -0.5, 2.0, 0.5, -2.0, 0.2])
    draw = sampler(**settings_)
    tokens = draw(logits.expand(N, 7), torch.Generator().manual_seed(seed))
    counts = np.bincount(tokens.numpy(), minlength=7)
    expected = N * by_sorting(logits.tolist(), **settings_)
    kept = expected > 0
    assert counts.sum() == N
    assert counts[~kept].sum() == 0
    assert (((counts - expected) ** 2)[kept] / expected[kept]).sum() < CHI_SQUARE[kept.sum() - 1]


def test_rows_are_drawn_each_from_its_own_logits():
    logits = torch.full((3, 5), -INF)
    logits[[0, 1, 2], [4, 0, 2]] = 0.0
    assert sampler()(logits).tolist() == [4, 0, 2]


def test_equal_seeds_repeat_and_others_do_not():
    draw, logits = sampler(temperature=1.3, top_k=11), random_logits(1, 23).expand(31, 23)
    first, again, other = (draw(logits, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_the_given_generator_is_used():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sampler()(random_logits(3, 7), torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    sampler()(random_logits(3, 7))
    assert not torch.equal(torch.get_rng_state(), before)


def test_greedy_takes_the_most_likely_and_of_equals_the_first():
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0], [-1.0, -2.0, -3.0, -INF]])
    tokens = greedy(logits)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == greedy(logits, torch.Generator()).tolist() == [1, 0]
    assert sampler(temperature=0.0)(logits).tolist() == [1, 0]


def test_both_are_samplers_and_stand_at_the_top():
    assert isinstance(greedy, Sampler)
    assert isinstance(sampler(), Sampler)
    assert (tk.greedy, tk.sampler) == (greedy, sampler)


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"temperature": -0.1}, "temperature: expected a finite number of at least 0, got -0.1"),
        ({"temperature": INF}, "temperature: expected a finite number of at least 0, got inf"),
        ({"temperature": float("nan")}, "temperature: expected a finite number of at least 0, got nan"),
        ({"top_k": 0}, "top_k: expected at least 1, got 0"),
        ({"top_k": -1}, "top_k: expected at least 1, got -1"),
        ({"top_p": 0.0}, r"top_p: expected a number in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p: expected a number in \(0, 1\], got 1.1"),
        ({"top_p": float("nan")}, r"top_p: expected a number in \(0, 1\], got nan"),
    ],
    ids=str,
)
def test_settings_out_of_range(settings_, message):
    with pytest.raises(ValueError, match=message):
        probabilities(torch.zeros(3), **settings_)
    with pytest.raises(ValueError, match=message):  # at once, not at the first draw
        sampler(**settings_)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "row", [[0.0, float("nan"), 1.0], [0.0, INF, 1.0], [-INF, float("nan"), -INF], [-INF] * 3], ids=str
)
def test_logits_without_a_distribution(row, temperature):
    logits = torch.stack((torch.zeros(3), torch.tensor(row)))
    with pytest.raises(ValueError, match="logits: expected finite numbers"):
        probabilities(logits, temperature=temperature)
    with pytest.raises(ValueError, match="logits: expected finite numbers"):
        sampler(temperature=temperature)(logits)
