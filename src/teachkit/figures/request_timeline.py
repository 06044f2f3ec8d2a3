"""What each step computed for which request: the Python face of request_timeline.js."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from teachkit.figures.html import Figure, show
from teachkit.figures.timeline import KINDS, Cell, Timeline
from teachkit.figures.timeline_svg import STATES, key, picture

MOST = {"requests": 32, "steps": 400}
TOTALS = ("steps", "seconds", "tokens computed", "padding", "again", "tokens per step")


def request_timeline(timelines: Sequence[Timeline], *, step: int = 0, alt: str | None = None) -> Figure:
    """One or more schedules of the same requests, one scale for all of them; step through each.

    timelines  made by hand, or by :func:`teachkit.figures.timeline.timeline_of`; the first is shown first
    step       the one that is chosen then
    Raises     ValueError: no timelines, two of one name or of different requests, more than 32 requests or
               400 steps, a step that the first does not have
    """
    _require(timelines, step)
    requests = list(timelines[0].requests)
    alt = alt or " ".join(overview(timeline) for timeline in timelines)
    rows = {name: i for i, name in enumerate(requests)}
    most = {
        "steps": max(len(timeline.steps) for timeline in timelines),
        "tokens": _most_tokens(timelines),
        "blocks": _most_blocks(timelines),
    }
    data = {
        "requests": requests,
        "kinds": list(KINDS),
        "states": list(STATES.items()),  # pairs: an object would be sorted
        "start": step,
        "most": {**most, "seconds": max(timeline.seconds for timeline in timelines)},
        "schedules": [_schedule(timeline, rows) for timeline in timelines],
        "totals": [_totals(timeline) for timeline in timelines],
        "total_names": TOTALS,
    }
    table = [row for timeline in timelines for row in _table_rows(timeline)]
    header = ["schedule", "step", "begins, ms", "takes, ms", *KINDS.values(), "found stored", "waiting"]
    header += ["memory, blocks"]
    twin = "".join(
        f"<div><p>{escape(overview(timeline))}</p>{picture(timeline, most, overview(timeline))}</div>"
        for timeline in timelines
    )
    twin = f'<div class="tk-rt-twin">{twin}{key(timelines)}</div>'
    return show("request_timeline", data, alt=alt, static=twin, table=(header, table), digits=6)


def _totals(timeline: Timeline) -> list[str]:
    tokens, steps = timeline.tokens(), len(timeline.steps)
    counts = [f"{timeline.tokens(kind):,}" for kind in ("padding", "again")]
    return [f"{steps:,}", f"{timeline.seconds:.2f}", f"{tokens:,}", *counts, f"{tokens / steps:.1f}"]


def overview(timeline: Timeline) -> str:
    """A schedule in a sentence."""
    steps, seconds, tokens, padding, again, mean = _totals(timeline)
    of_these = [
        f"{count} of them {what}"
        for count, what in ((padding, "padding"), (again, "computed a second time"))
        if count != "0"
    ]
    return (
        f"{timeline.name}: {len(timeline.requests)} requests in {steps} steps and {seconds} s; "
        f"{tokens} tokens computed{', ' if of_these else ''}{' and '.join(of_these)}, {mean} in a step."
    )


def sentence(timeline: Timeline, index: int) -> str:
    """What a step does, in words."""
    step = timeline.steps[index]
    limit = f" of at most {step.budget:,}" if step.budget is not None else ""
    tokens = step.tokens()
    many = "token" if tokens == 1 and not limit else "tokens"
    said = [f"Step {index + 1} of {len(timeline.steps)}, {ms(step.time_s)} ms: {tokens:,}{limit} {many}."]
    cells = {name: cell for name in timeline.requests if (cell := step.cell(name)) is not None}
    for kind, words in (("prefill", "Prompt"), ("again", "Computed again")):
        parts = [_chunk(name, cell) for name, cell in cells.items() if cell.kind == kind]
        said += [f"{words}: {', '.join(parts)}."] if parts else []
    decoding = [name for name, cell in cells.items() if cell.kind == "decode"]
    padding = [f"{name} {cell.useless:,}" for name, cell in cells.items() if cell.useless]
    said += [f"One more token each: {', '.join(decoding)}."] if decoding else []
    said += [f"Padding: {', '.join(padding)}."] if padding else []
    for words, named in (
        ("Preempted", step.preempted),
        ("Has memory, gets no token", step.stalled),
        ("Waiting", step.waiting),
    ):
        said += (
            [f"{words}: {', '.join(name for name in timeline.requests if name in named)}."] if named else []
        )
    if step.blocks_used is not None:
        size = f" of {timeline.n_blocks:,}" if timeline.n_blocks is not None else ""
        said.append(f"Blocks in use: {step.blocks_used:,}{size}.")
    return " ".join(said)


def ms(seconds: float | int) -> str:
    """Milliseconds with three digits, and all that stand before the point.

    >>> ms(0.0012345), ms(0.12345), ms(1.2345)
    ('1.23', '123', '1,234')
    """
    value = seconds * 1e3
    return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _chunk(name: str, cell: Cell) -> str:
    found = f" (after {cell.reused:,} found stored)" if cell.reused else ""
    return f"{name} {cell.n:,}{found}"


def _require(timelines: Sequence[Timeline], step: int) -> None:
    if not timelines or len({timeline.name for timeline in timelines}) < len(timelines):
        raise ValueError(f"timelines: expected different names, got {[t.name for t in timelines]}")
    first = timelines[0]
    if any(list(timeline.requests) != list(first.requests) for timeline in timelines):
        raise ValueError("timelines: expected the same requests in the same order in all of them")
    longest = max(len(timeline.steps) for timeline in timelines)
    if len(first.requests) > MOST["requests"] or longest > MOST["steps"]:
        raise ValueError(
            f"timelines: expected at most {MOST['requests']} requests and {MOST['steps']} steps, "
            f"got {len(first.requests)} and {longest}"
        )
    if not 0 <= step < len(first.steps):
        raise ValueError(f"step: expected 0 to {len(first.steps) - 1}, got {step}")


def _most_tokens(timelines: Sequence[Timeline]) -> int:
    """The top of the tokens' axis: a little above the largest budget, where there is one.

    A padded batch of prompts may be many times that; such a bar is cut off, and marked.
    """
    budgets = [step.budget for timeline in timelines for step in timeline.steps if step.budget is not None]
    most = max(step.tokens() for timeline in timelines for step in timeline.steps)
    return min(most, max(budgets) * 5 // 4) if budgets else most


def _most_blocks(timelines: Sequence[Timeline]) -> int:
    """The top of the blocks' axis; 0 if no step says how many it used."""
    used = [
        step.blocks_used for timeline in timelines for step in timeline.steps if step.blocks_used is not None
    ]
    sizes = [timeline.n_blocks for timeline in timelines if timeline.n_blocks is not None]
    return max(1, *used, *sizes) if used else 0


def _schedule(timeline: Timeline, rows: dict[str, int]) -> dict[str, Any]:
    """What the script needs of a schedule: everything it says is said here."""
    origin, kinds = timeline.steps[0].start_s, list(KINDS)
    steps = []
    for i, step in enumerate(timeline.steps):
        cells = [(rows[name], Cell(*cell)) for name, cell in step.cells.items()]
        steps.append(
            {
                "at": step.start_s - origin,
                "takes": step.time_s,
                "cells": [[row, kinds.index(c.kind), c.n, c.reused, c.padding] for row, c in cells],
                **{
                    state: [rows[name] for name in getattr(step, state)]
                    for state in ("waiting", "preempted", "stalled")
                },
                "tokens": [step.tokens(kind) for kind in kinds],
                "blocks": step.blocks_used,
                "budget": step.budget,
                "says": sentence(timeline, i),
            }
        )
    return {"name": timeline.name, "n_blocks": timeline.n_blocks, "steps": steps}


def _table_rows(timeline: Timeline) -> Iterator[list[str]]:
    origin = timeline.steps[0].start_s
    for i, step in enumerate(timeline.steps):
        counts = [*(step.tokens(kind) for kind in KINDS), step.reused, len(step.waiting)]
        blocks = "–" if step.blocks_used is None else f"{step.blocks_used:,}"
        times = [ms(step.start_s - origin), ms(step.time_s)]
        yield [timeline.name, str(i + 1), *times, *(f"{count:,}" for count in counts), blocks]
