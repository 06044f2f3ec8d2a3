"""Attention over blocks in place: against a softmax written out in float64, and against PyTorch's."""

from __future__ import annotations

import math
import random

import pytest
import torch
import torch.nn.functional as F

from teachkit import block_attention as module
from teachkit.block_attention import BlockReads, block_attention
from teachkit.quant_cache import QuantizedRows
from tolerance import TOLERANCE

close = torch.testing.assert_close
FP64 = torch.float64
P, H, HKV, D = 5, 15, 3, 7
NAN = float("nan")


def normal(*shape, seed, dtype=FP64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FP64).to(dtype)


def by_hand(q, keys, values, *, window=None, scale=None):
    """The oracle, one query (H, D) over its own past (S, Hkv, D), in Python's own numbers."""
    (n_heads, width), n_kv_heads = q.shape, keys.shape[1]
    scale = width**-0.5 if scale is None else scale
    out = []
    for head in range(n_heads):
        past = range(len(keys))[-(window or len(keys)) :]
        k, v = (x[:, head // (n_heads // n_kv_heads)].double().tolist() for x in (keys, values))
        asked = q[head].double().tolist()
        scores = [scale * math.fsum(a * b for a, b in zip(asked, k[token], strict=True)) for token in past]
        weights = [math.exp(score - max(scores)) for score in scores]
        out.append(
            [
                math.fsum(w * v[token][c] for w, token in zip(weights, past, strict=True))
                / math.fsum(weights)
                for c in range(width)
            ]
        )
    return torch.tensor(out, dtype=FP64)


class Laid:
    """Pasts of random numbers, laid into the blocks of a pool.

    What no query reads is NaN: blocks that are not in a table, and keys behind the last token of a block.
    Values there are zeros, or what a reader of more tokens has left: PagedStep sees to that.
    """

    def __init__(self, tables, lengths, n_blocks, *, size=P, heads=(H, HKV), dtype=FP64, grow=1.0):
        self.tables, self.lengths, self.size, self.n_blocks = tables, lengths, size, n_blocks
        n_heads, n_kv_heads = heads
        self.q = grow * normal(len(tables), n_heads, D, seed=1, dtype=dtype)
        filled = {}  # a block to how many tokens are in it
        for table, length in zip(tables, lengths, strict=True):
            for index, block in enumerate(table):
                filled[block] = max(filled.get(block, 0), min(size, length - index * size))
        shape = n_blocks, n_kv_heads, size, D
        self.k, self.v = grow * normal(*shape, seed=2, dtype=dtype), normal(*shape, seed=3, dtype=dtype)
        for block in range(n_blocks):
            n = filled.get(block, 0)
            self.k[block, :, n:] = NAN
            self.v[block, :, n:] = 0 if n else NAN

    def past(self, pool, query):
        rows = [pool[block].transpose(0, 1) for block in self.tables[query]]
        return torch.cat(rows)[: self.lengths[query]]

    def reads(self, window=None):
        return BlockReads(self.tables, self.lengths, self.size, window=window)

    def ours(self, *, window=None, scale=None):
        reads = self.reads(window)
        parts = [reads.parts(pool, self.q.dtype) for pool in (self.k, self.v)]
        return block_attention(self.q, *parts, reads, scale=scale)

    def expected(self, *, window=None, scale=None):
        rows = [
            by_hand(q, self.past(self.k, i), self.past(self.v, i), window=window, scale=scale)
            for i, q in enumerate(self.q)
        ]
        return torch.stack(rows)


def scattered(lengths, n_blocks, *, size=P, seed=0, first=0):
    """Tables of blocks in random order, from ``first`` on."""
    free = list(range(first, n_blocks))
    random.Random(seed).shuffle(free)
    return [[free.pop() for _ in range(-(-length // size))] for length in lengths]


# --- by hand -------------------------------------------------------------------------------------------


def test_the_oracle_is_the_softmax_of_pytorch():
    q, k, v = normal(H, D, seed=1), normal(11, HKV, D, seed=2), normal(11, HKV, D, seed=3)
    for window in (None, 4):
        mask = torch.arange(11) >= 11 - (window or 11)
        theirs = F.scaled_dot_product_attention(
            q[None, :, None],
            *(x.transpose(0, 1)[None] for x in (k, v)),
            attn_mask=mask[None],
            enable_gqa=True,
            scale=0.3,
        )
        close(by_hand(q, k, v, window=window, scale=0.3), theirs[0, :, 0], **TOLERANCE[FP64])


def test_equal_keys_give_the_mean_of_what_is_seen():
    """Values 1 to 6 in two blocks of 4; the last two slots hold what a query must not count."""
    reads = BlockReads([[2, 0]], [6], 4)
    k = torch.zeros(3, 1, 4, 1)
    v = torch.tensor([[5.0, 6, 1e6, 1e6], [NAN] * 4, [1, 2, 3, 4]]).view(3, 1, 4, 1)
    out = block_attention(torch.ones(1, 1, 1), reads.parts(k, k.dtype), reads.parts(v, v.dtype), reads)
    assert out.item() == pytest.approx(3.5)
    windowed = BlockReads([[2, 0]], [6], 4, window=3)
    out = block_attention(
        torch.ones(1, 1, 1), windowed.parts(k, k.dtype), windowed.parts(v, v.dtype), windowed
    )
    assert out.item() == pytest.approx(5.0)


def test_who_reads_what_by_hand():
    reads = BlockReads([[2, 0]], [3], 2)
    assert (reads.n_queries, reads.n_in_place, reads.blocks) == (1, 3, None)
    assert reads.reader.tolist() == [0, 1, 0]  # block 1 is nobody's: it goes to a query that is not there
    assert reads.seen[[0, 2], 0, 0].int().tolist() == [[1, 0], [1, 1]]


def test_window_by_hand():
    """Of tokens 0 to 6 in blocks of 2 the last query sees 4, 5 and 6: the block of 2 and 3 is not read."""
    reads = BlockReads([[1, 3, 2, 0]], [7], 2, window=3)
    assert reads.n_in_place == 3
    assert reads.reader.tolist() == [0, 1, 0]
    assert reads.seen[[0, 2], 0, 0].int().tolist() == [[1, 0], [1, 1]]
    reads = BlockReads([[1, 3, 2, 0]], [7], 2, window=4)
    assert reads.reader.tolist() == [0, 1, 0, 0]
    assert reads.seen[[3, 2, 0], 0, 0].int().tolist() == [[0, 1], [1, 1], [1, 0]]


def test_a_second_reader_of_a_block_gets_a_copy():
    reads = BlockReads([[0, 1], [0, 2], [0, 1]], [4, 3, 3], 2)
    assert reads.n_in_place == 3
    assert reads.blocks.tolist() == [0, 0, 1]
    assert reads.reader.tolist() == [0, 0, 1, 1, 2, 2]
    assert reads.seen[:, 0, 0].int().tolist() == [[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("tables", "n_in_place"),
    [([[0]], 1), ([[1]], 2), ([[2]], 0), ([[0, 3]], 4), ([[0, 4]], 0), ([[0, 4], [0, 2]], 5)],
    ids=str,
)
def test_in_place_while_no_more_blocks_are_idle_than_read(tables, n_in_place):
    assert module.MOST_IDLE == 1.0
    assert BlockReads(tables, [len(table) * P for table in tables], P).n_in_place == n_in_place


def test_blocks_in_place_are_not_copied():
    pool = normal(4, HKV, P, D, seed=1)
    (part,) = BlockReads([[0, 2]], [P + 1], P).parts(pool, pool.dtype)
    assert part.data_ptr() == pool.data_ptr()
    assert part.shape[0] == 3
    (copy,) = BlockReads([[3]], [1], P).parts(pool, pool.dtype)
    assert torch.equal(copy, pool[3:])
    assert copy.data_ptr() != pool[3:].data_ptr()


# --- against the oracle --------------------------------------------------------------------------------

# One token; just below, at and above a block, and two; unequal ones.
LENGTHS = [[1], [P - 1], [P], [P + 1], [2 * P], [2 * P + 1], [1, 4 * P + 2, P], [3, 1, 1, 17, 2 * P, 6, 9]]


@pytest.mark.parametrize("window", [None, 1, 3, P, P + 2, 100])
@pytest.mark.parametrize("place", ["in place", "away"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_the_softmax_over_all_at_once(lengths, place, window):
    need = sum(-(-length // P) for length in lengths)
    first = 0 if place == "in place" else 3 * need
    n_blocks = first + need + 2
    tables = scattered(lengths, first + need + (place == "away"), first=first, seed=len(lengths))
    laid = Laid(tables, lengths, n_blocks)
    assert (laid.reads().n_in_place > 0) == (place == "in place")
    close(laid.ours(window=window), laid.expected(window=window), **TOLERANCE[FP64])


@pytest.mark.parametrize("seed", range(11))
def test_random_tables_that_share(seed):
    """Tables that begin alike, as far as random blocks go; a pool of which a random part is idle."""
    draw = random.Random(seed)
    size, window = draw.choice([1, 2, 3, 7]), draw.choice([None, None, 4, 9])
    n_blocks = draw.choice([11, 31])
    free = draw.sample(range(n_blocks), n_blocks)
    tables, lengths = [], []
    while len(free) > n_blocks // 3:
        parent = draw.choice(tables) if tables else []
        shared = parent[: draw.randrange(len(parent) + 1)]
        own = [free.pop() for _ in range(draw.randint(0 if shared else 1, 3))]
        tables.append(shared + own)
        lengths.append(draw.randint((len(tables[-1]) - 1) * size + 1, len(tables[-1]) * size))
    laid = Laid(tables, lengths, n_blocks, size=size)
    close(laid.ours(window=window), laid.expected(window=window), **TOLERANCE[FP64])


@pytest.mark.parametrize("readers", [2, 7])
@pytest.mark.parametrize("window", [None, 6])
def test_many_readers_of_the_same_blocks(readers, window):
    """A shared beginning of two blocks, then a block each; one reader has nothing of its own."""
    tables = [[4, 1, *([] if i == 0 else [6 + i])] for i in range(readers)]
    lengths = [2 * P] + [2 * P + 1 + i % P for i in range(1, readers)]
    laid = Laid(tables, lengths, 6 + readers)
    close(laid.ours(window=window), laid.expected(window=window), **TOLERANCE[FP64])


@pytest.mark.parametrize("heads", [(3, 3), (1, 1), (6, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, FP64], ids=str)
def test_heads_and_dtypes(heads, dtype):
    lengths = [1, 3 * P + 2, P]
    laid = Laid(scattered(lengths, 8, seed=3), lengths, 9, heads=heads, dtype=dtype)
    out = laid.ours()
    assert out.dtype == dtype
    close(out.double(), laid.expected(), **TOLERANCE[dtype])


def test_scale():
    lengths = [7, 2]
    laid = Laid(scattered(lengths, 3), lengths, 5)
    close(laid.ours(scale=0.7), laid.expected(scale=0.7), **TOLERANCE[FP64])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, FP64], ids=str)
@pytest.mark.parametrize("grow", [1e3, 1e12], ids=str)
def test_extreme_scores_give_the_value_of_the_largest(dtype, grow):
    """exp of none of these scores, from -1e24 to 1e24, is a number; of their differences it is."""
    lengths = [4 * P + 1, P, 1]
    laid = Laid(scattered(lengths, 7, seed=5), lengths, 8, dtype=dtype, grow=grow)
    out = laid.ours()
    assert out.isfinite().all()
    close(out.double(), laid.expected(), **TOLERANCE[dtype])


@pytest.mark.parametrize("high", [0, 1, 2])
def test_one_block_may_outweigh_all_others(high):
    """Whichever block holds the largest score, first, middle or last: its values are the answer."""
    laid = Laid([[1, 2, 0]], [3 * P], 3)
    laid.q.fill_(1.0)
    laid.k.fill_(-1e3)
    laid.k[laid.tables[0][high]] = 1e3
    expected = laid.v[laid.tables[0][high]].mean(1).repeat_interleave(H // HKV, 0)
    close(laid.ours()[0], expected, **TOLERANCE[FP64])


def test_what_nobody_reads_changes_nothing():
    """Not a bit, whatever it is: NaN, infinity or a large number."""
    lengths = [P + 2, 3]
    tables = [[5, 0], [2]]
    outs = []
    for junk in (NAN, float("inf"), -1e30, 0.0):
        laid = Laid(tables, lengths, 7)
        idle = [block for block in range(7) if block not in (5, 0, 2)]
        laid.k[idle], laid.v[idle] = junk, junk
        laid.k[0, :, 2:], laid.k[2, :, 3:] = junk, junk
        assert laid.reads().n_in_place == 6
        outs.append(laid.ours())
    assert all(torch.equal(out, outs[0]) for out in outs)
    assert outs[0].isfinite().all()


def test_a_pool_of_codes():
    """A quantized pool reads as the numbers that its codes stand for."""
    lengths = [2 * P + 1, 3]
    laid = Laid(scattered(lengths, 4, seed=1), lengths, 6, dtype=torch.float32)
    for name in ("k", "v"):
        rows = QuantizedRows.zeros(laid.k.shape, 8)
        rows[...] = getattr(laid, name).nan_to_num(0.0)
        setattr(laid, name, rows)
    ours = laid.ours()
    laid.k, laid.v = laid.k.to(torch.float32), laid.v.to(torch.float32)
    close(ours.double(), laid.expected(), **TOLERANCE[torch.float32])
