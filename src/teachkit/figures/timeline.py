"""What each step of a server did for whom: the data of a timeline, by hand or from an engine's steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KINDS = {
    "prefill": "prompt",
    "again": "computed again",
    "decode": "generated token",
    "padding": "padding",
}


class Cell(NamedTuple):
    """What one request had computed in one step.

    kind     "prefill": ``n`` tokens of the prompt; "decode": ``n`` generated tokens; "again": ``n`` tokens
             that had been computed before a preemption; "padding": ``n`` tokens that nobody will read
    reused   tokens that were found stored at this point, and not computed
    padding  tokens that were computed beside these ``n``, and that nobody will read
    """

    kind: str
    n: int
    reused: int = 0
    padding: int = 0

    @property
    def useless(self) -> int:
        """Tokens that nobody will read."""
        return self.padding + (self.n if self.kind == "padding" else 0)


@dataclass(frozen=True)
class TimelineStep:
    """One step.

    start_s, time_s  when it began, and how long it took
    cells            name -> Cell, or its fields as a tuple, of each request that had a token in it
    waiting          requests that have come and have no memory
    preempted        requests that lost their memory in this step
    stalled          requests that have memory, and got no token
    blocks_used      blocks, or whatever memory is counted in; None: not shown
    budget           most tokens that a step may have; None: no limit
    """

    start_s: float | int
    time_s: float | int
    cells: Mapping[str, Cell | tuple[Any, ...]]
    waiting: Sequence[str] = ()
    preempted: Sequence[str] = ()
    stalled: Sequence[str] = ()
    blocks_used: int | None = None
    budget: int | None = None

    def cell(self, name: str) -> Cell | None:
        """What a request had computed, None if nothing."""
        return Cell(*self.cells[name]) if name in self.cells else None

    def tokens(self, kind: str | None = None) -> int:
        """Tokens computed, of one kind or of all; padding is a kind."""
        cells = [Cell(*cell) for cell in self.cells.values()]
        if kind is None:
            return sum(cell.n + cell.padding for cell in cells)
        if kind == "padding":
            return sum(cell.useless for cell in cells)
        return sum(cell.n for cell in cells if cell.kind == kind)

    @property
    def reused(self) -> int:
        """Tokens that were found stored."""
        return sum(Cell(*cell).reused for cell in self.cells.values())


@dataclass(frozen=True)
class Timeline:
    """A schedule: what became of some requests.

    name      as in "continuous batching"
    requests  their names, from the top row down
    n_blocks  of the memory; None: the most that a step used
    Raises    ValueError: no requests or two of one name, no steps, a step that begins before the one before
              it ends, takes no time or names an unknown request or kind, a count below its least
    """

    name: str
    requests: Sequence[str]
    steps: Sequence[TimelineStep] = field(repr=False)
    n_blocks: int | None = None

    def __post_init__(self) -> None:
        if not self.requests or len(set(self.requests)) < len(self.requests):
            raise ValueError(f"requests: expected different names, got {list(self.requests)}")
        if not self.steps:
            raise ValueError(f"steps of {self.name!r}: expected at least one, got none")
        clock = self.steps[0].start_s
        for i, step in enumerate(self.steps):
            if not (step.time_s > 0 and step.start_s >= clock - 1e-9):
                raise ValueError(
                    f"step {i} of {self.name!r}: expected one that takes time and begins after the one "
                    f"before, got start {step.start_s} and time {step.time_s}"
                )
            clock = step.start_s + step.time_s
            _require_known(self.name, i, step, set(self.requests))

    @property
    def seconds(self) -> float:
        """From the beginning of the first step to the end of the last."""
        return float(self.steps[-1].start_s + self.steps[-1].time_s - self.steps[0].start_s)

    def tokens(self, kind: str | None = None) -> int:
        """Tokens computed in all steps."""
        return sum(step.tokens(kind) for step in self.steps)


def _require_known(name: str, i: int, step: TimelineStep, requests: set[str]) -> None:
    named = {*step.cells, *step.waiting, *step.preempted, *step.stalled}
    if named - requests:
        raise ValueError(f"step {i} of {name!r}: unknown requests {sorted(named - requests)}")
    for request in step.cells:
        cell = step.cell(request)
        if cell is None or cell.kind not in KINDS or cell.n < 1 or min(cell.reused, cell.padding) < 0:
            raise ValueError(
                f"step {i} of {name!r}, {request}: expected one of {', '.join(KINDS)} and at least one "
                f"token, got {cell}"
            )


def timeline_of(
    steps: Sequence[Any],
    names: Mapping[Any, str],
    name: str = "continuous batching",
    *,
    budget: int | None = None,
    n_blocks: int | None = None,
) -> Timeline:
    """The timeline of an engine's steps, as :class:`teachkit.request.StepMetrics` has them.

    names   request -> its name, in the order of the rows; every request that had a token in a step
    Rule    a request waits from the first step that begins after it was submitted. One that is done and was
            never computed, or never again after a preemption, was cancelled: it is not shown as waiting
    Raises  ValueError: no steps, a request without a name
    """
    if not steps:
        raise ValueError("steps: expected at least one, got none")
    last = {work.request: i for i, step in enumerate(steps) for work in step.work}
    unnamed = [request for request in last if request not in names]
    if unnamed:
        raise ValueError(f"names: expected one for every request, {len(unnamed)} have none: {unnamed[0]}")
    holding: set[Hashable] = set()
    ends: dict[Hashable, int] = {}  # tokens of each that have been computed, ever
    drawn = []
    for i, step in enumerate(steps):
        holding -= set(step.preempted)
        cells = {names[work.request]: _cell(work, holding, ends) for work in step.work}
        holding |= {work.request for work in step.work}
        idle = [
            request
            for request, called in names.items()
            if called not in cells
            and request.submitted_s <= step.start_s
            and (i < last.get(request, -1) or not request.done)
        ]
        drawn.append(
            TimelineStep(
                start_s=step.start_s - steps[0].start_s,
                time_s=step.time_s,
                cells=cells,
                waiting=[names[request] for request in idle if request not in holding],
                preempted=[names[request] for request in step.preempted if request in names],
                stalled=[names[request] for request in idle if request in holding],
                blocks_used=step.blocks_used,
                budget=budget,
            )
        )
    return Timeline(name, list(names.values()), drawn, n_blocks)


def _cell(work: Any, holding: set[Hashable], ends: dict[Hashable, int]) -> Cell:
    """What a piece of work was: the first one after waiting begins behind what was found stored."""
    before = ends.get(work.request, 0)
    ends[work.request] = max(before, work.start + work.n)
    reused = 0 if work.request in holding else work.start
    kind = "decode" if work.decode else "again" if work.start < before else "prefill"
    return Cell(kind, work.n, reused)
