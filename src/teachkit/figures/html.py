"""Figures as HTML that stands on its own: script, style, data, static twin and table in one cell output."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from teachkit.figures.plots import PALETTE, light_and_dark, png

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Figure:
    """Something a notebook can display: `html`, and `alt` where only plain text goes."""

    html: str
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.alt}

    def page(self, title: str = "Figure") -> str:
        """The figure as a complete HTML page that opens from disk."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<style>body{margin:16px;color-scheme:light dark}</style></head>\n"
            f"<body>\n{self.html}\n</body></html>\n"
        )


def static(draw: Callable[[], Any], *, alt: str) -> Figure:
    """A matplotlib figure, drawn once for light pages and once for dark ones; the page shows the right one.

    draw    makes a figure in the style in force: `fig, ax = plt.subplots(); ...; return fig`. It is called
            twice, so it must not change anything outside itself. Colours beyond the default
            cycle come from `colours()`
    alt     what the picture shows, in a sentence
    Raises  ValueError: empty alt, or draw() did not return a Figure
    """
    _require_alt(alt)
    return Figure(f'<style>{_css("figure")}</style><div class="tk-figure">{_twin(draw, alt)}</div>', alt)


def show(
    name: str, data: Any, *, alt: str, static: Any = None, table: Table | None = None, digits: int = 4
) -> Figure:
    """The interactive figure `<name>.js` fed with `data`.

    data    anything JSON can say; numpy scalars and arrays too. Floats are rounded to `digits` places
    alt     what the picture shows, in a sentence; read out, and shown where no picture can be
    static  the twin for print and for pages without scripts: a function as in `static()`, a finished
            matplotlib Figure, or the text of an SVG element
    table   (header, rows) of strings: the same content as text, folded under the figure
    Raises  ValueError: no such figure, empty alt, an empty heading in table, or a number in data that is not
            finite
    """
    _require_alt(alt)
    script = None if name == "figure" else _asset(f"{name}.js")  # figure.js: what all of them use
    if script is None:
        names = sorted(
            f.name[:-3]
            for f in resources.files("teachkit.figures").iterdir()
            if f.name.endswith(".js") and f.name != "figure.js"
        )
        raise ValueError(f"no figure named {name!r}; there are: {', '.join(names)}")
    text = _json_for_html(data, digits)
    # The key comes from the content, never from a counter or a clock: the same cell gives the same output.
    key = "tk-" + hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:12]
    body = [
        f"<style>{_css('figure')}{_css(name)}</style>",
        # mathjax_ignore: a token such as $x$ must stay text.
        f'<div class="tk-figure mathjax_ignore tex2jax_ignore" data-tk-figure="{key}">',
        '<div class="tk-live"></div>',
        # Always in the page, and hidden by the style sheet once the script has run. <noscript> would stay
        # empty in an untrusted notebook, where scripts are on but this one has been taken out.
        f'<div class="tk-static">{_twin(static, alt)}</div>',
        _table(table) if table else "",
        f'<script type="application/json" class="tk-data">{text}</script>',
        "</div>",
        f"<script>{_asset('figure.js')}{script}</script>",
        f"<script>{_START.replace('NAME', json.dumps(name)).replace('KEY', json.dumps(key))}</script>",
    ]
    return Figure("\n".join(part.strip() for part in body if part), alt)


# Found by key and by not being ready yet, rather than by document.currentScript, which a notebook that
# re-runs scripts does not set; so two equal figures on a page both come alive, and none twice.
_START = """
(function () {
  document.querySelectorAll('[data-tk-figure=' + KEY + ']:not([data-tk-ready])').forEach(function (host) {
    var data = JSON.parse(host.querySelector('.tk-data').textContent);
    window.teachkitFigures[NAME].render(host.querySelector('.tk-live'), data);
    host.setAttribute('data-tk-ready', '');
  });
})();
"""


def _require_alt(alt: str) -> None:
    if not alt or not alt.strip():
        raise ValueError("alt must say in a sentence what the picture shows; some readers get only that")


def _json_for_html(data: Any, digits: int) -> str:
    """JSON that can stand inside a <script> element: nothing in it can close the element or open a comment.

    >>> _json_for_html({"token": "</script>", "weight": np.float32(1 / 3)}, digits=4)
    '{"token":"\\\\u003c/script\\\\u003e","weight":0.3333}'
    """
    text = json.dumps(_plain(data, digits), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _plain(value: Any, digits: int) -> Any:
    """numpy's types as Python's, mappings and sequences gone through, floats rounded."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"data: expected finite numbers, got {value}")
        return round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, Mapping):
        return {str(key): _plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, digits) for item in value]
    return value


def _twin(picture: Any, alt: str) -> str:
    if picture is None:
        return f"<p>{escape(alt)}</p>"
    if isinstance(picture, str):
        return picture
    if not callable(picture):
        return _img(*png(picture), alt, 'class="dark-light tk-paper"')
    # Where a sanitiser drops the style sheet, `hidden` still keeps the dark picture off a light page.
    attributes = {"light": 'class="only-light"', "dark": 'class="only-dark" hidden'}
    return "".join(
        _img(data, width, alt, attributes[theme]) for theme, data, width in light_and_dark(picture)
    )


def _img(data: str, width: float, alt: str, attributes: str) -> str:
    return f'<img {attributes} alt="{escape(alt)}" width="{width:.0f}" src="data:image/png;base64,{data}">'


def _table(table: Table) -> str:
    header, rows = table
    if not all(cell.strip() for cell in header):
        raise ValueError(f"table: expected a word above every column, got {list(header)}")
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<details class="tk-table"><summary>As a table</summary>'
        '<div class="tk-scroll" tabindex="0" role="region" aria-label="Table">'  # scrolled by keys, too
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        "</details>"
    )


@cache
def _asset(name: str) -> str | None:
    """The text of a file of this folder; None when there is no such file."""
    file = resources.files("teachkit.figures") / name
    return file.read_text(encoding="utf-8") if re.fullmatch(r"\w+\.\w+", name) and file.is_file() else None


@cache
def _css(name: str) -> str:
    """A style sheet of this folder, without comments; `$light;` and `$dark;` become the palette."""
    text = _asset(f"{name}.css") or ""
    for theme, palette in PALETTE.items():
        text = text.replace(f"${theme};", "".join(f"--tk-{key}:{value};" for key, value in palette.items()))
    return re.sub(r"\s*/\*.*?\*/\s*|\s*\n\s*", "\n", text, flags=re.DOTALL)
