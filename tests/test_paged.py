"""The paged cache: against recomputation and the contiguous cache, whatever lies in the blocks of others."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from families import FAMILIES, VOCAB, oracle, oracle_logits, write
from teachkit import paged
from teachkit.block_table import BlockTable
from teachkit.cache import Cache, CacheFull, ContiguousCache, LayerView, Step
from teachkit.decode import generate, prefill
from teachkit.paged import PagedCache, PagedMemory, Run
from teachkit.quant_cache import QuantizedCache
from tolerance import LOGITS, TOLERANCE

close = torch.testing.assert_close
FP32, FP64 = torch.float32, torch.float64
VARIANTS = {
    "rotary": {},
    "learned": {"position": "learned"},
    "window of 3": {"windows": (3, 3)},
    "several windows": {"windows": (None, 5)},
    "multi-head": {"n_heads": 3},
    "one head, parallel": {"n_heads": 5, "n_kv_heads": 1, "parallel_residual": True, "norm": "layer"},
}
ROWS = 3


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys(), scope="module")
def model(request):
    return tiny_model(tiny_config(**request.param), dtype=FP64)


def new_cache(model, n_blocks=17, size=4, batch=ROWS, **options):
    return PagedCache(model.config, n_blocks, size, batch=batch, **({"dtype": FP64} | options))


def normal(*shape, seed, dtype=FP64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FP64).to(dtype)


def stored(cache):
    return cache.memory.k.clone(), cache.memory.v.clone(), cache.lengths


def poison(cache):
    """Everything in blocks that no row owns becomes NaN: what another row may have left there."""
    idle = [block for block in range(cache.pool.n_blocks) if not cache.pool.owners(block)]
    for pool in (cache.memory.k, cache.memory.v):
        for part in [pool] if isinstance(pool, torch.Tensor) else pool.parts[1:]:  # codes know no NaN
            part[:, idle] = float("nan")


def feed(model, cache, texts, n_new):
    """The next n_new tokens of each row's text; the logits of each row."""
    held = cache.lengths.tolist()
    padded = torch.full((len(texts), max(n_new)), 59)
    for row, n in enumerate(n_new):
        padded[row, :n] = torch.tensor(texts[row][held[row] : held[row] + n])
    logits = model(padded, step=cache.plan(n_new))
    return [logits[row, :n] for row, n in enumerate(n_new)]


# --- the protocol --------------------------------------------------------------------------------------


def test_keeps_the_protocol():
    cache = PagedCache(tiny_config(), 7, 2, batch=2)
    step = cache.plan([1, 3])
    assert isinstance(cache, Cache)
    for made in (step, cache.memory.step([Run([0], 0, 1)], packed=True)):
        assert isinstance(made, Step)
        assert isinstance(made.layer(1), LayerView)


def test_plan_by_hand():
    cache = PagedCache(tiny_config(), 7, 2, batch=2)
    cache.plan([2, 4])
    step = cache.plan(torch.tensor([3, 1]))
    assert step.positions.tolist()[0] == [2, 3, 4]
    assert step.positions.tolist()[1][0] == 4
    assert step.valid.tolist() == [[True, True, True], [True, False, False]]
    assert cache.lengths.tolist() == [5, 5]
    assert [len(table.blocks) for table in cache.tables] == [3, 3]
    assert (cache.pool.n_used, cache.pool.n_free) == (6, 1)


def test_packed_by_hand():
    """The tokens of all runs in one row, each at its own position; no padding."""
    memory = PagedMemory(tiny_config(), 7, 2)
    step = memory.step([Run([5, 1], 2, 1), Run([3, 0], 0, 3), Run([2], 1, 1)], packed=True)
    assert step.positions.tolist() == [[2, 0, 1, 2, 1]]
    assert step.valid.tolist() == [[True] * 5]
    assert (step.positions.dtype, step.valid.dtype) == (torch.int64, torch.bool)


def test_stores_each_key_and_value_in_its_place():
    memory = PagedMemory(tiny_config(), 7, 2, dtype=FP64)
    k, v, q = normal(1, 3, 6, 14, seed=1), normal(1, 3, 6, 14, seed=2), normal(1, 15, 6, 14, seed=3)
    runs = [Run([5, 1, 6], 1, 3), Run([3], 0, 1), Run([2, 4], 2, 2)]
    memory.step(runs, packed=True).layer(1).attend(q, k, v)
    places = [(5, 1), (1, 0), (1, 1), (3, 0), (4, 0), (4, 1)]
    for token, (block, offset) in enumerate(places):
        assert torch.equal(memory.k[1, block, :, offset], k[0, :, token])
        assert torch.equal(memory.v[1, block, :, offset], v[0, :, token])
    others = [(b, o) for b in range(7) for o in range(2) if (b, o) not in places]
    for block, offset in others:
        assert (memory.k[1, block, :, offset] == 0).all()
        assert (memory.v[1, block, :, offset] == 0).all()
    assert (memory.k[0] == 0).all()


# --- the same logits as recomputation ------------------------------------------------------------------


def test_prefill_then_steps_equal_recomputation(model):
    tokens = random_tokens(2, 13)
    whole, cache = model(tokens), new_cache(model, batch=2)
    poison(cache)
    close(model(tokens[:, :5], cache=cache), whole[:, :5], **LOGITS[FP64])
    for t in range(5, 13):
        close(model(tokens[:, t : t + 1], cache=cache), whole[:, t : t + 1], **LOGITS[FP64])
    assert cache.lengths.tolist() == [13, 13]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 13, 53])
@pytest.mark.parametrize("chunk", [1, 2, 5, 13])
def test_chunked_prefill_equals_recomputation(model, chunk, size):
    tokens = random_tokens(2, 13)
    cache = new_cache(model, 2 * -(-13 // size), size, batch=2)
    poison(cache)
    chunks = [model(piece, cache=cache) for piece in tokens.split(chunk, 1)]
    close(torch.cat(chunks, 1), model(tokens), **LOGITS[FP64])
    assert cache.pool.n_free == 0


class Walk:
    """Random plans, truncations and forks; every logit of every row is compared with recomputation.

    Beside it a contiguous cache does the same; a fork there is the text once more.
    """

    def __init__(self, model, seed, **options):
        self.model, self.draw = model, random.Random(seed)
        size = self.draw.choice([1, 2, 3, 4, 7])
        self.cache = new_cache(model, self.draw.choice([9, 23, 67]), size, **options)
        self.contiguous = ContiguousCache(model.config, ROWS, model.config.context, dtype=FP64)
        self.texts = [self.new_text() for _ in range(ROWS)]
        self.counts = {"plan": 0, "full": 0, "fork": 0, "truncate": 0}
        poison(self.cache)

    def new_text(self):
        return [self.draw.randrange(61) for _ in range(self.model.config.context + 11)]

    def go(self, n_operations):
        for _ in range(n_operations):
            self.draw.choice([self.plan, self.plan, self.plan, self.truncate, self.fork])()
            poison(self.cache)
            self.cache.pool.check()
            assert self.cache.lengths.tolist() == self.contiguous.lengths.tolist()
        return self.counts

    def plan(self):
        n_new = [self.draw.choice([0, 1, 1, 1, 2, 5, 11]) for _ in range(ROWS)]
        if not any(n_new):
            return
        before = stored(self.cache)
        held, blocks = self.cache.lengths.tolist(), [list(table.blocks) for table in self.cache.tables]
        try:
            ours = feed(self.model, self.cache, self.texts, n_new)
        except CacheFull:
            self.counts["full"] += 1
            for now, then in zip(stored(self.cache), before, strict=True):
                assert torch.equal(now.nan_to_num(), then.nan_to_num())
            assert [table.blocks for table in self.cache.tables] == blocks
            return
        theirs = feed(self.model, self.contiguous, self.texts, n_new)
        self.counts["plan"] += 1
        for row, n in enumerate(n_new):
            if n:
                text = torch.tensor([self.texts[row][: held[row] + n]])
                close(ours[row], self.model(text)[0, held[row] :], **LOGITS[FP64])
                close(ours[row], theirs[row], **LOGITS[FP64])

    def truncate(self):
        row = self.draw.randrange(ROWS)
        held = int(self.cache.lengths[row])
        length = self.draw.choice([0, held, self.draw.randint(0, held)])
        for cache in (self.cache, self.contiguous):
            cache.truncate(row, length)
        self.texts[row][length:] = self.new_text()[length:]  # goes on in another way
        self.counts["truncate"] += 1

    def fork(self):
        source, target = self.draw.sample(range(ROWS), 2)
        for cache in (self.cache, self.contiguous):
            cache.truncate(target, 0)
        held = int(self.cache.lengths[source])
        used = self.cache.pool.n_used
        self.cache.fork(source, target)
        assert self.cache.pool.n_used == used  # nothing is copied
        self.texts[target] = self.texts[source][:held] + self.new_text()[held:]
        if held:
            n_new = [held if row == target else 0 for row in range(ROWS)]
            feed(self.model, self.contiguous, self.texts, n_new)
        self.counts["fork"] += 1


@pytest.mark.parametrize("seed", range(5))
def test_any_plans_truncations_and_forks(model, seed):
    with unchecked():
        counts = Walk(model, seed).go(31)
    assert min(counts["plan"], counts["fork"] + counts["truncate"]) > 2


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(100, 150))
def test_many_more_plans_truncations_and_forks(model, seed):
    with unchecked():
        Walk(model, seed).go(61)


def test_the_walks_meet_full_pools(model):
    """Else the tests above would not say what they say."""
    with unchecked():
        assert sum(Walk(model, seed).go(31)["full"] for seed in range(3)) > 3


# --- planted faults: each must be noticed by the walks, or by a copy --------------------------------------


def copy_without(part):
    """Copy on write that leaves something out."""

    def copy(memory, copies):
        for c in copies if part != "everything" else []:
            n = c.n_tokens - (part == "the last token")
            for pool in (memory.k, memory.v):
                pool[:, c.target, :, :n] = pool[:, c.source, :, :n]
                if part != "what was there before":
                    pool[:, c.target, :, c.n_tokens :] = 0

    return copy


def forget_to_share(table):
    """A fork whose blocks have one owner fewer than they should."""
    other = BlockTable(table.pool)
    other.blocks, other.length = list(table.blocks), table.length
    return other


FAULTS = {
    "copy on write is skipped": (PagedMemory, "copy", copy_without("everything")),
    "a token too few is copied": (PagedMemory, "copy", copy_without("the last token")),
    "what was there before the copy is read": (PagedMemory, "copy", copy_without("what was there before")),
    "a fork owns nothing": (BlockTable, "fork", forget_to_share),
    "a shared block is written into": (BlockTable, "_is_shared", lambda table, n_new: False),
    "a pass sees only the past": (paged, "_gather", lambda blocks, n: gather(blocks.roll(1, 2), n)),
}
gather = paged._gather


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_does_not_get_through(fault, monkeypatch):
    monkeypatch.setattr(*FAULTS[fault])
    model = tiny_model(dtype=FP64)
    with unchecked(), pytest.raises((AssertionError, ValueError)):
        walks_and_a_copy(model, range(5))


def test_planting_is_no_fault_itself(monkeypatch):
    monkeypatch.setattr(PagedMemory, "copy", copy_without("nothing"))
    with unchecked():
        walks_and_a_copy(tiny_model(dtype=FP64), range(5))


def walks_and_a_copy(model, seeds):
    for seed in seeds:
        Walk(model, seed).go(31)
    test_copy_on_write_leaves_the_other_row_as_it_was(bits=None, held=6)


# --- against transformers ------------------------------------------------------------------------------

OF_EACH_KIND = [
    "SmolLM2",
    "Mistral, window",
    "Qwen2.5, window",
    "Qwen3, window, biases",
    "GPT-2",
    "Falcon 7B",
    "Falcon 40B",
    "Falcon, sequential, multi-head, biases",
]


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_families_agree_with_transformers(name, tmp_path):
    """Rows of several lengths in uneven steps: prompts in chunks, one token, and both in one step."""
    folder = write(FAMILIES[name], tmp_path, seed=list(FAMILIES).index(name))
    texts = torch.randint(VOCAB, (ROWS, 31), generator=torch.Generator().manual_seed(1))
    model, theirs = tk.load(folder), oracle_logits(oracle(folder), texts)
    cache, held = PagedCache(model.config, 23, 5, batch=ROWS), [0] * ROWS
    poison(cache)
    for n_new in ([13, 11, 2], [1, 5, 1], [1, 1, 1], [0, 1, 4], [7, 0, 1], [9, 1, 1]):
        for row, logits in enumerate(feed(model, cache, texts.tolist(), n_new)):
            close(logits, theirs[row, held[row] : held[row] + n_new[row]], **LOGITS[FP32])
            held[row] += n_new[row]
    assert held == cache.lengths.tolist() == [31, 19, 10]


# --- packed, copied, shared ----------------------------------------------------------------------------


def test_packed_equals_padded(model):
    """A chunk of a prompt, single tokens and another chunk in one row: the logits of each run alone."""
    texts, tables = random_tokens(4, 13).tolist(), [[6, 2, 9], [0, 11, 4], [1, 12], [8, 3, 5, 10]]
    spans = [
        [(0, 6), (0, 9), (0, 1), (0, 2)],
        [(6, 1), (9, 1), (1, 3), (2, 9)],
        [(7, 1), (10, 1), (4, 1), (11, 1)],
    ]
    memories = [PagedMemory(model.config, 13, 4, dtype=FP64) for _ in range(2)]
    with torch.inference_mode():
        for step in spans:
            runs = [Run(table, *span) for table, span in zip(tables, step, strict=True)]
            new = [text[run.start : run.end] for text, run in zip(texts, runs, strict=True)]
            packed = model.readout(
                model.hidden(torch.tensor([sum(new, [])]), memories[0].step(runs, packed=True))  # noqa: RUF017
            )
            padded = model(
                torch.tensor([tokens + [59] * (max(map(len, new)) - len(tokens)) for tokens in new]),
                step=memories[1].step(runs),
            )
            assert packed.shape == (1, sum(map(len, new)), 61)
            for row, logits in enumerate(packed[0].split([len(tokens) for tokens in new])):
                close(logits, padded[row, : len(logits)], **LOGITS[FP64])
                close(
                    logits,
                    model(torch.tensor([texts[row]]))[0, runs[row].start : runs[row].end],
                    **LOGITS[FP64],
                )
    for name in ("k", "v"):
        close(*(getattr(memory, name) for memory in memories), **LOGITS[FP64])


def test_what_padding_holds_changes_nothing(model):
    tokens, results = random_tokens(2, 5), []
    for filler in (3, 59):
        cache = new_cache(model, batch=2)
        padded = tokens.clone()
        padded[1, 2:] = filler
        logits = model(padded, step=cache.plan([5, 2]))
        results.append((logits[0], logits[1, :2], cache.memory.k, cache.memory.v))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("held", [4, 6])
def test_copy_on_write_leaves_the_other_row_as_it_was(bits, held):
    """Two rows with one past, to the end of a block and into one, that go on in different ways."""
    model, text = tiny_model(dtype=FP64), random_tokens(1, 17)[0].tolist()
    cache = new_cache(model, batch=2, bits=bits)
    texts = [text, text[:held] + random_tokens(1, 17, seed=1)[0].tolist()[held:]]
    feed(model, cache, texts, [held, 0])
    cache.fork(0, 1)
    poison(cache)
    assert cache.pool.n_used == 2 - (held == 4)
    alone = [new_cache(model, batch=1, bits=bits) for _ in texts]
    for own, row in zip(alone, texts, strict=True):
        feed(model, own, [row], [held])
    for n_new in ([0, 1], [1, 1], [3, 0], [1, 4]):
        for row, logits in enumerate(feed(model, cache, texts, n_new)):
            if n_new[row]:
                (expected,) = feed(model, alone[row], texts[row : row + 1], [n_new[row]])
                close(logits, expected, **LOGITS[FP64])
    first, second = (table.blocks for table in cache.tables)
    assert set(first[held // 4 :]).isdisjoint(second[held // 4 :])
    assert first[: held // 4] == second[: held // 4]


def test_a_row_that_is_cut_short_and_shared_before_it_goes_on():
    """The end that was cut off stays in the block; neither row may see it."""
    model, texts = tiny_model(dtype=FP64), random_tokens(2, 11).tolist()
    texts[1][:2] = texts[0][:2]
    cache = new_cache(model, batch=2)
    feed(model, cache, texts, [7, 0])
    cache.truncate(0, 2)
    cache.fork(0, 1)
    for n_new in ([1, 1], [1, 5], [7, 1]):
        held = cache.lengths.tolist()
        for row, logits in enumerate(feed(model, cache, texts, n_new)):
            expected = model(torch.tensor([texts[row][: held[row] + n_new[row]]]))[0, held[row] :]
            close(logits, expected, **LOGITS[FP64])


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_row_has_forgotten_does_not_matter_even_nan(shared):
    """Values that overflowed behind a row's end: a drafted token may, and is cut off again."""
    model, texts = tiny_model(dtype=FP64), random_tokens(1, 12).tolist() * 2
    cache = new_cache(model, batch=2)
    feed(model, cache, texts, [7, 0])
    for block in cache.tables[0].blocks:
        cache.memory.v[:, block, :, 2:] = float("nan")  # tokens 2, 3, 6 and 7
    cache.truncate(0, 2)
    if shared:
        cache.fork(0, 1)
        cache.truncate(0, 0)  # the block is then the second row's alone
    row = int(shared)
    for n in (1, 4, 1):
        held = int(cache.lengths[row])
        logits = feed(model, cache, texts, [0, n] if shared else [n, 0])[row]
        close(logits, model(torch.tensor([texts[row][: held + n]]))[0, held:], **LOGITS[FP64])


def test_rows_that_all_copy_one_block_need_one_copy_fewer():
    """The last of its owners keeps it: a pool with room for just that is not full."""
    cache = PagedCache(tiny_config(), 3, 4, batch=3)
    cache.plan([3, 0, 0])
    cache.fork(0, 1)
    cache.fork(0, 2)
    cache.plan([1, 1, 1])
    assert sorted(block for table in cache.tables for block in table.blocks) == [0, 1, 2]


# --- dtypes and codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("sizes", [[1] * 13, [5, 1, 7], [13]], ids=str)
def test_codes_equal_those_of_the_quantized_cache(model, bits, sizes):
    tokens = random_tokens(2, 13)
    ours, theirs = new_cache(model, batch=2, bits=bits), QuantizedCache(model.config, 2, 13, bits=bits)
    poison(ours)
    for piece in tokens.split(sizes, 1):
        close(model(piece, cache=ours), model(piece, cache=theirs), **LOGITS[FP64])
    for name in ("k", "v"):
        parts = zip(getattr(ours.memory, name).parts, getattr(theirs, name).parts, strict=True)
        for blocks, rows in parts:
            for row, table in enumerate(ours.tables):
                held = blocks[:, table.blocks].transpose(1, 2).flatten(2, 3)[:, :, :13]
                assert torch.equal(held, rows[:, row])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n_new", [[3, 3], [3, 2], [3, 1], [1, 1]], ids=str)
def test_lower_precision_than_the_model(dtype, n_new):
    cache = PagedCache(tiny_config(), 5, 2, batch=2, dtype=dtype)
    q, k, v = (normal(2, heads, max(n_new), 14, seed=i, dtype=FP32) for i, heads in enumerate((15, 3, 3)))
    out = cache.plan(n_new).layer(0).attend(q, k, v)
    assert cache.memory.k.dtype == cache.memory.v.dtype == dtype
    assert out.dtype == FP32
    rounded = [x.to(dtype).float() for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *rounded, is_causal=True, enable_gqa=True)
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **TOLERANCE[FP32])


@pytest.mark.parametrize("n_new", [[3, 3], [3, 2], [1, 1]], ids=str)
def test_scale_reaches_attention(n_new):
    q, k, v = (normal(2, heads, max(n_new), 14, seed=heads) for heads in (15, 3, 3))
    out = PagedCache(tiny_config(), 5, 2, batch=2, dtype=FP64).plan(n_new).layer(0).attend(q, k, v, scale=0.7)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=0.7)
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **TOLERANCE[FP64])


def test_a_model_in_bf16():
    model = tiny_model(dtype=torch.bfloat16)
    texts, cache = random_tokens(2, 13).tolist(), new_cache(model, batch=2, dtype=torch.bfloat16)
    theirs = tiny_model()
    for n_new in ([5, 9], [1, 1], [4, 1], [1, 1]):
        held = cache.lengths.tolist()
        for row, logits in enumerate(feed(model, cache, texts, n_new)):
            assert logits.dtype == torch.bfloat16
            whole = theirs(torch.tensor([texts[row][: held[row] + n_new[row]]]))[0, held[row] :]
            close(logits.float(), whole, **LOGITS[torch.bfloat16])


def test_generates_what_the_contiguous_cache_does(bundled):
    made = generate(bundled, "def main(", 31, cache=PagedCache(bundled.config, 5, 16))
    assert made.tokens == generate(bundled, "def main(", 31).tokens
    cache = PagedCache(bundled.config, 5, 16)
    prompt = bundled.tokenizer.encode("import os\nimport sys\n\n\ndef main():\n")
    logits = prefill(bundled, cache, prompt, chunk=3)
    close(logits, bundled(torch.tensor([prompt]))[:, -1], **LOGITS[FP32])


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "row"),
    [({}, 4 * 14), ({"dtype": torch.bfloat16}, 2 * 14), ({"bits": 8}, 14 + 2), ({"bits": 4}, 7 + 2 + 2)],
    ids=str,
)
def test_bytes(options, row):
    cache = PagedCache(tiny_config(), 5, 11, batch=2, **options)
    assert cache.nbytes == 2 * 2 * 5 * 3 * 11 * row  # K and V, L, blocks, Hkv, tokens of a block
    assert cache.used_bytes == 0
    cache.plan([12, 0])
    assert cache.used_bytes == cache.nbytes * 2 // 5
    cache.fork(0, 1)
    assert cache.used_bytes == cache.nbytes * 2 // 5
    cache.plan([0, 1])
    assert cache.used_bytes == cache.nbytes * 3 // 5
    cache.truncate(0, 0)
    cache.truncate(1, 0)
    assert cache.used_bytes == 0


def test_writes_in_place(model):
    cache = new_cache(model)
    places = cache.memory.k.data_ptr(), cache.memory.v.data_ptr()
    feed(model, cache, random_tokens(ROWS, 9).tolist(), [9, 1, 4])
    assert (cache.memory.k.data_ptr(), cache.memory.v.data_ptr()) == places


@pytest.mark.parametrize("bits", [None, 8])
def test_lives_on_the_device_given(bits):
    cache = PagedCache(tiny_config(), 7, 2, batch=2, device="meta", bits=bits)
    parts = (
        [cache.memory.k, cache.memory.v] if bits is None else [*cache.memory.k.parts, *cache.memory.v.parts]
    )
    assert {part.device.type for part in (*parts, cache.lengths)} == {"meta"}
    for n_new in ([1, 1], [2, 1]):
        step = cache.plan(n_new)
        assert step.positions.device.type == step.valid.device.type == "meta"


def test_capacity_is_the_smaller_of_pool_and_context():
    assert PagedCache(tiny_config(), 7, 2).capacity == 14
    assert PagedCache(tiny_config(), 99, 2).capacity == 53


# --- edges and errors ----------------------------------------------------------------------------------


def test_may_be_filled_to_the_last_place(model):
    tokens, cache = random_tokens(2, 7), new_cache(model, 4, 4, batch=2)
    close(model(tokens, cache=cache), model(tokens), **LOGITS[FP64])
    feed(model, cache, [[0] * 8] * 2, [1, 1])
    assert cache.pool.n_free == 0


def test_one_row_may_be_as_long_as_the_context(model):
    tokens, cache = random_tokens(1, 53), new_cache(model, 99, 3, batch=1)
    whole = torch.cat([model(tokens[:, :52], cache=cache), model(tokens[:, 52:], cache=cache)], 1)
    close(whole, model(tokens), **LOGITS[FP64])
    with pytest.raises(CacheFull, match="row 0: 53 tokens held and 1 new exceed the model's context of 53"):
        cache.plan([1])
    assert cache.lengths.tolist() == [53]


def test_rows_at_the_end_take_no_harm_from_the_padding_of_others():
    for changes in VARIANTS.values():
        model = tiny_model(tiny_config(context=5, **changes), dtype=FP64)
        tokens, cache = random_tokens(2, 5), new_cache(model, 4, 3, batch=2)
        feed(model, cache, tokens.tolist(), [4, 0])
        first, second = feed(model, cache, tokens.tolist(), [1, 5])
        close(first, model(tokens[:1])[0, 4:], **LOGITS[FP64])
        close(second, model(tokens[1:])[0], **LOGITS[FP64])


@pytest.mark.parametrize("n_new", [[5, 4, 0], [9, 0, 0], [0, 1, 9]], ids=str)
def test_full_pool_refuses_and_stays_as_it_was(n_new):
    model = tiny_model(dtype=FP64)
    cache = new_cache(model, 4, 4)
    feed(model, cache, random_tokens(ROWS, 7).tolist(), [3, 4, 2])
    before, blocks = stored(cache), [list(table.blocks) for table in cache.tables]
    with pytest.raises(CacheFull, match=r"more blocks needed, 1 of 4 free; make the pool larger or truncate"):
        cache.plan(n_new)
    assert all(map(torch.equal, stored(cache), before))
    assert [table.blocks for table in cache.tables] == blocks
    cache.pool.check()
    cache.plan([1, 4, 2])  # what fits, still fits


def test_full_pool_and_a_shared_block():
    cache = PagedCache(tiny_config(), 2, 4, batch=2)
    cache.plan([6, 0])
    cache.fork(0, 1)
    with pytest.raises(CacheFull, match="1 more blocks needed, 0 of 2 free"):
        cache.plan([1, 0])
    cache.truncate(0, 0)
    cache.plan([0, 2])  # it is the only owner now: nothing is copied
    assert cache.lengths.tolist() == [0, 8]


@pytest.mark.parametrize("n_new", [[1], [1, 1, 1], [], [2, -1], [0, 0]], ids=str)
def test_counts_that_make_no_plan(n_new):
    cache = PagedCache(tiny_config(), 7, 2, batch=2)
    with pytest.raises(ValueError, match="n_new: expected 2 counts, none negative and not all 0; got "):
        cache.plan(n_new)
    assert cache.lengths.tolist() == [0, 0]


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (-1, 5), (5, -1)], ids=str)
def test_sizes_below_one(sizes):
    words = f"n_blocks, block_size: expected at least 1, got {sizes[0]} and {sizes[1]}"
    for made in (PagedMemory, PagedCache):
        with pytest.raises(ValueError, match=words):
            made(tiny_config(), *sizes)


def test_no_rows():
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        PagedCache(tiny_config(), 5, 5, batch=0)


def test_other_bits():
    with unchecked(), pytest.raises(ValueError, match="bits: expected 4 or 8, got 2"):
        PagedCache(tiny_config(), 5, 5, bits=2)


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_only_shortens(length):
    cache = PagedCache(tiny_config(), 7, 2, batch=2)
    cache.plan([5, 3])
    with pytest.raises(ValueError, match=f"length: expected 0 to 3 tokens held, got {length}"):
        cache.truncate(1, length)
    assert cache.lengths.tolist() == [5, 3]


def test_truncate_of_no_row():
    with pytest.raises(IndexError):
        PagedCache(tiny_config(), 7, 2, batch=2).truncate(2, 0)


def test_fork_into_a_row_that_holds_something():
    cache = PagedCache(tiny_config(), 7, 2, batch=2)
    cache.plan([5, 3])
    with pytest.raises(ValueError, match="row 1: expected an empty row, it holds 3 tokens"):
        cache.fork(0, 1)
    assert cache.lengths.tolist() == [5, 3]


def test_keys_of_another_shape_are_an_error():
    view = PagedCache(tiny_config(), 7, 2, batch=2).plan([3, 3]).layer(0)
    with unchecked(), pytest.raises(RuntimeError):
        view.attend(torch.zeros(2, 15, 3, 14), torch.zeros(2, 5, 3, 14), torch.zeros(2, 3, 3, 14))
