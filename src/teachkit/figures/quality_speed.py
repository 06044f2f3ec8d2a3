"""Number formats of one model: how fast each is, and how well it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teachkit.figures.plots import colours, style


@dataclass(frozen=True)
class Point:
    """One format. ``compiled_tokens_per_s`` is None where there is no such measurement."""

    label: str
    bits_per_byte: float
    tokens_per_s: float
    compiled_tokens_per_s: float | None


def quality_speed(title: str, points: Sequence[Point]) -> Any:
    """A matplotlib figure in the style in force: a line for each format, its speed beside its bits per byte.

    A ring is the step as PyTorch runs it, a disc the compiled one. Each format has a line of its own, since
    several are as good as each other, and their points would lie on one another.
    Raises  ValueError: no points
    """
    import matplotlib.pyplot as plt

    if not points:
        raise ValueError("points: expected at least one, got none")
    figure, (speed, quality) = plt.subplots(
        1, 2, sharey=True, figsize=(7.6, 1.5 + 0.3 * len(points)), width_ratios=(3, 2)
    )
    accent, ink = colours()["accent"], colours()["ink"]
    for place, point in enumerate(points):
        _draw_speed(speed, place, point, accent)
        quality.plot([point.bits_per_byte], [place], marker="D", markersize=6, linestyle="", color=ink)
    speed.set(xlabel="tokens per second, measured", yticks=range(len(points)))
    speed.set_yticklabels([point.label for point in points])
    speed.set_xlim(left=0)
    speed.set_ylim(len(points) - 0.5, -0.5)  # the first on top
    quality.set(xlabel="held-out bits per byte")
    quality.locator_params(axis="x", nbins=4)
    quality.margins(x=0.12)
    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(handles=_legend(accent), loc="outside lower left", ncols=2)
    return figure


def _draw_speed(ax: Any, place: int, point: Point, colour: str) -> None:
    speeds = [s for s in (point.tokens_per_s, point.compiled_tokens_per_s) if s is not None]
    ax.plot(speeds, [place] * len(speeds), linestyle="-", linewidth=0.8, color=colour)
    ax.plot([point.tokens_per_s], [place], **_marker(colour, filled=False))
    if point.compiled_tokens_per_s is not None:
        ax.plot([point.compiled_tokens_per_s], [place], **_marker(colour, filled=True))


def _marker(colour: str, *, filled: bool) -> dict[str, Any]:
    face = colour if filled else "none"
    return {"marker": "o", "markersize": 7, "linestyle": "", "color": colour, "markerfacecolor": face}


def _legend(colour: str) -> list[Any]:
    from matplotlib.lines import Line2D

    names = {"as PyTorch runs it": False, "compiled": True}
    return [Line2D([], [], label=name, **_marker(colour, filled=filled)) for name, filled in names.items()]


def save_quality_speed(path: str | Path, title: str, points: Sequence[Point]) -> None:
    """Draw :func:`quality_speed` on a light page into an SVG file; the same numbers give the same file."""
    import matplotlib.pyplot as plt

    with style("light"):
        figure = quality_speed(title, points)
        try:
            figure.savefig(path, format="svg", facecolor=colours()["background"], metadata={"Date": None})
        finally:
            plt.close(figure)
