"""Requests over time, and how long they waited: what became of a trace, in one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from teachkit.figures.plots import colours, style

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class RequestTimes:
    """One request, in seconds from the start; None where it did not come to that.

    tpot_s  time per output token after the first
    failed  it ended with an error
    """

    arrival_s: float
    first_s: float | None
    ended_s: float | None
    tpot_s: float | None
    failed: bool = False

    @property
    def ttft_s(self) -> float | None:
        """Time to first token."""
        return None if self.first_s is None else self.first_s - self.arrival_s


def request_times(title: str, requests: Sequence[RequestTimes]) -> Any:
    """A matplotlib figure in the style in force: a line for each request, and the shares of TTFT and TPOT.

    Above, from arrival to first token (thin) and from there to the end (thick); a cross: it failed. Below,
    the share of requests that had their first token, or each further one, within a time.
    Raises  ValueError: no requests
    """
    import matplotlib.pyplot as plt

    if not requests:
        raise ValueError("requests: expected at least one, got none")
    height = 2.2 + min(4.0, 0.06 * len(requests))
    figure = plt.figure(figsize=(7.6, height + 2.6))
    grid = figure.add_gridspec(2, 2, height_ratios=(height, 2.2))
    _draw_lines(figure.add_subplot(grid[0, :]), requests)
    for place, (name, values) in enumerate(_distributions(requests).items()):
        _draw_share(figure.add_subplot(grid[1, place]), name, values)
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=3)
    return figure


def _distributions(requests: Sequence[RequestTimes]) -> dict[str, list[float]]:
    """Sorted, in ms."""
    good = [one for one in requests if not one.failed]
    return {
        "time to first token": sorted(1e3 * one.ttft_s for one in good if one.ttft_s is not None),
        "time per output token": sorted(1e3 * one.tpot_s for one in good if one.tpot_s is not None),
    }


def _draw_lines(ax: Any, requests: Sequence[RequestTimes]) -> None:
    colour, wide = colours(), max(0.8, min(4.0, 160 / len(requests)))
    for place, one in enumerate(sorted(requests, key=lambda one: one.arrival_s)):
        end = one.ended_s if one.ended_s is not None else one.arrival_s
        first = one.first_s if one.first_s is not None else end
        ax.plot([one.arrival_s, first], [place] * 2, **_line(colour["second"], min(1.2, wide / 2)))
        if one.first_s is not None:
            ax.plot([first, end], [place] * 2, **_line(colour["accent"], wide))
        if one.failed:
            ax.plot([end], [place], **_cross(colour["ink"]))
    ax.set(xlabel="seconds", ylabel="request, by arrival")
    ax.set_xlim(left=0)
    ax.set_ylim(len(requests) - 0.5, -0.5)  # the first on top
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.grid(visible=False, axis="y")


def _draw_share(ax: Any, name: str, values: Sequence[float]) -> None:
    """How many percent of the requests are within each time: a stair that climbs at each of them."""
    colour = colours()
    ax.set(xlabel=f"{name}, ms", ylabel="% of requests", ylim=(0, 103))
    if not values:
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", color=colour["muted"])
        return
    shares = 100 * np.arange(1, len(values) + 1) / len(values)
    ax.plot([values[0], *values], [0, *shares], **_line(colour["accent"], 1.6), drawstyle="steps-post")
    for p in PERCENTILES:
        ax.axvline(float(np.percentile(values, p)), color=colour["muted"], linewidth=0.8, linestyle=":")
    ax.set_xlim(left=0)
    marks = ", ".join(f"p{p} {np.percentile(values, p):,.3g}" for p in PERCENTILES)
    ax.set_title(f"{marks} ms", fontsize=9, loc="left", color=colour["muted"])


def _line(colour: str, width: float) -> dict[str, Any]:
    return {"color": colour, "linewidth": width, "linestyle": "-", "solid_capstyle": "butt"}


def _cross(colour: str) -> dict[str, Any]:
    return {"marker": "x", "markersize": 5, "linestyle": "", "color": colour}


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    colour = colours()
    return [
        Line2D([], [], label="waits for its first token", **_line(colour["second"], 1.2)),
        Line2D([], [], label="is given tokens", **_line(colour["accent"], 4.0)),
        Line2D([], [], label="failed", **_cross(colour["ink"])),
    ]


def in_words(title: str, requests: Sequence[RequestTimes]) -> str:
    """What the figure shows, for those who do not see it."""
    failed = sum(one.failed for one in requests)
    said = [f"{title}. {len(requests)} requests over time, each from arrival to its first and last token"]
    if failed:
        said.append(f"{failed} failed")
    for name, values in _distributions(requests).items():
        if values:
            marks = ", ".join(f"{np.percentile(values, p):.3g} ms for {p} %" for p in PERCENTILES)
            said.append(f"{name} at most {marks}")
    return "; ".join(said) + "."


def save_request_times(path: str | Path, title: str, requests: Sequence[RequestTimes]) -> None:
    """Draw :func:`request_times` on a light page into an SVG file, with :func:`in_words` as its description.

    The same numbers give the same file.
    """
    import matplotlib.pyplot as plt

    with style("light"):
        figure = request_times(title, requests)
        drawn = io.StringIO()
        try:
            background = colours()["background"]
            figure.savefig(drawn, format="svg", facecolor=background, metadata={"Date": None})
        finally:
            plt.close(figure)
    head, tag, rest = drawn.getvalue().partition("<svg ")
    attributes, end, body = rest.partition(">")
    words = f"<title>{escape(title)}</title><desc>{escape(in_words(title, requests))}</desc>"
    Path(path).write_text(f'{head}{tag}role="img" {attributes}{end}{words}{body}', encoding="utf-8")
