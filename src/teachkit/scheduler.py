"""Who computes what in the next step: continuous batching, chunked prefill, preemption. No torch here.

A sequence is a list of tokens of which the first ``computed`` have their keys and values stored. That number
changes when a step has been done, not when it is planned: a step that failed has changed nothing, and is
planned again. Whatever is left is pending: the whole prompt at first, one token in each step of decoding,
everything again after a preemption. So prefill and decode are one case, and a step is a list of *chunks*, the
next pending tokens of some sequences, within a budget of tokens.

There is one rule: **first come, first served.** Sequences take their tokens and their blocks in the order in
which they came. When blocks run out, the one that came last gives all of its blocks back and waits: its
tokens are known, so its keys and values can be computed again. From this follows that those who run came
before all who wait, and that the oldest gets at least one token in every step and loses nothing to anyone.
A request is done after at most the sum, over itself and all that came before it and are not done, of::

    ceil((prompt + max_new) / max_batch_tokens) + max_new    steps

Source: Yu et al. 2022 (Orca), section 4; Kwon et al. 2023 (vLLM), arXiv:2309.06180, section 4.5; chunked
prefill: Agrawal et al. 2024 (Sarathi-Serve), arXiv:2403.02310.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from teachkit.block_table import BlockTable
from teachkit.blocks import BlockPool, Key, block_keys, blocks_for

Status = Literal["new", "waiting", "running", "finished"]


class Sequence:
    """The tokens of one request, and how far they are computed.

    tokens     prompt and output so far
    n_prompt   how many of them are the prompt
    computed   tokens whose keys and values are stored; the table may hold room for more
    reused     tokens that were found in known blocks instead of being computed, last time it was admitted
    preempted  how often it lost its blocks
    """

    def __init__(self, prompt: collections.abc.Sequence[int], max_new_tokens: int, pool: BlockPool) -> None:
        if not len(prompt):
            raise ValueError("prompt: expected at least one token, got none")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
        self.tokens = list(prompt)
        self.n_prompt, self.max_new_tokens = len(self.tokens), max_new_tokens
        self.table = BlockTable(pool)
        self.status: Status = "new"
        self.computed = self.reused = self.preempted = 0
        self._keys: list[Key] = []

    @property
    def start(self) -> int:
        """Where its next chunk begins: at the last token, at most, since the next one comes from there."""
        return min(self.computed, len(self.tokens) - 1)

    @property
    def pending(self) -> int:
        """Tokens that must go through the model before the next one is known."""
        return len(self.tokens) - self.start

    @property
    def output(self) -> list[int]:
        """Tokens that were generated."""
        return self.tokens[self.n_prompt :]

    @property
    def complete(self) -> bool:
        """Whether it has all the tokens it may have."""
        return len(self.tokens) >= self.n_prompt + self.max_new_tokens

    @property
    def most_stored(self) -> int:
        """Tokens stored when it is complete: all but the last, which nobody attends to."""
        return self.n_prompt + self.max_new_tokens - 1

    def keys(self) -> list[Key]:
        """Of each full block of its tokens."""
        self._keys = block_keys(self.tokens, self.table.pool.block_size, self._keys)
        return self._keys


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next ``n`` pending tokens of a sequence, from position ``start``."""

    sequence: Sequence
    start: int
    n: int

    @property
    def tokens(self) -> list[int]:
        """Their ids."""
        return self.sequence.tokens[self.start : self.start + self.n]

    @property
    def samples(self) -> bool:
        """Whether it ends with the last known token, so that the model tells the next one."""
        return self.start + self.n == len(self.sequence.tokens)


@dataclass(frozen=True)
class Plan:
    """One step.

    chunks     what goes through the model, in the order in which the sequences came
    admitted   sequences that run from this step on
    preempted  sequences that had to give their blocks back
    """

    chunks: list[Chunk] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """In the step, of all sequences together."""
        return sum(chunk.n for chunk in self.chunks)


class Scheduler:
    """First come, first served, over one pool of blocks.

    max_batch_tokens  tokens in one step, of all sequences together
    max_batch         sequences that run at a time; None: as many as there are blocks for
    reuse             begin with known blocks where a prompt begins like an earlier one
    Raises            ValueError: max_batch_tokens or max_batch below 1
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_batch_tokens: int,
        max_batch: int | None = None,
        reuse: bool = True,
    ) -> None:
        if max_batch_tokens < 1 or (max_batch is not None and max_batch < 1):
            raise ValueError(
                f"max_batch_tokens, max_batch: expected at least 1, got {max_batch_tokens} and {max_batch}"
            )
        self.pool, self.reuse = pool, reuse
        self.max_batch_tokens, self.max_batch = max_batch_tokens, max_batch or pool.n_blocks
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in the order in which they came

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait behind all others.

        Raises  ValueError: one that could never be completed, or that has been added before
        """
        if sequence.status != "new":
            raise ValueError(f"sequence: expected one that was never added, it is {sequence.status}")
        need = blocks_for(sequence.most_stored, self.pool.block_size)
        if need > self.pool.n_blocks:
            raise ValueError(
                f"prompt of {sequence.n_prompt} tokens and max_new_tokens {sequence.max_new_tokens}: need "
                f"{need} blocks of {self.pool.block_size} tokens, the pool has {self.pool.n_blocks}"
            )
        sequence.status = "waiting"
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, finished or cancelled, and its blocks from it. Raises ValueError: not here."""
        if sequence.status == "running":
            self.running.remove(sequence)
        elif sequence.status == "waiting":
            self.waiting.remove(sequence)
        else:
            raise ValueError("sequence: expected one that waits or runs; it has been removed, or never added")
        sequence.table.truncate(0)
        sequence.status = "finished"

    def plan(self) -> Plan:
        """The next step: reserves its blocks. Empty when nobody waits or runs."""
        plan, budget = Plan(), self.max_batch_tokens
        for sequence in list(self.running):
            if budget == 0 or sequence.status != "running":  # preempted for one that came before it
                break
            budget -= self._schedule(sequence, budget, plan)
        while budget and self.waiting and not plan.preempted and self._admit(plan):
            budget -= self._schedule(self.running[-1], budget, plan)
        return plan

    def advance(self, plan: Plan) -> None:
        """The keys and values of a plan's chunks are stored: what fills a block can be found from now on."""
        for chunk in plan.chunks:
            sequence, end = chunk.sequence, chunk.start + chunk.n
            if sequence.status != "running":  # cancelled within the step
                continue
            sequence.computed = end
            if self.reuse:
                sequence.table.publish(sequence.keys(), chunk.start, end)

    def _schedule(self, sequence: Sequence, budget: int, plan: Plan) -> int:
        """Give a running sequence its next tokens, at most ``budget``; how many it got."""
        start, n = sequence.start, min(sequence.pending, budget)
        sequence.table.truncate(start)  # room that was made for a step which was not done
        self._make_room(sequence, n, plan)
        n = min(n, self._room(sequence))
        if n:
            copies = sequence.table.reserve(n)
            assert not copies  # only full blocks are shared, and nobody writes into them
            plan.chunks.append(Chunk(sequence, start, n))
        return n

    def _make_room(self, sequence: Sequence, n: int, plan: Plan) -> None:
        """Preempt, from the end, those that came after a sequence, until it has room for n more tokens."""
        while sequence.table.missing(n) > self.pool.n_free and self.running[-1] is not sequence:
            last = self.running.pop()
            last.table.truncate(0)
            last.status, last.computed, last.preempted = "waiting", 0, last.preempted + 1
            self.waiting.appendleft(last)
            plan.preempted.append(last)

    def _room(self, sequence: Sequence) -> int:
        """Tokens that a sequence can store with the blocks that are free now."""
        blocks = len(sequence.table.blocks) + self.pool.n_free
        return blocks * self.pool.block_size - sequence.table.length

    def _admit(self, plan: Plan) -> bool:
        """Let the one that has waited longest run, if there are blocks for all that is known of it.

        One block more for each that runs must stay free, beside those that running prompts still need: else
        whoever is let in would soon be sent out again, its work lost.
        """
        if len(self.running) >= self.max_batch:
            return False
        sequence, pool = self.waiting[0], self.pool
        # At least one token is computed, whatever is known: the next one comes from its output.
        keys = sequence.keys()[: (len(sequence.tokens) - 1) // pool.block_size] if self.reuse else []
        known = pool.known(keys)
        promised = sum(
            other.table.missing(len(other.tokens) - other.table.length) + 1 for other in self.running
        )
        needed = blocks_for(len(sequence.tokens), pool.block_size) - sum(pool.owners(b) > 0 for b in known)
        if promised + needed > pool.n_free:
            return False
        self.waiting.popleft()
        self.running.append(sequence)
        sequence.computed = sequence.reused = sequence.table.adopt(keys)
        sequence.status = "running"
        plan.admitted.append(sequence)
        return True
