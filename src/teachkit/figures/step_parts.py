"""Where the time of a step goes: one stacked bar for each step, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from teachkit.figures.plots import PALETTE, style

Parts = Sequence[tuple[str, float, str]]  # name, seconds, what it waits for
HATCHES = {"memory": "", "compute": "////", "link": "...."}
TINTS = (("accent", 1.0), ("second", 1.0), ("third", 1.0), ("fourth", 1.0), ("muted", 1.0), ("accent", 0.45))
NAMED = 0.11  # share of a bar from which a part's name stands in its place
SEEN = 0.003  # share from which a part is more than a hairline, and stands in the legend
FORMATS = {".png": {"Software": None}, ".svg": {"Date": None}}  # the same numbers give the same file


def step_parts(title: str, steps: Mapping[str, Parts]) -> Any:
    """A matplotlib figure in the style in force: a bar for each step, on a scale of its own.

    steps   heading -> parts in the order in which they run; colours are parts, hatches what they wait for
    Raises  ValueError: no step, or a step that takes no time
    """
    import matplotlib.pyplot as plt

    if not steps or any(not sum(seconds for _, seconds, _ in parts) > 0 for parts in steps.values()):
        raise ValueError(f"steps: expected at least one, each of some time; got {dict(steps)}")
    shares = _shares(steps)
    tint = {name: TINTS[i % len(TINTS)] for i, name in enumerate(sorted(shares, key=lambda n: -shares[n]))}
    figure, axes = plt.subplots(len(steps), 1, figsize=(7.2, 1.3 * len(steps) + 1.5), squeeze=False)
    for ax, (heading, parts) in zip(axes[:, 0], steps.items(), strict=True):
        _bar(ax, heading, parts, tint)
    figure.suptitle(title, x=0.01, ha="left")
    sides = list(dict.fromkeys(side for parts in steps.values() for _, _, side in parts))
    seen = {name: tint[name] for name in shares if shares[name] > SEEN}
    figure.legend(handles=_legend(seen, sides), loc="outside lower center", ncols=4)
    return figure


def _shares(steps: Mapping[str, Parts]) -> dict[str, float]:
    """Name of each part -> its largest share of a step."""
    shares: dict[str, float] = {}
    for parts in steps.values():
        total = sum(seconds for _, seconds, _ in parts)
        for name, seconds, _ in parts:
            shares[name] = max(shares.get(name, 0.0), seconds / total)
    return shares


def _bar(ax: Any, heading: str, parts: Parts, tint: Mapping[str, tuple[str, float]]) -> None:
    start, total = 0.0, sum(seconds for _, seconds, _ in parts)
    for name, seconds, side in parts:
        ax.barh(0, seconds * 1e3, left=start * 1e3, **_look(*tint[name], side))
        if seconds > NAMED * total:
            box = {
                "facecolor": PALETTE["light"]["background"],
                "edgecolor": "none",
                "pad": 1.5,
                "alpha": 0.85,
            }
            text = {
                "color": PALETTE["light"]["ink"],
                "ha": "center",
                "va": "center",
                "fontsize": 9,
                "bbox": box,
            }
            ax.text((start + seconds / 2) * 1e3, 0, name.replace(" ", "\n"), **text)
        start += seconds
    ax.set(title=heading, yticks=[], xlim=(0, total * 1e3), xlabel="ms")
    ax.grid(False)
    ax.spines["left"].set_visible(False)


def _look(colour: str, alpha: float, side: str) -> dict[str, Any]:
    edge = PALETTE["light"]["background"]
    return {
        "facecolor": PALETTE["light"][colour],
        "alpha": alpha,
        "hatch": HATCHES.get(side, ""),
        "edgecolor": edge,
        "linewidth": 0.8,
    }


def _legend(tint: Mapping[str, tuple[str, float]], sides: Sequence[str]) -> list[Any]:
    from matplotlib.patches import Patch

    parts = [Patch(label=name, **_look(*look, "")) for name, look in tint.items()]
    return parts + [Patch(label=f"waits for {side}", **_look("ink", 1.0, side)) for side in sides]


def require_format(path: str | Path) -> None:
    """Raises ValueError: a name that ends neither in .png nor in .svg."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"plot: expected a file name that ends in .png or .svg, got {str(path)!r}")


def save_step_parts(path: str | Path, title: str, steps: Mapping[str, Parts]) -> None:
    """Draw :func:`step_parts` on a light page into a PNG or SVG file.

    Raises  ValueError: as that and :func:`require_format`; OSError: a file that cannot be written
    """
    require_format(path)
    import matplotlib.pyplot as plt

    with style("light"):
        figure = step_parts(title, steps)
        background = PALETTE["light"]["background"]
        metadata = FORMATS[Path(path).suffix.lower()]
        try:
            figure.savefig(path, dpi=200, facecolor=background, metadata=metadata)
        finally:
            plt.close(figure)
