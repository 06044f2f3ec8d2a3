"""The decoder itself: what it refuses, and that cached, chunked, ragged and whole passes agree.

That the numbers are right is shown in test_families.py, against transformers.
"""

from __future__ import annotations

import pytest
import torch

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.cache import CacheFull, ContiguousCache, UncachedStep
from tolerance import LOGITS, TOLERANCE

DTYPES = [torch.float64, torch.float32]


def cache_of(model, batch, capacity=None):
    weight = model.embedding.weight
    return ContiguousCache(model.config, batch, capacity or model.config.context, dtype=weight.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prefill_then_steps_equal_one_pass(dtype):
    model, tokens = tiny_model(dtype=dtype), random_tokens(3, 17)
    cache = cache_of(model, 3)
    parts = [model(tokens[:, :7], cache=cache)]
    parts += [model(tokens[:, i : i + 1], cache=cache) for i in range(7, 17)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), **TOLERANCE[dtype])


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_chunks_equal_one_pass(chunk):
    model, tokens = tiny_model(dtype=torch.float64), random_tokens(2, 17)
    cache = cache_of(model, 2)
    parts = [model(part, cache=cache) for part in tokens.split(chunk, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), **TOLERANCE[torch.float64])


def test_rows_of_different_lengths_equal_each_alone():
    model, tokens = tiny_model(dtype=torch.float64), random_tokens(3, 19)
    cache = cache_of(model, 3)
    taken = [0, 0, 0]
    for n_new in ([11, 3, 7], [1, 13, 0], [2, 1, 5]):
        T = max(n_new)
        padded = torch.stack(
            [
                torch.nn.functional.pad(tokens[b, t : t + n], (0, T - n))
                for b, (t, n) in enumerate(zip(taken, n_new, strict=True))
            ]
        )
        logits = model(padded, step=cache.plan(n_new))
        for b, n in enumerate(n_new):
            alone = model(tokens[b : b + 1, : taken[b] + n])[0, taken[b] :]
            torch.testing.assert_close(logits[b, :n], alone, **TOLERANCE[torch.float64])
            taken[b] += n


def test_padding_is_read_by_nobody():
    model, tokens = tiny_model(dtype=torch.float64), random_tokens(2, 11)
    other = tokens.clone()
    other[1, 4:] = (other[1, 4:] + 1) % model.config.vocab_size
    first, second = cache_of(model, 2), cache_of(model, 2)
    a, b = model(tokens, step=first.plan([11, 4])), model(other, step=second.plan([11, 4]))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1, :4], b[1, :4])
    assert torch.equal(first.k, second.k)


def test_last_only_gives_the_last_valid_token_of_each_row():
    model, tokens = tiny_model(), random_tokens(2, 11)
    whole = model(tokens, step=cache_of(model, 2).plan([11, 4]))
    last = model(tokens, step=cache_of(model, 2).plan([11, 4]), last_only=True)
    assert last.shape == (2, 1, model.config.vocab_size)
    torch.testing.assert_close(
        last[:, 0], torch.stack([whole[0, 10], whole[1, 3]]), **TOLERANCE[torch.float32]
    )


def test_hidden_then_norm_then_project_is_the_forward_pass():
    model, tokens = tiny_model(), random_tokens(2, 7)
    x = model.hidden(tokens, UncachedStep(model.config, tokens))
    assert torch.equal(model.project(model.norm(x)), model(tokens))


@pytest.mark.parametrize("changes", [{"tied": True}, {"position": "learned"}, {"qk_norm": True}], ids=str)
def test_variations_stay_causal(changes):
    model = tiny_model(tiny_config(**changes), dtype=torch.float64)
    tokens = random_tokens(1, 13)
    other = tokens.clone()
    other[0, 9] = (other[0, 9] + 1) % model.config.vocab_size
    a, b = model(tokens), model(other)
    assert torch.equal(a[:, :9], b[:, :9])
    assert not torch.allclose(a[:, 9:], b[:, 9:])


def test_frequencies_survive_a_change_of_dtype():
    """model.to(bfloat16) must round weights, not angles: at position 50 that would be another position."""
    model = tiny_model()
    before = model._frequencies.clone()
    assert torch.equal(model.to(torch.bfloat16)._frequencies, before)


def test_half_precision_stays_near_fp32():
    model, tokens = tiny_model(), random_tokens(2, 13)
    expected = model(tokens)
    for dtype in (torch.bfloat16, torch.float16):
        logits = tiny_model(dtype=dtype)(tokens)
        assert logits.dtype == dtype
        torch.testing.assert_close(logits.float(), expected, **LOGITS[dtype])


@pytest.mark.parametrize("token", [-1, 61])
def test_token_outside_the_vocabulary(token):
    tokens = random_tokens(2, 5)
    tokens[1, 3] = token
    with pytest.raises(ValueError, match=f"tokens: expected ids from 0 to 60, got {token}"):
        tiny_model()(tokens)


def test_longer_than_the_context():
    with pytest.raises(ValueError, match="at most the context of 53 tokens, got 54"):
        tiny_model()(random_tokens(1, 54))


@pytest.mark.parametrize(
    "tokens", [torch.zeros(1, 0, dtype=torch.long), torch.zeros(5, dtype=torch.long)], ids=str
)
def test_tokens_of_another_shape(tokens):
    with unchecked(), pytest.raises(ValueError, match="expected integers of shape"):
        tiny_model()(tokens)


def test_tokens_that_are_no_integers():
    with unchecked(), pytest.raises(ValueError, match="expected integers of shape"):
        tiny_model()(torch.zeros(1, 3))


def test_cache_and_step_together():
    model, tokens = tiny_model(), random_tokens(1, 3)
    cache = cache_of(model, 1)
    with pytest.raises(ValueError, match="expected one of them, got both"):
        model(tokens, cache=cache, step=cache.plan([3]))


def test_tokens_that_do_not_fit_the_plan():
    model = tiny_model()
    with pytest.raises(ValueError, match=r"expected \(1, 3\) as planned, got \(1, 4\)"):
        model(random_tokens(1, 4), step=cache_of(model, 1).plan([3]))


def test_full_cache_is_left_as_it_was():
    model = tiny_model()
    cache = cache_of(model, 1, capacity=7)
    model(random_tokens(1, 5), cache=cache)
    stored = cache.k.clone()
    with pytest.raises(CacheFull):
        model(random_tokens(1, 3), cache=cache)
    assert cache.lengths.tolist() == [5]
    assert torch.equal(cache.k, stored)
    model(random_tokens(1, 2), cache=cache)  # what fits still fits


def test_training_reaches_every_parameter():
    """The script that trains the bundled checkpoint uses this very decoder."""
    model = tk.Decoder(tiny_config(tied=True))
    tokens = random_tokens(2, 7)
    loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
