"""The palette, and matplotlib in the house style on light and on dark pages.

matplotlib is imported when a plot is made, not before: teachkit itself does not need it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Any

# One palette for plots, figures and the book's own style sheet (tests/test_figures.py holds them together).
# The hues of the four lines stay apart for colour-blind readers; for grey print use_style adds dashes.
PALETTE: Mapping[str, Mapping[str, str]] = {
    "light": {
        "background": "#ffffff",
        "surface": "#f5f6f8",
        "ink": "#1b2330",
        "muted": "#586375",
        "rule": "#d3d9e1",
        "accent": "#14548f",
        "second": "#c2570c",
        "third": "#2b8a68",
        "fourth": "#8a4f9e",
    },
    "dark": {
        "background": "#14181f",
        "surface": "#1d232d",
        "ink": "#e4e8ee",
        "muted": "#9ba7b8",
        "rule": "#39434f",
        "accent": "#74b4ee",
        "second": "#f0a066",
        "third": "#62c6a2",
        "fourth": "#cf9fe0",
    },
}


@contextmanager
def style(theme: str = "light") -> Iterator[None]:
    """The house matplotlib style, for the length of a `with`; afterwards everything is as it was."""
    import matplotlib.pyplot as plt

    with plt.rc_context():
        use_style(theme)
        yield


def use_style(theme: str = "light") -> None:
    """The house matplotlib style from here on.

    Raises  ValueError: a theme other than "light" or "dark"
    """
    import matplotlib.pyplot as plt
    from cycler import cycler

    if theme not in PALETTE:
        raise ValueError(f"theme must be 'light' or 'dark', got {theme!r}")
    colour = PALETTE[theme]
    lines = [colour[key] for key in ("accent", "second", "third", "fourth")]
    settings: dict[str, Any] = {
        **dict.fromkeys(("text.color", "axes.titlecolor", "legend.labelcolor"), colour["ink"]),
        **dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), colour["muted"]),
        "grid.color": colour["rule"],
        "axes.prop_cycle": cycler(color=lines, linestyle=["-", "--", "-.", ":"]),
    }
    with resources.as_file(resources.files("teachkit.figures") / "memory_bound.mplstyle") as path:
        plt.style.use([path, settings])


def colours() -> Mapping[str, str]:
    """The palette of the style in force: background surface ink muted rule accent second third fourth."""
    import matplotlib as mpl

    return PALETTE["dark" if mpl.rcParams["text.color"] == PALETTE["dark"]["ink"] else "light"]


def light_and_dark(draw: Callable[[], Any]) -> Iterator[tuple[str, str, float]]:
    """Call `draw` in both styles; yields (theme, base64 PNG, width in CSS pixels)."""
    import matplotlib.pyplot as plt

    for theme in PALETTE:
        with style(theme):
            figure = draw()
            _wrap_titles(figure)
            yield theme, *png(figure)
            plt.close(figure)


def _wrap_titles(figure: Any) -> None:
    """A title wider than the picture goes on in a second line; matplotlib would cut it off."""
    for ax in getattr(figure, "axes", ()):
        titles = {ax.get_title(loc=place) for place in ("left", "center", "right")} - {""}
        for text in ax.findobj(lambda artist: hasattr(artist, "set_wrap")):
            text.set_wrap(text.get_wrap() or text.get_text() in titles)


def png(figure: Any) -> tuple[str, float]:
    """A matplotlib Figure as (base64 PNG at two device pixels per CSS pixel, width in CSS pixels).

    Raises  ValueError: not a Figure
    """
    if not hasattr(figure, "savefig"):
        raise ValueError(
            f"draw() must return a matplotlib Figure, got {type(figure).__name__}; end it with `return fig`"
        )
    buffer = io.BytesIO()
    # No metadata: the same picture gives the same bytes whatever wrote it.
    figure.savefig(buffer, format="png", dpi=200, transparent=True, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode(), float(figure.get_figwidth()) * 100
