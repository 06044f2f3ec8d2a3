"""Frames of a pool of blocks: who owns which, and what lies in them, taken from the live objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

UNSEEN = "…"  # of a slot that is filled, with a token that no frame has seen

Tokens = Sequence[str] | Callable[[], Sequence[str]]


@runtime_checkable
class Pool(Protocol):
    """What is asked of a pool; :class:`teachkit.blocks.BlockPool` is one."""

    n_blocks: int
    block_size: int

    def owners(self, block: int) -> int:
        """How many own a block."""

    def is_known(self, block: int) -> bool:
        """Whether its content can be found."""


@runtime_checkable
class Table(Protocol):
    """What is asked of a block table; :class:`teachkit.block_table.BlockTable` is one."""

    blocks: list[int]
    length: int


@dataclass(frozen=True)
class BlockState:
    """One block in one frame. It is free if nobody owns it and it is not kept.

    owners  the named sequences that own it
    others  owners beside these
    kept    owned by nobody, but its content can be found
    slots   the tokens in it; none where only others know them
    new     ``slots[new:]`` were not there in the frame before
    """

    owners: tuple[str, ...]
    others: int
    kept: bool
    slots: tuple[str, ...]
    new: int

    @property
    def owned(self) -> bool:
        """Whether anybody owns it."""
        return bool(self.owners) or self.others > 0


@dataclass(frozen=True)
class BlockFrame:
    """The pool at one moment, and a sentence that says what has just happened.

    tables  of each sequence: its blocks in order, and its tokens
    """

    says: str
    block_size: int
    blocks: tuple[BlockState, ...]
    tables: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]


class Recorder:
    """Takes frames of a pool and of the block tables of named sequences.

    pool    a :class:`teachkit.blocks.BlockPool`, or whatever has one as ``.pool``: a PagedCache, an Engine
    frames  those taken so far

    Take one after every change that is to be seen: a block that nobody owns any more is shown with what the
    frame before has seen in it.

        recorder = Recorder(pool)
        recorder.add("A", table, tokens)
        table.reserve(6)
        recorder.frame("A stores six tokens: two blocks.")
    """

    def __init__(self, pool: Any) -> None:
        self._pool: Pool = getattr(pool, "pool", pool)
        self._watched: dict[str, tuple[Table, Tokens]] = {}
        self.frames: list[BlockFrame] = []

    def add(self, name: str, table: Table, tokens: Tokens) -> None:
        """Show a sequence from the next frame on; a name that is there already stands for this one now.

        tokens  their texts, at least as many as the table holds; a list may grow, or a function gives them
        """
        self._watched[name] = (table, tokens)

    def remove(self, name: str) -> None:
        """Show a sequence no longer. Raises ValueError: no such name."""
        if name not in self._watched:
            raise ValueError(f"name: expected one of {', '.join(self._watched) or 'none'}; got {name!r}")
        del self._watched[name]

    def frame(self, says: str) -> BlockFrame:
        """Take a frame. ``says`` tells in a sentence what has happened since the one before.

        Raises  ValueError: no sentence, fewer tokens than a table holds, a table that lists a block which it
                does not own, two sequences that share a slot and tell two tokens of it
        """
        if not says.strip():
            raise ValueError("says: expected a sentence that tells what has happened, got none")
        tables = {name: self._read(name) for name in self._watched}
        found = self._contents(tables)
        before = self.frames[-1].blocks if self.frames else ()
        blocks = tuple(
            self._state(block, found.get(block), before[block] if before else None)
            for block in range(self._pool.n_blocks)
        )
        taken = BlockFrame(says, self._pool.block_size, blocks, tables)
        self.frames.append(taken)
        return taken

    def _read(self, name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        table, tokens = self._watched[name]
        texts = tokens() if callable(tokens) else tokens
        if len(texts) < table.length:
            raise ValueError(
                f"tokens of {name}: expected the texts of the {table.length} that its table holds, "
                f"got {len(texts)}"
            )
        return tuple(table.blocks), tuple(texts[: table.length])

    def _contents(
        self, tables: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]
    ) -> dict[int, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Of each block that a named sequence owns: their names, and its tokens."""
        size = self._pool.block_size
        found: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for name, (blocks, tokens) in tables.items():
            for i, block in enumerate(blocks):
                names, slots = found.get(block, ((), ()))
                more = tokens[i * size : (i + 1) * size]
                short, long = sorted((slots, more), key=len)
                if long[: len(short)] != short:
                    raise ValueError(f"block {block}: {name} and {names[0]} tell different tokens of it")
                found[block] = ((*names, name), long)
        return found

    def _state(
        self, block: int, found: tuple[tuple[str, ...], tuple[str, ...]] | None, before: BlockState | None
    ) -> BlockState:
        names, slots = found or ((), ())
        others = self._pool.owners(block) - len(names)
        if others < 0:
            raise ValueError(f"block {block}: in the table of {', '.join(names)}, but it has another owner")
        kept = not names and not others and self._pool.is_known(block)
        if kept:
            seen = before.slots if before else ()
            size = self._pool.block_size
            slots = seen if len(seen) == size else (UNSEEN,) * size
        new = 0
        if before:
            pairs = zip(before.slots, slots, strict=False)
            new = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before.slots), len(slots)))
        return BlockState(names, others, kept, slots, new)
