"""A timeline as an SVG element: the twin of request_timeline.js, one step as wide as any other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape

from teachkit.figures.timeline import Cell, Timeline, TimelineStep

ROW, TALL, LOW = 20, 16, 8  # pixels: a row, a chunk of a prompt, a single token
LABELS, WIDTH = 92, 610
BARS, GAP = 48, 22
STATES = {
    "prefill": "prompt",
    "decode": "one generated token",
    "again": "computed again",
    "padding": "padding: computed for nothing",
    "reused": "beginning found stored",
    "waiting": "waits",
    "stalled": "has memory, gets no token",
    "preempted": "preempted",
}
Pixels = float | int
Rect = tuple[str, Pixels, Pixels, Pixels, Pixels]  # kind, x, y, width, height


def picture(timeline: Timeline, most: dict[str, int], alt: str) -> str:
    """Requests over steps, and under them tokens and blocks per step, on the scales that ``most`` gives."""
    w = min(24.0, WIDTH / most["steps"])
    top = len(timeline.requests) * ROW
    drawn = _row_names(timeline) + _rows(timeline, w)
    drawn += _chart(f"tokens, to {most['tokens']:,}", top + GAP, _token_bars(timeline, w, most["tokens"]))
    drawn += _budget(timeline, top + GAP, w, most["tokens"])
    bottom = top + GAP + BARS
    if most["blocks"]:
        bars = [
            ("blocks", i * w, BARS * (1 - used / most["blocks"]), w, BARS * used / most["blocks"])
            for i, used in enumerate(step.blocks_used or 0 for step in timeline.steps)
        ]
        counted = any(step.blocks_used is not None for step in timeline.steps)
        title = f"blocks, to {most['blocks']:,}" if counted else "blocks: not counted here"
        drawn += _chart(title, bottom + GAP, bars) + _pool(timeline, bottom + GAP, w, most["blocks"])
        bottom += GAP + BARS
    drawn += _ticks(most["steps"], bottom, w)
    return (
        f'<svg role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {LABELS + WIDTH} {bottom + 34}" width="{LABELS + WIDTH}">{drawn}</svg>'
    )


def key(timelines: Sequence[Timeline]) -> str:
    """What the marks mean, as a second SVG element: those that occur."""
    found = {kind for timeline in timelines for step in timeline.steps for kind in _kinds(step)}
    drawn, x, y = "", 0.0, 0.0
    for kind, words in STATES.items():
        if kind not in found:
            continue
        wide = 34 + 7 * len(words)
        if x + wide > LABELS + WIDTH:
            x, y = 0.0, y + ROW
        drawn += f'<g transform="translate({x:.0f} {y:.0f})">{_marks(_mark(kind, 0, 0, 16))}'
        drawn += f'<text x="22" y="14">{escape(words)}</text></g>'
        x += wide
    return (
        f'<svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {LABELS + WIDTH} {y + ROW:.0f}" width="{LABELS + WIDTH}">{drawn}</svg>'
    )


def _kinds(step: TimelineStep) -> Iterator[str]:
    for name in step.cells:
        cell = step.cell(name)
        if cell is not None:
            yield cell.kind
            yield from (["reused"] if cell.reused else [])
            yield from (["padding"] if cell.padding else [])
    yield from (state for state in ("waiting", "stalled", "preempted") if getattr(step, state))


def _mark(kind: str, x: Pixels, y: Pixels, w: Pixels) -> list[Rect]:
    """One state that is no cell with a count, or a full cell of its kind."""
    if kind in ("waiting", "stalled"):
        return [(kind, x, y + ROW / 2 - 1, w, 2)]
    if kind == "preempted":
        return [(kind, x, y + 4, w, ROW - 8)]
    if kind == "reused":
        return [(kind, x, y + (ROW - TALL) / 2, _strip(w), TALL)]
    high = LOW if kind in ("decode", "padding") else TALL
    return [(kind, x, y + (ROW - high) / 2, w, high)]


def _strip(w: Pixels) -> Pixels:
    """What was found stored takes no time: a strip at the front of the step that found it."""
    return max(0.35 * w, min(3, w / 2))


def _cell(cell: Cell, x: Pixels, y: Pixels, w: Pixels) -> list[Rect]:
    """A cell: its useful part below, its padding above, what was found stored in front."""
    high = TALL if cell.kind in ("prefill", "again") or cell.n > 1 else LOW
    low = high * cell.n / (cell.n + cell.padding)
    start = y + (ROW - high) / 2
    rects = [(cell.kind, x, start + high - low, w, low)]
    if cell.padding:
        rects.append(("padding", x, start, w, high - low))
    return rects + (_mark("reused", x, y, w) if cell.reused else [])


def _rows(timeline: Timeline, w: Pixels) -> str:
    rects: list[Rect] = []
    inner = w - min(1.0, 0.15 * w)
    numbers = ""
    for i, step in enumerate(timeline.steps):
        for row, name in enumerate(timeline.requests):
            cell = step.cell(name)
            if cell is not None:
                rects += _cell(cell, i * w, row * ROW, inner)
                numbers += _count(cell, i * w, row * ROW, inner)
            for state in ("waiting", "stalled", "preempted"):
                if name in getattr(step, state) and not (state == "waiting" and name in step.preempted):
                    rects += _mark(state, i * w, row * ROW, inner)
    return f'<g transform="translate({LABELS} 0)">{_marks(rects)}{numbers}</g>'


def _count(cell: Cell, x: Pixels, y: Pixels, w: Pixels) -> str:
    """The tokens of a chunk as a number, where there is room for it."""
    free = w - _strip(w) if cell.reused else w
    if cell.kind not in ("prefill", "again") or cell.padding or free < 7 * len(str(cell.n)) + 1:
        return ""
    return f'<text class="count" x="{x + w - free / 2:.1f}" y="{y + 14}">{cell.n}</text>'


def _joined(rects: Sequence[Rect]) -> list[Rect]:
    """Waiting in one step after another is one line; so are cells too narrow to be told apart."""
    joined: list[Rect] = []
    latest: dict[tuple[str, Pixels, Pixels], int] = {}
    for kind, x, y, w, h in rects:
        place = latest.get((kind, y, h))
        if place is not None and (kind == "waiting" or w < 3.5):
            left, wide = joined[place][1], joined[place][3]
            if x - left - wide < 1.5:
                joined[place] = (kind, left, y, x + w - left, h)
                continue
        latest[kind, y, h] = len(joined)
        joined.append((kind, x, y, w, h))
    return joined


def _marks(rects: Sequence[Rect]) -> str:
    """One path for each kind; waiting is a dashed line, and the preempted get a cross."""
    paths: dict[str, list[str]] = defaultdict(list)
    for kind, x, y, w, h in _joined(rects):
        if kind == "waiting":
            paths[kind].append(f"M{x:.1f} {y + 1:.1f}h{w:.1f}")
        elif kind == "preempted":
            side = max(6.0, min(w, h, 10.0))  # wider than a narrow step, or it could not be seen
            left, top = x + (w - side) / 2, y + (h - side) / 2
            across = f"l{side:.1f} {side:.1f}m0-{side:.1f}l-{side:.1f} {side:.1f}"
            paths[kind].append(f"M{left:.1f} {top:.1f}{across}")
        else:
            paths[kind].append(f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h-{w:.1f}z")
    return "".join(f'<path class="{kind}" d="{"".join(d)}"/>' for kind, d in paths.items())


def _row_names(timeline: Timeline) -> str:
    short = [name if len(name) <= 13 else f"{name[:12]}…" for name in timeline.requests]
    return "".join(f'<text y="{i * ROW + 14}">{escape(name)}</text>' for i, name in enumerate(short))


def _token_bars(timeline: Timeline, w: Pixels, most: int) -> list[Rect]:
    """Of each step its tokens, one kind upon another; cut off where they exceed the scale."""
    rects: list[Rect] = []
    for i, step in enumerate(timeline.steps):
        below = 0
        for kind in ("decode", "prefill", "again", "padding"):
            upper = min(most, below + step.tokens(kind))
            if upper > below:
                y, high = BARS * (1 - upper / most), BARS * (upper - below) / most
                rects.append((kind, i * w, y, w - min(1.0, 0.15 * w), high))
            below = upper
    return rects


def _chart(title: str, y: Pixels, rects: Sequence[Rect]) -> str:
    return (
        f'<g transform="translate({LABELS} {y})"><text class="title" y="-5">{title}</text>'
        f'<rect class="paper" width="{WIDTH}" height="{BARS}"/>{_marks(rects)}</g>'
    )


def _budget(timeline: Timeline, y: Pixels, w: Pixels, most: int) -> str:
    limits = [step.budget for step in timeline.steps]
    lines = ""
    for i, limit in enumerate(limits):
        if limit is not None and limit <= most:
            # One line as long as the budget stays, or its dashes would merge.
            same = i and limits[i - 1] == limit
            lines += "" if same else f"M{i * w:.2f} {BARS * (1 - limit / most):.1f}"
            lines += f"h{w:.2f}"
    over = "".join(
        f"M{(i + 0.5) * w - 3:.1f} 5h6l-3-5z" for i, step in enumerate(timeline.steps) if step.tokens() > most
    )
    paths = "".join(f'<path class="{kind}" d="{d}"/>' for kind, d in (("budget", lines), ("over", over)) if d)
    return f'<g transform="translate({LABELS} {y})">{paths}</g>'


def _pool(timeline: Timeline, y: Pixels, w: Pixels, most: int) -> str:
    """As many blocks as there are, where this schedule has steps."""
    if timeline.n_blocks is None:
        return ""
    high, wide = BARS * (1 - timeline.n_blocks / most), len(timeline.steps) * w
    return f'<path class="budget" transform="translate({LABELS} {y})" d="M0 {high:.1f}h{wide:.1f}"/>'


def _ticks(steps: int, y: Pixels, w: Pixels) -> str:
    """Numbers of steps under the columns: the first, and round ones."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n * w >= 34)
    numbers = [1, *range(every, steps + 1, every)] if every > 1 else range(1, steps + 1)
    texts = "".join(
        f'<text class="tick" x="{(n - 0.5) * w:.1f}" y="{y + 14}">{n}</text>'
        for n in numbers
        if (n - 0.5) * w <= WIDTH - 10
    )
    return f'<g transform="translate({LABELS} 0)">{texts}<text class="title" y="{y + 30}">step</text></g>'
