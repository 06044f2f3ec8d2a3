"""The paged cache: keys and values in blocks, so that a row takes memory for the tokens it has.

Memory knows no rows: it is a pool of blocks per layer, and a step is told where its tokens go. Two take
memory from such a pool: :class:`PagedCache`, for rows of a batch as every other cache has them, and
:class:`teachkit.engine.Engine`, for requests that come and go.

Source: Kwon et al. 2023 (vLLM), arXiv:2309.06180, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from teachkit.attention import scaled_dot_product_attention
from teachkit.block_attention import BlockReads, block_attention
from teachkit.block_table import BlockTable, Copy
from teachkit.blocks import BlockPool, blocks_for
from teachkit.cache import LayerView, Store
from teachkit.config import ModelConfig
from teachkit.quant_cache import Bits, QuantizedRows
from teachkit.rows import CacheFull

Pool = Tensor | QuantizedRows


class Run(NamedTuple):
    """New tokens of one sequence in one step: ``n`` of them, from position ``start``.

    blocks  of the sequence, in order, with room for all of them
    """

    blocks: Sequence[int]
    start: int
    n: int

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.start + self.n


class PagedMemory:
    """Keys and values of each layer in blocks: (L, N, Hkv, P, D), N blocks of P tokens.

    dtype   of the stored keys and values; what is attended is converted to the dtype of q
    bits    8 or 4: codes and scales instead, as in :class:`teachkit.quant_cache.QuantizedCache`
    Cost    2 * L * N * Hkv * P * D * itemsize bytes
    Raises  ValueError: n_blocks or block_size below 1, other bits
    """

    def __init__(
        self,
        config: ModelConfig,
        n_blocks: int,
        block_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        bits: Bits | None = None,
    ) -> None:
        if n_blocks < 1 or block_size < 1:
            raise ValueError(f"n_blocks, block_size: expected at least 1, got {n_blocks} and {block_size}")
        shape = (config.n_layers, n_blocks, config.n_kv_heads, block_size, config.head_dim)
        self.k: Pool = _zeros(shape, dtype, device, bits)
        self.v: Pool = _zeros(shape, dtype, device, bits)
        self.n_blocks, self.block_size, self.device = n_blocks, block_size, torch.device(device)
        self.windows = config.windows

    @property
    def nbytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copy the beginnings of blocks, in every layer, before a step writes behind them."""
        pools: tuple[Store, Store] = self.k, self.v
        for copy in copies:
            for stored in pools:
                stored[:, copy.target, :, : copy.n_tokens] = stored[:, copy.source, :, : copy.n_tokens]
            self.clear(copy.target, copy.n_tokens)  # whoever had the target before

    def clear(self, block: int, start: int) -> None:
        """Forget what lies in a block from slot ``start`` on: a hidden value weighs 0, but 0 * NaN is NaN."""
        rest = self.v[:, block, :, start:].shape
        self.v[:, block, :, start:] = torch.zeros(rest, dtype=self.v.dtype, device=self.device)

    def step(self, runs: Sequence[Run], *, packed: bool = False) -> PagedStep:
        """The plan of one pass over the new tokens of some sequences.

        packed  all tokens in one row (1, N), one run after the other: no padding goes through the matrices.
                Otherwise a row for each run, (B, T), padded on the right
        """
        return PagedStep(self, runs, packed=packed)


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str, bits: Bits | None) -> Pool:
    if bits is None:
        return torch.zeros(*shape, dtype=dtype, device=device)
    return QuantizedRows.zeros(shape, bits, device)


class PagedStep:
    """Where the new tokens go, and who reads which blocks; shared by all layers.

    A run of one token is decoding: all of these attend together, block by block. A run of several is a part
    of a prompt: its past is brought together once, and serves all its queries.
    """

    def __init__(self, memory: PagedMemory, runs: Sequence[Run], *, packed: bool) -> None:
        self._memory, self._packed = memory, packed
        device, size = memory.device, memory.block_size
        width = max(run.n for run in runs)
        if packed:
            places = [[run.start + t for run in runs for t in range(run.n)]]
            valid = [[True] * len(places[0])]
        else:  # padding takes the last position of its row, or 0: one that exists
            places = [[min(run.start + t, max(run.end - 1, 0)) for t in range(width)] for run in runs]
            valid = [[t < run.n for t in range(width)] for run in runs]
        self.positions = torch.tensor(places, device=device)
        self.valid = torch.tensor(valid, device=device)
        # Where in the rows, one after the other, the tokens are; None if there is no padding. Indices, not a
        # mask: to find out how many are true a device would have to be waited for, in every layer.
        real = [row * width + t for row, run in enumerate(runs) for t in range(run.n)]
        padded = not packed and len(real) < width * len(runs)
        self.kept = torch.tensor(real, device=device) if padded else None
        # Tokens in the order of the runs, without padding: (block, offset) of each.
        slots = [divmod(p, size) for run in runs for p in range(run.start, run.end)]
        blocks = [run.blocks[p // size] for run in runs for p in range(run.start, run.end)]
        self.blocks = torch.tensor(blocks, device=device)
        self.offsets = torch.tensor([offset for _, offset in slots], device=device)
        # Blocks that get their first token: what another sequence left there must not matter, even NaN.
        fresh = [block for block, (_, offset) in zip(blocks, slots, strict=True) if not offset]
        self.fresh = torch.tensor(fresh, device=device) if fresh else None
        self._plan_reads(runs)

    def _plan_reads(self, runs: Sequence[Run]) -> None:
        device, size = self._memory.device, self._memory.block_size
        self.prompts: list[tuple[int, int, Tensor]] = []  # (first token, run's end, its blocks)
        singles: list[int] = []
        alone: list[Run] = []
        at = 0
        for run in runs:
            if run.n == 1:
                singles.append(at)
                alone.append(run)
            elif run.n:
                held = torch.tensor(run.blocks[: blocks_for(run.end, size)], device=device)
                self.prompts.append((at, at + run.n, held))
            at += run.n
        self.ends = [run.end for run in runs if run.n > 1]
        self.singles = torch.tensor(singles, device=device) if singles else None
        tables, lengths = [run.blocks for run in alone], [run.end for run in alone]
        self.reads = {
            window: BlockReads(tables, lengths, size, window=window, device=device)
            for window in (set(self._memory.windows) if singles else ())
        }

    def layer(self, index: int) -> LayerView:
        memory = self._memory
        return _PagedLayer(self, memory.k[index], memory.v[index], memory.windows[index])

    def unpad(self, x: Float[Tensor, "B heads T D"]) -> Float[Tensor, "N heads D"]:
        """The tokens one after the other, without padding."""
        tokens = x.transpose(1, 2)
        tokens = tokens.flatten(0, 1)
        return tokens if self.kept is None else tokens[self.kept]

    def pad(self, x: Float[Tensor, "N heads D"]) -> Float[Tensor, "B heads T D"]:
        """Back into rows; zeros where there is padding."""
        B, T = self.valid.shape
        if self.kept is not None:
            x = x.new_zeros(B * T, *x.shape[1:]).index_copy(0, self.kept, x)
        return x.unflatten(0, (B, T)).transpose(1, 2)


class _PagedLayer:
    def __init__(self, step: PagedStep, k: Store, v: Store, window: int | None) -> None:
        self._step, self._k, self._v, self._window = step, k, v, window

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        step = self._step
        if step.fresh is not None:  # hidden keys are masked, hidden values are not: see clear
            shape = (len(step.fresh), *self._v.shape[1:])
            self._v[step.fresh] = torch.zeros(shape, dtype=self._v.dtype, device=v.device)
        for stored, new in ((self._k, k), (self._v, v)):
            stored[step.blocks, :, step.offsets] = step.unpad(new).to(stored.dtype)
        q = step.unpad(q)
        if step.singles is None:
            out = torch.empty_like(q)
        elif not step.prompts:
            return step.pad(self._decode(q, scale))
        else:
            out = torch.empty_like(q)
            out[step.singles] = self._decode(q[step.singles], scale)
        for (start, stop, blocks), end in zip(step.prompts, step.ends, strict=True):
            out[start:stop] = self._prefill(q[start:stop], blocks, end, scale)
        return step.pad(out)

    def _decode(self, q: Tensor, scale: float | None) -> Tensor:
        reads = self._step.reads[self._window]
        k, v = (reads.parts(pool, q.dtype) for pool in (self._k, self._v))
        return block_attention(q, k, v, reads, scale=scale)

    def _prefill(self, q: Tensor, blocks: Tensor, end: int, scale: float | None) -> Tensor:
        k, v = (_gather(pool[blocks].to(q.dtype), end) for pool in (self._k, self._v))
        asked = q.transpose(0, 1)[None]
        out = scaled_dot_product_attention(asked, k, v, causal=True, window=self._window, scale=scale)
        return out[0].transpose(0, 1)


def _gather(blocks: Float[Tensor, "M Hkv P D"], length: int) -> Float[Tensor, "1 Hkv S D"]:
    """Blocks of one sequence as one stretch of its tokens."""
    return blocks.transpose(0, 1).flatten(1, 2)[None, :, :length]


class PagedCache:
    """Rows that share one pool of blocks.

    batch     rows, all empty at first
    dtype, bits, device  of the memory, see :class:`PagedMemory`
    capacity  tokens that one row can hold, if the others hold none
    Raises    ValueError: n_blocks, block_size or batch below 1, other bits
    """

    def __init__(
        self,
        config: ModelConfig,
        n_blocks: int,
        block_size: int,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        bits: Bits | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        self.memory = PagedMemory(config, n_blocks, block_size, dtype=dtype, device=device, bits=bits)
        self.pool = BlockPool(n_blocks, block_size)
        self.tables = [BlockTable(self.pool) for _ in range(batch)]
        self._cut: set[int] = set()  # rows truncated since they were last written: something lies behind them
        self._context = config.context

    @property
    def lengths(self) -> Int[Tensor, B]:
        return torch.tensor([table.length for table in self.tables], device=self.memory.device)

    @property
    def capacity(self) -> int:
        return min(self._context, self.pool.n_blocks * self.pool.block_size)

    @property
    def nbytes(self) -> int:
        """Bytes of the pool, whoever owns its blocks."""
        return self.memory.nbytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that a row owns; one that several own counts once."""
        return self.nbytes // self.pool.n_blocks * self.pool.n_used

    def plan(self, n_new: Sequence[int] | Int[Tensor, B]) -> PagedStep:
        """Take blocks for n_new more tokens of each row. Raises CacheFull (nothing changes), ValueError."""
        counts = [int(n) for n in n_new]
        if len(counts) != len(self.tables) or min(counts) < 0 or max(counts) < 1:
            raise ValueError(
                f"n_new: expected {len(self.tables)} counts, none negative and not all 0; got {counts}"
            )
        self._require_room(counts)
        starts = [table.length for table in self.tables]
        for row, (table, n) in enumerate(zip(self.tables, counts, strict=True)):
            # One row at a time: what the next row takes may be what this one has just left.
            self.memory.copy(table.reserve(n))
            if n and row in self._cut:
                place, offset = divmod(starts[row], self.pool.block_size)
                self.memory.clear(table.blocks[place], offset)
                self._cut.remove(row)
        tables = [tuple(table.blocks) for table in self.tables]
        return self.memory.step([Run(*run) for run in zip(tables, starts, counts, strict=True)])

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a row; blocks that nobody else owns are free."""
        self.tables[row].truncate(length)
        self._cut.add(row)

    def fork(self, source: int, target: int) -> None:
        """Make row ``target`` the text of row ``source``: it owns the same blocks, nothing is copied.

        Raises  ValueError: a target that is not empty
        """
        if self.tables[target].length:
            raise ValueError(
                f"row {target}: expected an empty row, it holds {self.tables[target].length} tokens"
            )
        self.tables[target] = self.tables[source].fork()
        if source in self._cut:
            self._cut.add(target)

    def _require_room(self, counts: Sequence[int]) -> None:
        for row, (table, n) in enumerate(zip(self.tables, counts, strict=True)):
            if table.length + n > self._context:
                raise CacheFull(
                    f"row {row}: {table.length} tokens held and {n} new exceed the model's context of "
                    f"{self._context}; truncate the row"
                )
        missing = sum(table.missing(n) for table, n in zip(self.tables, counts, strict=True))
        # When all owners of a block write into it, the last one finds it its own and copies nothing.
        size = self.pool.block_size
        writes = Counter(
            t.blocks[-1] for t, n in zip(self.tables, counts, strict=True) if n and t.length % size
        )
        missing -= sum(n == self.pool.owners(block) > 1 for block, n in writes.items())
        if missing > self.pool.n_free:
            raise CacheFull(
                f"{missing} more blocks needed, {self.pool.n_free} of {self.pool.n_blocks} free; "
                "make the pool larger or truncate a row"
            )
