"""The contiguous cache: against recomputation, against plain lists, and at its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.cache import Cache, CacheFull, ContiguousCache, LayerView, Step, UncachedStep
from tolerance import LOGITS, TOLERANCE

close = torch.testing.assert_close
FP64 = torch.float64
VARIANTS = {
    "rotary": {},
    "learned": {"position": "learned"},
    "window of 3": {"windows": (3, 3)},
    "window in one layer": {"windows": (None, 5)},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys(), scope="module")
def model(request):
    return tiny_model(tiny_config(**request.param), dtype=FP64)


def new_cache(model, batch, capacity=23, dtype=FP64):
    return ContiguousCache(model.config, batch, capacity, dtype=dtype)


def normal(*shape, seed, dtype=FP64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FP64).to(dtype)


def stored(cache):
    return cache.k.clone(), cache.v.clone(), cache.lengths


def assert_as_before(cache, before):
    for now, then in zip(stored(cache), before, strict=True):
        assert torch.equal(now, then)


# --- the protocol --------------------------------------------------------------------------------------


def test_keeps_the_protocol():
    cache = ContiguousCache(tiny_config(), 2, 5)
    assert isinstance(cache, Cache)
    for step in (cache.plan([1, 3]), UncachedStep(tiny_config(), random_tokens(2, 3))):
        assert isinstance(step, Step)
        assert isinstance(step.layer(1), LayerView)


def test_uncached_step():
    step = UncachedStep(tiny_config(), random_tokens(2, 3))
    assert step.positions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert step.valid.tolist() == [[True] * 3] * 2
    assert (step.positions.dtype, step.valid.dtype) == (torch.int64, torch.bool)


def test_uncached_step_is_causal_attention_in_the_window_of_its_layer():
    step = UncachedStep(tiny_config(windows=(None, 2)), random_tokens(1, 3))
    q = torch.zeros(1, 3, 3, 14)
    v = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1).expand(1, 3, 3, 14)
    close(
        step.layer(0).attend(q, q, v)[0, 0, :, 0], torch.tensor([1.0, 1.5, 3.0]), **TOLERANCE[torch.float32]
    )
    close(
        step.layer(1).attend(q, q, v)[0, 0, :, 0], torch.tensor([1.0, 1.5, 4.0]), **TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("n_new", [[3, 3], [3, 2]], ids=["aligned", "ragged"])
def test_scale_reaches_attention(cached, n_new):
    config = tiny_config()
    step = (
        ContiguousCache(config, 2, 5, dtype=FP64).plan(n_new)
        if cached
        else UncachedStep(config, random_tokens(2, 3))
    )
    q, k, v = (normal(2, heads, 3, 14, seed=heads) for heads in (15, 3, 3))
    out = step.layer(0).attend(q, k, v, scale=0.7)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=0.7)
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **TOLERANCE[FP64])


def test_plan_by_hand():
    cache = ContiguousCache(tiny_config(), 2, 7)
    cache.plan([2, 4])
    step = cache.plan(torch.tensor([3, 1]))
    assert step.positions.tolist()[0] == [2, 3, 4]
    assert step.positions.tolist()[1][0] == 4
    assert step.valid.tolist() == [[True, True, True], [True, False, False]]
    assert cache.lengths.tolist() == [5, 5]
    assert cache.capacity == 7


def test_mask_by_hand():
    cache = ContiguousCache(tiny_config(), 2, 7)
    cache.plan([2, 1])
    step = cache.plan([1, 2])
    assert step.mask(None).int().tolist() == [[[[1, 1, 1], [1, 1, 1]]], [[[1, 1, 0], [1, 1, 1]]]]
    assert step.mask(2).int().tolist()[1] == [[[1, 1, 0], [0, 1, 1]]]


# --- cached = uncached, on logits ----------------------------------------------------------------------


def test_prefill_then_steps_equal_recomputation(model):
    tokens = random_tokens(2, 13)
    whole = model(tokens)
    cache = new_cache(model, 2)
    close(model(tokens[:, :5], cache=cache), whole[:, :5], **LOGITS[FP64])
    for t in range(5, 13):
        close(model(tokens[:, t : t + 1], cache=cache), whole[:, t : t + 1], **LOGITS[FP64])
    assert cache.lengths.tolist() == [13, 13]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 13])
def test_chunked_prefill_equals_recomputation(model, chunk):
    tokens = random_tokens(2, 13)
    cache = new_cache(model, 2)
    chunks = [model(tokens[:, at : at + chunk], cache=cache) for at in range(0, 13, chunk)]
    close(torch.cat(chunks, 1), model(tokens), **LOGITS[FP64])


def test_fp32_model_equals_recomputation():
    model, tokens = tiny_model(), random_tokens(2, 13)
    cache = ContiguousCache(model.config, 2, 13)
    assert cache.k.dtype == torch.float32
    parts = [model(tokens[:, :11], cache=cache), model(tokens[:, 11:], cache=cache)]
    close(torch.cat(parts, 1), model(tokens), **LOGITS[torch.float32])


# Rows that differ in what they hold, in what they add, in both; at the end, two of them hold the same.
RAGGED = [[5, 2, 3], [1, 0, 4], [0, 7, 0], [2, 2, 2], [1, 1, 1], [1, 0, 0], [2, 2, 2]]


def test_ragged_rows_equal_each_row_alone(model):
    tokens, cache, held = random_tokens(3, 17), new_cache(model, 3), [0, 0, 0]
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
    assert cache.lengths.tolist() == held == [12, 14, 12]


def test_what_padding_holds_changes_nothing(model):
    tokens = random_tokens(2, 5)
    results = []
    for filler in (3, 59):
        cache = new_cache(model, 2)
        padded = tokens.clone()
        padded[1, 2:] = filler
        logits = model(padded, step=cache.plan([5, 2]))
        results.append((logits[0], logits[1, :2], cache.k, cache.v))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_padding_is_not_stored(model):
    cache = new_cache(model, 3, capacity=7)
    model(random_tokens(3, 5), step=cache.plan([5, 2, 0]))
    for row, n in enumerate([5, 2, 0]):
        for part in (cache.k, cache.v):
            assert (part[:, row, :, :n] != 0).all()
            assert (part[:, row, :, n:] == 0).all()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_rows_at_the_end_take_no_harm_from_the_padding_of_others(changes):
    # Row 0 has one place left and pads by four: the padding has no place and no position of its own.
    model = tiny_model(tiny_config(context=5, **changes), dtype=FP64)
    tokens, cache = random_tokens(2, 5), new_cache(model, 2, capacity=5)
    model(tokens[:, :4], step=cache.plan([4, 0]))
    padded = torch.stack((tokens[0, 4].repeat(5), tokens[1]))
    logits = model(padded, step=cache.plan([1, 5]))
    close(logits[0, 0], model(tokens[:1])[0, 4], **LOGITS[FP64])
    close(logits[1], model(tokens[1:])[0], **LOGITS[FP64])


def test_two_plans_made_before_either_runs(model):
    tokens, cache = random_tokens(2, 7), new_cache(model, 2)
    first, second = cache.plan([3, 3]), cache.plan([4, 4])
    logits = [model(tokens[:, :3], step=first), model(tokens[:, 3:], step=second)]
    close(torch.cat(logits, 1), model(tokens), **LOGITS[FP64])


def test_truncate_then_continue_equals_a_fresh_start(model):
    tokens, cache = random_tokens(2, 11), new_cache(model, 2)
    model(random_tokens(2, 9, seed=1), cache=cache)
    cache.truncate(0, 0)
    cache.truncate(1, 0)
    close(model(tokens, cache=cache), model(tokens), **LOGITS[FP64])

    other = random_tokens(1, 11, seed=2)[0]
    cache.truncate(1, 4)
    assert cache.lengths.tolist() == [11, 4]
    logits = model(torch.stack((other[4:], other[4:])), step=cache.plan([0, 7]))
    close(logits[1], model(torch.cat((tokens[1, :4], other[4:]))[None])[0, 4:], **LOGITS[FP64])


# --- what is stored ------------------------------------------------------------------------------------


def test_stores_each_key_and_value_in_its_place():
    cache = ContiguousCache(tiny_config(), 2, 7, dtype=FP64)
    k, v = normal(2, 3, 4, 14, seed=1), normal(2, 3, 4, 14, seed=2)
    q = normal(2, 15, 4, 14, seed=3)
    cache.plan([4, 4]).layer(0).attend(q, k, v)
    assert torch.equal(cache.k[0, :, :, :4], k)
    assert torch.equal(cache.v[0, :, :, :4], v)
    assert (cache.k[1] == 0).all()
    cache.plan([1, 3]).layer(1).attend(q[:, :, :3], k[:, :, :3], v[:, :, :3])
    assert torch.equal(cache.k[1, 0, :, 4], k[0, :, 0])
    assert torch.equal(cache.v[1, 1, :, 4:], v[1, :, :3])
    assert torch.equal(cache.k[0, :, :, :4], k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n_new", [[3, 3], [3, 2]], ids=["aligned", "ragged"])
def test_lower_precision_than_the_model(dtype, n_new):
    cache = ContiguousCache(tiny_config(), 2, 5, dtype=dtype)
    q, k, v = (normal(2, heads, 3, 14, seed=heads, dtype=torch.float32) for heads in (15, 3, 5))
    v = v[:, :3]
    out = cache.plan(n_new).layer(0).attend(q, k, v)
    assert cache.k.dtype == cache.v.dtype == dtype
    assert out.dtype == torch.float32
    rounded = [x.to(dtype).float() for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *rounded, is_causal=True, enable_gqa=True)
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **TOLERANCE[torch.float32])


def test_model_runs_on_a_bf16_cache():
    model, tokens = tiny_model(), random_tokens(2, 7)
    cache = ContiguousCache(model.config, 2, 7, dtype=torch.bfloat16)
    parts = [model(tokens[:, :4], cache=cache), model(tokens[:, 4:], cache=cache)]
    close(torch.cat(parts, 1), model(tokens), **LOGITS[torch.bfloat16])


@pytest.mark.parametrize(
    ("dtype", "itemsize"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float64, 8)], ids=str
)
def test_bytes(dtype, itemsize):
    cache = ContiguousCache(tiny_config(), 5, 11, dtype=dtype)
    assert cache.nbytes == 2 * 2 * 5 * 3 * 11 * 14 * itemsize  # K and V, L, B, Hkv, capacity, D
    assert cache.nbytes == 5 * 11 * tiny_config().kv_bytes_per_token(itemsize)


def test_lives_on_the_device_given():
    cache = ContiguousCache(tiny_config(), 2, 3, device="meta")
    assert cache.k.device.type == cache.v.device.type == cache.lengths.device.type == "meta"
    step = cache.plan([2, 2])
    assert step.positions.device.type == step.valid.device.type == step.mask(None).device.type == "meta"
    uncached = UncachedStep(tiny_config(), random_tokens(2, 3).to("meta"))
    assert uncached.positions.device.type == uncached.valid.device.type == "meta"


# --- edges and errors ----------------------------------------------------------------------------------


def test_may_be_filled_to_the_last_place(model):
    tokens, cache = random_tokens(2, 7), new_cache(model, 2, capacity=7)
    close(model(tokens, cache=cache), model(tokens), **LOGITS[FP64])
    assert cache.lengths.tolist() == [7, 7]


@pytest.mark.parametrize(("n_new", "row"), [([1, 1], 0), ([0, 4], 1), ([1, 0], 0)], ids=str)
def test_full_cache_refuses_and_stays_as_it_was(model, n_new, row):
    cache = new_cache(model, 2, capacity=7)
    model(random_tokens(2, 7), step=cache.plan([7, 4]))
    before = stored(cache)
    with pytest.raises(
        CacheFull, match=f"row {row}: {[7, 4][row]} tokens held and {n_new[row]} new exceed .* of 7"
    ):
        cache.plan(n_new)
    assert_as_before(cache, before)
    cache.plan([0, 3])  # what fits, still fits


def test_model_refuses_tokens_beyond_the_capacity(model):
    cache = new_cache(model, 2, capacity=7)
    model(random_tokens(2, 5), cache=cache)
    before = stored(cache)
    with pytest.raises(CacheFull, match="make the cache larger or truncate the row"):
        model(random_tokens(2, 3), cache=cache)
    assert_as_before(cache, before)


def test_cache_full_is_a_value_error():
    assert issubclass(CacheFull, ValueError)


@pytest.mark.parametrize("n_new", [[1], [1, 1, 1], [], [2, -1], [0, 0]], ids=str)
def test_counts_that_make_no_plan(n_new):
    cache = ContiguousCache(tiny_config(), 2, 7)
    with pytest.raises(ValueError, match="n_new: expected 2 counts, none negative and not all 0; got "):
        cache.plan(n_new)
    assert cache.lengths.tolist() == [0, 0]


@pytest.mark.parametrize(("batch", "capacity"), [(0, 5), (2, 0), (-1, 5), (2, -1)])
def test_sizes_below_one(batch, capacity):
    with pytest.raises(ValueError, match=f"batch, capacity: expected at least 1, got {batch} and {capacity}"):
        ContiguousCache(tiny_config(), batch, capacity)


def test_size_of_one_is_enough():
    model = tiny_model(dtype=FP64)
    cache = new_cache(model, 1, capacity=1)
    close(model(random_tokens(1, 1), cache=cache), model(random_tokens(1, 1)), **LOGITS[FP64])


def test_capacity_up_to_the_context():
    assert ContiguousCache(tiny_config(context=11), 1, 11).capacity == 11
    with pytest.raises(
        ValueError, match="capacity: expected at most the model's context of 11 tokens, got 12"
    ):
        ContiguousCache(tiny_config(context=11), 1, 12)


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_only_shortens(length):
    cache = ContiguousCache(tiny_config(), 2, 7)
    cache.plan([5, 3])
    with pytest.raises(ValueError, match=rf"length: expected 0 to 3 \(held by row 1\), got {length}"):
        cache.truncate(1, length)
    cache.truncate(1, 3)
    assert cache.lengths.tolist() == [5, 3]


def test_truncate_of_no_row():
    cache = ContiguousCache(tiny_config(), 2, 7)
    with pytest.raises(IndexError):
        cache.truncate(2, 0)


def test_keys_of_another_shape_are_an_error():
    cache = ContiguousCache(tiny_config(), 2, 7)
    view = cache.plan([3, 3]).layer(0)
    with unchecked(), pytest.raises(RuntimeError):
        view.attend(torch.zeros(2, 15, 3, 14), torch.zeros(2, 5, 3, 14), torch.zeros(2, 3, 3, 14))


# --- against plain lists, in any order of operations ---------------------------------------------------


class AgainstLists(RuleBasedStateMachine):
    """A cache and, per layer and row, a plain list of (key, value): they must never differ."""

    ROWS, CAPACITY, WINDOWS = 3, 7, (None, 3)
    CONFIG = tiny_config(n_heads=6, head_dim=4, windows=WINDOWS)
    counts = st.lists(st.integers(0, 4), min_size=ROWS, max_size=ROWS)

    @initialize()
    def start(self):
        self.cache = ContiguousCache(self.CONFIG, self.ROWS, self.CAPACITY, dtype=FP64)
        self.lists = [[[] for _ in range(self.ROWS)] for _ in self.WINDOWS]
        self.seed = 0

    def held(self):
        return [len(row) for row in self.lists[0]]

    @rule(n_new=st.one_of(counts, st.integers(1, 4).map(lambda n: [n] * AgainstLists.ROWS)))
    def append(self, n_new):
        if not any(n_new):
            return
        if any(held + n > self.CAPACITY for held, n in zip(self.held(), n_new, strict=True)):
            before = stored(self.cache)
            with pytest.raises(CacheFull):
                self.cache.plan(n_new)
            assert_as_before(self.cache, before)
            return
        starts, step = self.held(), self.cache.plan(n_new)
        for row, n in enumerate(n_new):
            assert step.positions[row, :n].tolist() == list(range(starts[row], starts[row] + n))
            assert step.valid[row].tolist() == [t < n for t in range(max(n_new))]
        for index, window in enumerate(self.WINDOWS):
            self.attend(step, index, window, n_new)

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
                seen = held if window is None else held[-window:]
                keys, values = (torch.stack(part, 1)[None] for part in zip(*seen, strict=True))
                alone = F.scaled_dot_product_attention(
                    q[row : row + 1, :, t : t + 1], keys, values, enable_gqa=True
                )
                close(out[row, :, t], alone[0, :, 0], **TOLERANCE[FP64])

    @precondition(lambda self: any(self.held()))
    @rule(row=st.integers(0, ROWS - 1), data=st.data())
    def truncate(self, row, data):
        length = data.draw(st.integers(0, self.held()[row]))
        self.cache.truncate(row, length)
        for layer in self.lists:
            del layer[row][length:]

    @invariant()
    def same_lengths(self):
        if hasattr(self, "cache"):
            assert self.cache.lengths.tolist() == self.held()

    @invariant()
    def same_content(self):
        if hasattr(self, "cache"):
            for index, layer in enumerate(self.lists):
                for row, pairs in enumerate(layer):
                    for position, (key, value) in enumerate(pairs):
                        assert torch.equal(self.cache.k[index, row, :, position], key)
                        assert torch.equal(self.cache.v[index, row, :, position], value)


AgainstLists.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestAgainstLists = AgainstLists.TestCase
