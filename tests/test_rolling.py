"""The rolling cache: against a mask on recomputation, against transformers, and against plain lists."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from families import FAMILIES, VOCAB, oracle, oracle_logits, write
from teachkit.cache import Cache, CacheFull, ContiguousCache, LayerView, RollingCache, Step, UncachedStep
from teachkit.rolling import Ring
from tolerance import LOGITS, TOLERANCE

close = torch.testing.assert_close
FP64 = torch.float64
WINDOW, T = 5, 23  # a text of more than four windows
VARIANTS = {
    "rotary": {"windows": (WINDOW, WINDOW)},
    "learned": {"windows": (WINDOW, WINDOW), "position": "learned"},
    "window in one layer": {"windows": (None, WINDOW)},
    "windows that differ": {"windows": (WINDOW, 11)},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys(), scope="module")
def model(request):
    return tiny_model(tiny_config(**request.param), dtype=FP64)


@pytest.fixture(scope="module")
def plain():
    """A model without a window."""
    return tiny_model(dtype=FP64)


def new_cache(model, batch=2, dtype=FP64, **options):
    return RollingCache(model.config, batch, dtype=dtype, **options)


def normal(*shape, seed, dtype=FP64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FP64).to(dtype)


def in_pieces(model, cache, tokens, sizes):
    """Logits of a text that goes through the cache in pieces of these sizes, each in turn until its end."""
    parts, at = [], 0
    while at < tokens.shape[1]:
        size = sizes[len(parts) % len(sizes)]
        parts.append(model(tokens[:, at : at + size], cache=cache))
        at += size
    return torch.cat(parts, 1)


class MaskedStep(UncachedStep):
    """The oracle: recomputation with the mask written out, one pair of positions at a time."""

    def __init__(self, config, tokens, window, sinks):
        super().__init__(config, tokens)
        places = range(tokens.shape[1])
        seen = [[j <= i and (j > i - window or j < sinks) for j in places] for i in places]
        self.mask = torch.tensor(seen)

    def layer(self, index):
        return MaskedLayer(self.mask)


class MaskedLayer:
    def __init__(self, mask):
        self.mask = mask

    def attend(self, q, k, v, *, scale=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=True, scale=scale)


# --- by hand -------------------------------------------------------------------------------------------


def test_keeps_the_protocol():
    cache = RollingCache(tiny_config(), 2, window=3)
    step = cache.plan([1, 3])
    assert isinstance(cache, Cache)
    assert isinstance(step, Step)
    assert isinstance(step.layer(1), LayerView)


def test_is_one_of_the_caches():
    assert tk.cache.RollingCache is RollingCache
    assert tk.cache.RollingCache.__module__ == "teachkit.rolling"


@pytest.mark.parametrize(
    ("window", "sinks", "slots"),
    [
        (3, 0, [0, 1, 2, 0, 1, 2, 0, 1]),
        (3, 2, [0, 1, 2, 3, 4, 2, 3, 4]),
        (1, 0, [0, 0, 0, 0, 0, 0, 0, 0]),
        (1, 3, [0, 1, 2, 3, 3, 3, 3, 3]),
    ],
)
def test_slots_by_hand(window, sinks, slots):
    assert [Ring(window, sinks).slot(position) for position in range(8)] == slots


@pytest.mark.parametrize(
    ("length", "held"),
    [
        (0, [-1, -1, -1, -1]),
        (1, [0, -1, -1, -1]),
        (3, [0, 1, 2, -1]),
        (4, [0, 1, 2, 3]),
        (5, [0, 4, 2, 3]),
        (6, [0, 4, 5, 3]),
        (9, [0, 7, 8, 6]),
    ],
)
def test_what_each_slot_holds_by_hand(length, held):
    assert Ring(3, 1).positions(torch.tensor([length]), 4).tolist() == [held]


def test_what_a_query_sees_by_hand():
    keys = torch.tensor([[0, 4, 5, 3, 6, -1]])
    seen = Ring(3, 1).visible(torch.tensor([[5, 6]]), keys)
    assert seen.int().tolist() == [[[[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]]]]


def test_stores_each_key_in_its_slot():
    cache = RollingCache(tiny_config(), 1, window=3, sinks=1, dtype=FP64)
    k, v = normal(1, 3, 9, 14, seed=1), normal(1, 3, 9, 14, seed=2)
    q = normal(1, 15, 9, 14, seed=3)
    cache.plan([2]).layer(0).attend(q[:, :, :2], k[:, :, :2], v[:, :, :2])
    assert torch.equal(cache.k[0][0, :, :2], k[0, :, :2])
    assert (cache.k[0][0, :, 2:] == 0).all()
    cache.plan([7]).layer(0).attend(q[:, :, 2:], k[:, :, 2:], v[:, :, 2:])
    assert torch.equal(cache.k[0][0], k[0, :, [0, 7, 8, 6]])
    assert torch.equal(cache.v[0][0], v[0, :, [0, 7, 8, 6]])
    assert (cache.k[1] == 0).all()


@pytest.mark.parametrize("earlier", [0, 1, 2, 4, 9])
def test_no_slot_is_written_twice_in_one_pass(earlier):
    """Which of two writes to one place counts is not defined on a GPU."""
    cache = RollingCache(tiny_config(windows=(3, None)), 2, sinks=2)
    if earlier:
        cache.plan([earlier, earlier // 2])
    for n_new in ([11, 11], [1, 13]):
        for turn in cache.plan(n_new)._turns.values():
            places = list(zip(turn.rows.tolist(), turn.slots.tolist(), strict=True))
            assert len(set(places)) == len(places)


def test_attention_in_a_window_by_hand():
    cache = RollingCache(tiny_config(), 1, window=2, sinks=1)
    q = torch.zeros(1, 3, 6, 14)  # every key counts the same
    v = torch.tensor([1.0, 2.0, 6.0, 10.0, 20.0, 30.0]).view(1, 1, 6, 1).expand(1, 3, 6, 14)
    expected = torch.tensor([1.0, 1.5, 3.0, 17 / 3, 31 / 3, 17.0])
    first = cache.plan([5]).layer(0).attend(q[:, :, :5], q[:, :, :5], v[:, :, :5])
    last = cache.plan([1]).layer(0).attend(q[:, :, 5:], q[:, :, 5:], v[:, :, 5:])
    close(torch.cat((first, last), 2)[0, 0, :, 0], expected, **TOLERANCE[torch.float32])


def test_positions_go_on_while_slots_repeat():
    cache = RollingCache(tiny_config(), 2, window=3)
    cache.plan([10, 2])
    step = cache.plan([2, 1])
    assert step.positions.tolist()[0] == [10, 11]
    assert step.positions.tolist()[1][0] == 2
    assert step.valid.tolist() == [[True, True], [True, False]]
    assert cache.lengths.tolist() == [12, 3]
    assert (cache.capacity, cache.k[0].shape[2]) == (53, 3)


# --- the same logits as a mask -------------------------------------------------------------------------


# Shorter than the window, as long, longer, several windows long; unequal ones; below, at and beyond it.
@pytest.mark.parametrize(
    "sizes", [[1], [2], [4], [5], [6], [13], [23], [5, 1], [4, 1], [6, 1], [1, 7, 2], [12, 5]], ids=str
)
def test_chunks_equal_recomputation(model, sizes):
    tokens, cache = random_tokens(2, T), new_cache(model)
    close(in_pieces(model, cache, tokens, sizes), model(tokens), **LOGITS[FP64])
    assert cache.lengths.tolist() == [T, T]


@pytest.mark.parametrize("sizes", [[3, 1], [7]], ids=str)
def test_fp32(sizes):
    model, tokens = tiny_model(tiny_config(windows=(WINDOW, WINDOW))), random_tokens(2, T)
    cache = RollingCache(model.config, 2)
    assert cache.k[0].dtype == torch.float32
    close(in_pieces(model, cache, tokens, sizes), model(tokens), **LOGITS[torch.float32])


def test_equals_a_contiguous_cache_under_the_same_mask(model):
    tokens, sizes = random_tokens(2, T), [4, 1, 9]
    full = ContiguousCache(model.config, 2, T, dtype=FP64)
    theirs = in_pieces(model, full, tokens, sizes)
    close(in_pieces(model, new_cache(model), tokens, sizes), theirs, **LOGITS[FP64])


def test_a_window_that_the_model_does_not_have(plain):
    tokens = random_tokens(2, T)
    windowed = tiny_model(replace(plain.config, windows=(7, 7)), dtype=FP64)
    ours = in_pieces(plain, new_cache(plain, window=7), tokens, [9, 1])
    close(ours, windowed(tokens), **LOGITS[FP64])
    assert (ours[:, :7] - plain(tokens)[:, :7]).abs().max() < 1e-10
    assert (ours[:, 7:] - plain(tokens)[:, 7:]).abs().amax(-1).min() > 1e-3


def test_a_window_of_the_whole_text_is_none(plain):
    tokens = random_tokens(2, T)
    close(in_pieces(plain, new_cache(plain, window=T), tokens, [5, 1]), plain(tokens), **LOGITS[FP64])


@pytest.mark.parametrize("sinks", [0, 1, 3, 30])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("sizes", [[1], [6, 1], [2], [13]], ids=str)
def test_sinks_equal_a_mask(plain, sinks, window, sizes):
    tokens = random_tokens(2, T)
    theirs = plain(tokens, step=MaskedStep(plain.config, tokens, window, sinks))
    cache = new_cache(plain, window=window, sinks=sinks)
    close(in_pieces(plain, cache, tokens, sizes), theirs, **LOGITS[FP64])


def test_sinks_beside_the_window_of_the_model():
    model, tokens = tiny_model(tiny_config(windows=(4, 4)), dtype=FP64), random_tokens(2, T)
    theirs = model(tokens, step=MaskedStep(model.config, tokens, 4, 2))
    close(in_pieces(model, new_cache(model, sinks=2), tokens, [5, 1]), theirs, **LOGITS[FP64])
    assert (theirs - model(tokens)).abs().max() > 1e-3


# Rows that differ in what they hold, in what they add, in both; each falls out of step with the window.
RAGGED = [[5, 2, 3], [1, 0, 4], [0, 7, 0], [2, 2, 2], [1, 1, 1], [1, 0, 0], [0, 1, 1], [9, 3, 1], [1, 1, 1]]


@pytest.mark.parametrize("sinks", [0, 2])
def test_ragged_rows_equal_each_row_alone(model, sinks):
    tokens, cache, held = random_tokens(3, 25), new_cache(model, 3, sinks=sinks), [0, 0, 0]
    alone = [in_pieces(model, new_cache(model, 1, sinks=sinks), row[None], [1])[0] for row in tokens]
    if not sinks:
        alone = [model(row[None])[0] for row in tokens]
    for n_new in RAGGED:
        step = cache.plan(n_new)
        padded = torch.full((3, max(n_new)), 59)
        for row, n in enumerate(n_new):
            padded[row, :n] = tokens[row, held[row] : held[row] + n]
        logits = model(padded, step=step)
        for row, n in enumerate(n_new):
            close(logits[row, :n], alone[row][held[row] : held[row] + n], **LOGITS[FP64])
            held[row] += n
    assert cache.lengths.tolist() == held == [20, 17, 13]


def test_what_padding_holds_changes_nothing(model):
    tokens, results = random_tokens(2, 13), []
    for filler in (3, 59):
        cache = new_cache(model)
        padded = tokens.clone()
        padded[1, 2:] = filler
        logits = model(padded, step=cache.plan([13, 2]))
        results.append((logits[0], logits[1, :2], *cache.k, *cache.v))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_two_plans_made_before_either_runs(model):
    tokens, cache = random_tokens(2, 13), new_cache(model)
    first, second = cache.plan([7, 7]), cache.plan([6, 6])
    logits = [model(tokens[:, :7], step=first), model(tokens[:, 7:], step=second)]
    close(torch.cat(logits, 1), model(tokens), **LOGITS[FP64])


def test_rows_at_the_end_take_no_harm_from_the_padding_of_others(plain):
    model = tiny_model(tiny_config(context=5, windows=(2, None)), dtype=FP64)
    tokens, cache = random_tokens(2, 5), new_cache(model)
    model(tokens[:, :4], step=cache.plan([4, 0]))
    padded = torch.stack((tokens[0, 4].repeat(5), tokens[1]))
    logits = model(padded, step=cache.plan([1, 5]))
    close(logits[0, 0], model(tokens[:1])[0, 4], **LOGITS[FP64])
    close(logits[1], model(tokens[1:])[0], **LOGITS[FP64])


# --- the same logits as transformers -------------------------------------------------------------------


@pytest.fixture(scope="module", params=["Mistral, window", "Qwen2.5, window"])
def checkpoint(request, tmp_path_factory):
    """Windows of 7 in both layers; of 11 in the last two of three."""
    return write(FAMILIES[request.param], tmp_path_factory.mktemp("windowed"), seed=3)


TEXT = 41  # tokens: nearly six windows of Mistral, nearly four of Qwen


@pytest.mark.parametrize("sizes", [[1], [6, 1], [7], [19, 3], [41]], ids=str)
def test_transformers_without_its_cache(checkpoint, sizes):
    model, tokens = tk.load(checkpoint), random_tokens(2, TEXT, vocab_size=VOCAB)
    theirs = oracle_logits(oracle(checkpoint), tokens)
    close(in_pieces(model, RollingCache(model.config, 2), tokens, sizes), theirs, **LOGITS[torch.float32])


@torch.inference_mode()
def test_transformers_with_its_cache(checkpoint):
    model, tokens = tk.load(checkpoint), random_tokens(2, TEXT, vocab_size=VOCAB)
    other = oracle(checkpoint)
    kept, parts = transformers.DynamicCache(config=other.config), []
    for at, n in [(0, 17)] + [(t, 1) for t in range(17, TEXT)]:
        parts.append(other(tokens[:, at : at + n], past_key_values=kept, use_cache=True).logits)
    assert kept.layers[-1].keys.shape[2] < 17  # theirs has let tokens go too
    cache = RollingCache(model.config, 2)
    ours = torch.cat([model(tokens[:, :17], cache=cache), in_pieces(model, cache, tokens[:, 17:], [1])], 1)
    close(ours, torch.cat(parts, 1), **LOGITS[torch.float32])


# --- memory --------------------------------------------------------------------------------------------


def test_bytes_do_not_depend_on_the_text(plain):
    cache = new_cache(plain, window=5, sinks=2)
    places = [part.data_ptr() for part in (*cache.k, *cache.v)]
    assert cache.nbytes == 2 * 2 * 2 * 3 * (5 + 2) * 14 * 8  # K and V, L, B, Hkv, tokens, D, itemsize
    for n in (3, 1, 19, 30):
        plain(random_tokens(2, n), cache=cache)
        assert cache.nbytes == 2 * 2 * 2 * 3 * (5 + 2) * 14 * 8
        assert [part.data_ptr() for part in (*cache.k, *cache.v)] == places
    assert cache.lengths.tolist() == [53, 53]


def test_bytes_do_not_depend_on_the_capacity():
    sizes = {RollingCache(tiny_config(context=n), 1, n, window=5).nbytes for n in (7, 53, 4001)}
    assert sizes == {2 * 2 * 3 * 5 * 14 * 4}


def test_bytes_of_layers_that_need_all():
    cache = RollingCache(tiny_config(windows=(None, 5)), 3, 17, sinks=2, dtype=torch.bfloat16)
    assert cache.nbytes == 2 * 3 * 3 * (17 + 5 + 2) * 14 * 2


def test_no_more_slots_than_the_capacity():
    assert RollingCache(tiny_config(), 1, 5, window=7, sinks=3).nbytes == 2 * 2 * 3 * 5 * 14 * 4
    assert RollingCache(tiny_config(windows=(101, 101)), 1).k[0].shape[2] == 53  # a window beyond the context


@pytest.mark.parametrize("n_new", [[13, 13], [13, 8]], ids=["aligned", "ragged"])
def test_lower_precision_than_the_model(n_new):
    cache = RollingCache(tiny_config(), 2, window=5, dtype=torch.bfloat16)
    q, k, v = (normal(2, heads, 14, 14, seed=i, dtype=torch.float32) for i, heads in enumerate((15, 3, 3)))
    rounded = [x.bfloat16().float() for x in (k, v)]
    mask = torch.ones(14, 14, dtype=torch.bool).tril().triu(-4)
    theirs = F.scaled_dot_product_attention(q, *rounded, attn_mask=mask, enable_gqa=True)
    out = cache.plan(n_new).layer(0).attend(q[:, :, :13], k[:, :, :13], v[:, :, :13])
    assert cache.k[0].dtype == cache.v[0].dtype == torch.bfloat16
    assert out.dtype == torch.float32
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **TOLERANCE[torch.float32])
    last = [torch.stack([x[row, :, n] for row, n in enumerate(n_new)])[:, :, None] for x in (q, k, v)]
    out = cache.plan([1, 1]).layer(0).attend(*last)
    for row, n in enumerate(n_new):
        close(out[row, :, 0], theirs[row, :, n], **TOLERANCE[torch.float32])


def test_scale_reaches_attention():
    q, k, v = (normal(1, heads, 1, 14, seed=heads) for heads in (15, 3, 5))
    v = v[:, :3]
    cache = RollingCache(tiny_config(), 1, window=3, dtype=FP64)
    cache.plan([1]).layer(0).attend(q, k, v)
    out = cache.plan([1]).layer(0).attend(q, 2 * k, 3 * v, scale=0.7)
    pair = [torch.cat((x, n * x), 2) for n, x in ((2, k), (3, v))]
    close(out, F.scaled_dot_product_attention(q, *pair, enable_gqa=True, scale=0.7), **TOLERANCE[FP64])


def test_lives_on_the_device_given():
    cache = RollingCache(tiny_config(), 2, window=3, device="meta")
    assert {part.device.type for part in (*cache.k, *cache.v, cache.lengths)} == {"meta"}
    step = cache.plan([4, 5])
    assert step.positions.device.type == step.valid.device.type == "meta"
    out = step.layer(0).attend(*(torch.empty(2, h, 5, 14, device="meta") for h in (15, 3, 3)))
    assert out.shape == (2, 15, 5, 14)


# --- generation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 3], ids=str)
def test_generates_past_the_size_of_the_buffer(model, chunk):
    prompt = random_tokens(1, 9)[0].tolist()
    done = tk.generate(model, prompt, 30, cache=new_cache(model, 1), prefill_chunk=chunk)
    text = prompt + done.tokens
    logits = model(torch.tensor([text]))[0]
    assert done.tokens == logits[8:-1].argmax(-1).tolist()
    assert len(done.tokens) == 30
    assert new_cache(model, 1).k[1].shape[2] < len(text)


def test_generates_to_the_end_of_the_context(plain):
    done = tk.generate(plain, [1, 2, 3], 99, cache=new_cache(plain, 1, window=5, sinks=1))
    assert (done.finish, len(done.tokens)) == ("context", 50)


# --- truncation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("reached", [3, 5, 7, 8, 19])
def test_truncates_where_the_window_is_whole_and_nowhere_else(plain, reached, sinks):
    tokens, other = random_tokens(1, reached), random_tokens(1, 9, seed=1)
    for length in range(reached + 1):
        cache = new_cache(plain, 1, window=5, sinks=sinks)
        plain(tokens, cache=cache)
        if reached > 5 + sinks and sinks < length < reached - 1:
            before = [part.clone() for part in (*cache.k, *cache.v)]
            with pytest.raises(
                ValueError, match=f"length: expected at least {reached - 1} or at most {sinks}"
            ):
                cache.truncate(0, length)
            assert cache.lengths.tolist() == [reached]
            assert all(map(torch.equal, (*cache.k, *cache.v), before))
            continue
        cache.truncate(0, length)
        assert cache.lengths.tolist() == [length]
        text = torch.cat((tokens[:, :length], other), 1)
        theirs = plain(text, step=MaskedStep(plain.config, text, 5, sinks))
        close(in_pieces(plain, cache, other, [1, 3]), theirs[:, length:], **LOGITS[FP64])


def test_one_token_back_only_once(plain):
    cache = new_cache(plain, 2, window=5)
    plain(random_tokens(2, 11), cache=cache)
    cache.truncate(1, 10)
    with pytest.raises(
        ValueError, match="at least 10 or at most 0, got 9: row 1 has reached 11 tokens, and those before 6"
    ):
        cache.truncate(1, 9)
    cache.truncate(1, 0)
    cache.plan([0, 4])
    cache.truncate(1, 2)  # a row that starts anew has lost nothing yet
    assert cache.lengths.tolist() == [11, 2]


def test_truncation_in_a_model_with_two_windows_follows_the_smaller():
    cache = RollingCache(tiny_config(windows=(5, 11)), 1)
    cache.plan([7])
    with pytest.raises(ValueError, match="those before 2 left the window"):
        cache.truncate(0, 4)


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_only_shortens(length):
    cache = RollingCache(tiny_config(), 2, window=5)
    cache.plan([5, 3])
    with pytest.raises(ValueError, match=rf"length: expected 0 to 3 \(held by row 1\), got {length}"):
        cache.truncate(1, length)


# --- errors --------------------------------------------------------------------------------------------


def test_full_at_the_context_whatever_the_window(plain):
    cache = new_cache(plain, window=5)
    plain(random_tokens(2, 50), cache=cache)
    before = [part.clone() for part in (*cache.k, *cache.v)]
    with pytest.raises(CacheFull, match="row 0: 50 tokens held and 4 new exceed the capacity of 53"):
        cache.plan([4, 1])
    assert cache.lengths.tolist() == [50, 50]
    assert all(map(torch.equal, (*cache.k, *cache.v), before))
    cache.plan([3, 3])


def test_full_at_a_capacity_that_was_asked_for():
    cache = RollingCache(tiny_config(), 1, 11, window=5)
    with pytest.raises(CacheFull, match="12 new exceed the capacity of 11; make the cache larger"):
        cache.plan([12])


def test_what_a_refused_plan_wanted_is_not_taken_for_reached():
    cache = RollingCache(tiny_config(), 1, 11, window=5)
    cache.plan([4])
    with pytest.raises(CacheFull):
        cache.plan([8])
    cache.truncate(0, 2)
    assert cache.lengths.tolist() == [2]


@pytest.mark.parametrize("window", [0, -3])
def test_windows_below_one(window):
    with pytest.raises(ValueError, match=rf"window: expected at least 1 \(the token itself\), got {window}"):
        RollingCache(tiny_config(), 1, window=window)


def test_window_up_to_the_context():
    assert RollingCache(tiny_config(), 1, window=53).k[0].shape[2] == 53


def test_window_beyond_the_context():
    with pytest.raises(ValueError, match="window: expected at most the model's context of 53 tokens, got 54"):
        RollingCache(tiny_config(), 1, window=54)


@pytest.mark.parametrize(
    ("windows", "window", "own"), [((5, 5), 7, [5]), ((None, 5), 4, [5]), ((3, 5), 5, [3, 5])], ids=str
)
def test_window_that_contradicts_the_model(windows, window, own):
    said = re.escape(f"window: expected {own} as the model's config says, got {window}")
    with pytest.raises(ValueError, match=said):
        RollingCache(tiny_config(windows=windows), 1, window=window)


def test_the_window_of_the_model_may_be_said_again():
    cache = RollingCache(tiny_config(windows=(None, 5)), 1, window=5)
    assert [k.shape[2] for k in cache.k] == [53, 5]


def test_no_window_at_all():
    with pytest.raises(ValueError, match="window: expected a number of tokens, since the model has none"):
        RollingCache(tiny_config(), 1)


def test_sinks_below_zero():
    with pytest.raises(ValueError, match="sinks: expected 0 or more first tokens to keep, got -1"):
        RollingCache(tiny_config(), 1, window=5, sinks=-1)


@pytest.mark.parametrize(("batch", "capacity"), [(0, 5), (2, 0)])
def test_sizes_below_one(batch, capacity):
    with pytest.raises(ValueError, match=f"batch, capacity: expected at least 1, got {batch} and {capacity}"):
        RollingCache(tiny_config(), batch, capacity, window=3)


def test_capacity_beyond_the_context():
    with pytest.raises(
        ValueError, match="capacity: expected at most the model's context of 53 tokens, got 54"
    ):
        RollingCache(tiny_config(), 1, 54, window=3)


@pytest.mark.parametrize("n_new", [[1], [], [2, -1], [0, 0]], ids=str)
def test_counts_that_make_no_plan(n_new):
    with pytest.raises(ValueError, match="n_new: expected 2 counts, none negative and not all 0; got "):
        RollingCache(tiny_config(), 2, window=3).plan(n_new)


def test_keys_of_another_shape_are_an_error():
    view = RollingCache(tiny_config(), 2, window=3).plan([3, 3]).layer(0)
    with unchecked(), pytest.raises(RuntimeError):
        view.attend(torch.zeros(2, 15, 3, 14), torch.zeros(2, 5, 3, 14), torch.zeros(2, 3, 3, 14))


# --- any window, any pieces ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    window=st.integers(1, 13),
    sinks=st.integers(0, 5),
    n_new=st.lists(
        st.lists(st.sampled_from([0, 1, 1, 2, 3, 5, 7, 11]), min_size=2, max_size=2), min_size=1, max_size=6
    ),
    dtype=st.sampled_from([FP64, torch.float32]),
)
def test_any_pieces_of_any_rows_in_any_window(window, sinks, n_new, dtype):
    model = ANY[dtype]
    cache, held = RollingCache(model.config, 2, window=window, sinks=sinks, dtype=dtype), [0, 0]
    tokens = random_tokens(2, 53)
    alone = model(tokens, step=MaskedStep(model.config, tokens, window, sinks))
    for counts in n_new:
        if not any(counts) or max(h + n for h, n in zip(held, counts, strict=True)) > 53:
            continue
        padded = torch.zeros(2, max(counts), dtype=torch.long)
        for row, n in enumerate(counts):
            padded[row, :n] = tokens[row, held[row] : held[row] + n]
        logits = model(padded, step=cache.plan(counts))
        for row, n in enumerate(counts):
            close(logits[row, :n], alone[row, held[row] : held[row] + n], **LOGITS[dtype])
            held[row] += n


ANY = {dtype: tiny_model(tiny_config(n_heads=6, head_dim=10), dtype=dtype) for dtype in (FP64, torch.float32)}


class AgainstLists(RuleBasedStateMachine):
    """A cache and, per layer and row, the plain list of all that was ever stored: what is seen must agree."""

    ROWS, WINDOWS = 3, (None, 4)
    CONFIG = tiny_config(n_heads=6, head_dim=4, windows=WINDOWS, context=31)
    counts = st.lists(st.integers(0, 6), min_size=ROWS, max_size=ROWS)

    @initialize(sinks=st.integers(0, 3))
    def start(self, sinks):
        self.cache = RollingCache(self.CONFIG, self.ROWS, dtype=FP64, sinks=sinks)
        self.lists = [[[] for _ in range(self.ROWS)] for _ in self.WINDOWS]
        self.overwritten = [set() for _ in range(self.ROWS)]  # positions that lost their slot
        self.sinks, self.seed = sinks, 0

    def held(self):
        return [len(row) for row in self.lists[0]]

    @rule(n_new=st.one_of(counts, st.integers(1, 6).map(lambda n: [n] * AgainstLists.ROWS)))
    def append(self, n_new):
        if not any(n_new):
            return
        if any(held + n > 31 for held, n in zip(self.held(), n_new, strict=True)):
            with pytest.raises(CacheFull):
                self.cache.plan(n_new)
            return
        starts, step = self.held(), self.cache.plan(n_new)
        for row, n in enumerate(n_new):
            assert step.positions[row, :n].tolist() == list(range(starts[row], starts[row] + n))
        for index, window in enumerate(self.WINDOWS):
            self.attend(step, index, window, n_new)
        for row, end in enumerate(self.held()):
            new = range(starts[row], end)
            self.overwritten[row] -= set(new)
            self.overwritten[row] |= {p - 4 for p in new if p - 4 >= self.sinks}

    def attend(self, step, index, window, n_new):
        self.seed += 1
        q, k, v = (
            normal(self.ROWS, h, max(n_new), 4, seed=3 * self.seed + i) for i, h in enumerate((6, 3, 3))
        )
        out = step.layer(index).attend(q, k, v)
        for row, n in enumerate(n_new):
            held = self.lists[index][row]
            for t in range(n):
                held.append((k[row, :, t], v[row, :, t]))
                first = 0 if window is None else max(len(held) - window, 0)
                seen = held[: min(self.sinks, first)] + held[first:]
                keys, values = (torch.stack(part, 1)[None] for part in zip(*seen, strict=True))
                alone = F.scaled_dot_product_attention(
                    q[row : row + 1, :, t : t + 1], keys, values, enable_gqa=True
                )
                close(out[row, :, t], alone[0, :, 0], **TOLERANCE[FP64])

    @precondition(lambda self: any(self.held()))
    @rule(row=st.integers(0, ROWS - 1), back=st.one_of(st.integers(0, 2), st.integers(0, 31)))
    def truncate(self, row, back):
        length = max(self.held()[row] - back, 0)
        needed = set(range(max(length - 4 + 1, 0), length)) - set(range(self.sinks))
        if needed & self.overwritten[row]:
            with pytest.raises(ValueError, match="left the window"):
                self.cache.truncate(row, length)
            return
        self.cache.truncate(row, length)
        for layer in self.lists:
            del layer[row][length:]
        if length <= self.sinks:
            self.overwritten[row].clear()

    @invariant()
    def same_lengths(self):
        if hasattr(self, "cache"):
            assert self.cache.lengths.tolist() == self.held()


AgainstLists.TestCase.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
TestAgainstLists = AgainstLists.TestCase
