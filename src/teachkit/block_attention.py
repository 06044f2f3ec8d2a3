"""Attention over blocks that stay where they are: the queries go to them.

A step of decoding asks one query of every sequence, and what that query reads lies in blocks all over the
pool. To bring each past together first (a *gather*) copies every byte that attention is about to read, and
pads every sequence to the longest. Here each block meets its query in place and gives a *piece* of the
answer: the largest score, the sum of the exponentials, the sum of the values so weighed. Pieces of one query
combine into the softmax over all of them, in any order.

Source: the combination is that of online softmax, Milakov and Gimelshein 2018, arXiv:1805.02867; splitting a
past over parallel workers: Dao et al. 2023 (Flash-Decoding).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from teachkit.cache import Store

# In place the blocks that nobody reads are computed too, and masked: worth it up to so many for one read.
MOST_IDLE = 1.0


class BlockReads:
    """Which query reads which blocks in one step: the same for all layers with the same window.

    tables      the blocks of each query's sequence, in order
    lengths     tokens that each query sees, itself included: it is the last of them
    window      a query sees no more than so many
    n_in_place  blocks 0 to n_in_place - 1 are read where they lie, by one query each. A query that reads a
                block which another one has read there reads a copy of it; without n_in_place all do
    """

    def __init__(
        self,
        tables: Sequence[Sequence[int]],
        lengths: Sequence[int],
        block_size: int,
        *,
        window: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        begins = [0 if window is None else max(0, length - window) // block_size for length in lengths]
        ends = [-(-length // block_size) for length in lengths]
        spans = [table[a:b] for table, a, b in zip(tables, begins, ends, strict=True)]
        flat = list(chain.from_iterable(spans))
        # One read each, a block by a query, on the CPU: nothing here waits for a device.
        reader = torch.arange(len(spans)).repeat_interleave(torch.tensor([len(span) for span in spans]))
        index = torch.cat([torch.arange(a, a + len(span)) for a, span in zip(begins, spans, strict=True)])
        blocks, order = torch.tensor(flat), torch.arange(len(flat))
        self.n_queries, self.n_in_place = len(spans), _in_place(flat)
        away = order
        if self.n_in_place:
            # Of the reads of a block one is done in place. What nobody reads goes to a query more than there
            # are, left out in the end: whatever lies in such a block, even NaN, must not matter.
            home = torch.full((self.n_in_place,), len(flat))
            home[blocks.flip(0)] = order.flip(0)  # of several the first, as a rule; any would do
            away = order[home[blocks] != order]
            order = torch.cat((home, away))
            reader = torch.cat((reader, torch.tensor([self.n_queries])))
            index = torch.cat((index, torch.tensor([0])))
        self.blocks: Int[Tensor, M] | None = blocks[away].to(device) if len(away) else None
        self.reader = reader[order].to(device)
        self.asks = self.reader.clamp_max(self.n_queries - 1)
        first = (index[order] * block_size).to(device)
        self.seen = self._seen(first, torch.tensor(lengths, device=device), block_size, window)

    def _seen(
        self, first: Int[Tensor, M], lengths: Int[Tensor, R], block_size: int, window: int | None
    ) -> Bool[Tensor, "M 1 1 P"]:
        """Which tokens of each block its reader sees."""
        key = first[:, None] + torch.arange(block_size, device=first.device)
        end = lengths[self.asks][:, None]
        seen = key < end
        if window is not None:
            seen &= key >= end - window
        return seen[:, None, None]

    def parts(self, pool: Store, dtype: torch.dtype) -> list[Float[Tensor, "m Hkv P D"]]:
        """The blocks to be read, of a pool (N, Hkv, P, D): a view of those in place, a copy of the others."""
        home = [pool[: self.n_in_place].to(dtype)] if self.n_in_place else []
        return home if self.blocks is None else [*home, pool[self.blocks].to(dtype)]


def block_attention(
    q: Float[Tensor, "R H D"],
    k: Sequence[Float[Tensor, "_ Hkv P D"]],
    v: Sequence[Float[Tensor, "_ Hkv P D"]],
    reads: BlockReads,
    *,
    scale: float | None = None,
) -> Float[Tensor, "R H D"]:
    """softmax(q k^T * scale) v for one query of each of R sequences, over the blocks that ``reads`` names.

    k, v  as :meth:`BlockReads.parts` gives them
    Cost  reads each block once for each of its readers, and copies it for all of them but one; besides it
          moves a query and a piece for every read, some H / (Hkv * P) of a block each
    """
    (R, H, D), Hkv = q.shape, k[0].shape[1]
    scale = D**-0.5 if scale is None else scale
    asked = (q * scale).view(R, Hkv, H // Hkv, D)[reads.asks]  # each block's own query
    sizes = [len(part) for part in k]
    scores = _join([a @ part.transpose(2, 3) for a, part in zip(asked.split(sizes), k, strict=True)])
    scores = scores if scores.dtype == torch.float64 else scores.float()
    lowest = torch.finfo(scores.dtype).min  # not -inf: a block of which nothing is seen must not give NaN
    scores = scores.masked_fill(~reads.seen, lowest)
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp().masked_fill(~reads.seen, 0)
    mixed = [w.to(q.dtype) @ part for w, part in zip(weights.split(sizes), v, strict=True)]
    return _combine(top, weights.sum(-1, keepdim=True), _join(mixed), reads).to(q.dtype).view(R, H, D)


def _combine(
    top: Float[Tensor, "M Hkv G 1"],
    total: Float[Tensor, "M Hkv G 1"],
    mixed: Float[Tensor, "M Hkv G D"],
    reads: BlockReads,
) -> Float[Tensor, "R Hkv G D"]:
    """The answer of each query from the pieces of its blocks: each weighed as if all had had one maximum."""
    shape = (reads.n_queries + 1, *top.shape[1:])
    index = reads.reader[:, None, None, None].expand_as(top)
    highest = top.new_full(shape, torch.finfo(top.dtype).min).scatter_reduce(0, index, top, "amax")
    share = (top - highest[reads.reader]).exp()
    sums = top.new_zeros(shape).index_add(0, reads.reader, total * share)
    out = top.new_zeros((*shape[:-1], mixed.shape[-1])).index_add(0, reads.reader, mixed * share)
    return (out / sums)[:-1]


def _in_place(blocks: Sequence[int]) -> int:
    """How many blocks from 0 on to read in place: all up to the last one read, if most of them are read."""
    end, read = max(blocks) + 1, len(set(blocks))
    return end if end - read <= MOST_IDLE * read else 0


def _join(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
