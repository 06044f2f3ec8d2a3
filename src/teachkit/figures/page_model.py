"""The bundled model running in the reader's browser: the Python face of page_model.js and of page_model/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachkit.figures.attention_explorer import visible
from teachkit.figures.html import Figure, show

# In the order in which they need each other.
WORKER_SCRIPTS = ("tokenizer", "weights", "engine", "worker")
PAGE_SCRIPTS = ("words", "client", "controls", "attention", "views")
LIKELIEST, ROWS = 8, 10


def page_model(
    text: str,
    tokens: Sequence[tuple[int, str]],
    names: Sequence[str],
    probs: Mapping[str, Any],
    *,
    folder: str,
    offers: Sequence[Mapping[str, Any]],
    vocabulary: Mapping[str, Any],
    alt: str | None = None,
) -> Figure:
    """A model that the reader loads, writes to and watches: tokens, attention, next token, decoding, counted.

    text        in the field when the page opens
    tokens      its tokens, number and text of each
    names       the V tokens of the vocabulary, as text
    probs       (V,) probabilities of the token after the text, by the name of the weights that gave them
    folder      where the files of :func:`teachkit.figures.page_model_weights.export` lie, seen from the page
    offers, vocabulary   what ``offers`` and ``offer`` of the same module say of them; the first of the offers
                is the one that is loaded first
    Raises      ValueError: no probabilities for the first of the offers, or of another shape
    """
    first = offers[0]["name"]
    checked = {name: _checked(name, values, len(names)) for name, values in probs.items()}
    if first not in checked:
        raise ValueError(f"probs: expected those of {first!r}, got {', '.join(checked) or 'none'}")
    order = np.argsort(-checked[first], kind="stable")[:ROWS]
    shown = [visible(names[i]) for i in order]
    strongest = ", ".join(f"‘{shown[i]}’ {_percent(checked[first][order[i]])}" for i in range(3))
    alt = alt or f"After ‘{_end(text)}’ the model, in {first}, expects {strongest}."
    top = [{"label": names[i], "p": checked[first][i]} for i in order[:LIKELIEST]]
    data = {
        "text": text,
        "start": {"tokens": [{"token": i, "label": label} for i, label in tokens], "top": top},
        "folder": folder,
        "offers": offers,
        "vocabulary": vocabulary,
        "worker": source(WORKER_SCRIPTS),
    }
    header = ["rank", "token", *checked]
    rows = [
        [str(rank), name, *(_percent(values[i]) for values in checked.values())]
        for rank, (i, name) in enumerate(zip(order, shown, strict=True), 1)
    ]
    bars = [(name, float(checked[first][i])) for i, name in zip(order, shown, strict=True)]
    twin = f'{_bars(bars[:LIKELIEST], alt)}<p aria-hidden="true">{escape(alt)}</p>'
    # Many digits: the page rounds to the tenth of a per cent, and rounding twice would not give the table's.
    figure = show("page_model", data, alt=alt, static=twin, table=(header, rows), digits=8)
    return Figure(f"<script>{source(PAGE_SCRIPTS)}</script>\n{figure.html}", figure.alt)


def source(scripts: Sequence[str]) -> str:
    """Some scripts of ``page_model/``, one after the other."""
    folder = resources.files("teachkit.figures") / "page_model"
    return "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in scripts)


def _checked(name: str, values: Any, size: int) -> NDArray[np.float64]:
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().float().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,) or not np.isfinite(array).all() or abs(array.sum() - 1) > 1e-3:
        raise ValueError(f"probs: expected {size} probabilities of {name!r}, got shape {array.shape}")
    return array


def _percent(p: float) -> str:
    """As in the script."""
    if 0 < p < 0.0005:
        return "<\u00a00.1\u00a0%"
    return f"{np.floor(p * 1000 + 0.5) / 10:.1f}\u00a0%"


def _end(text: str, length: int = 40) -> str:
    name = visible(text)
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _bars(bars: Sequence[tuple[str, float]], alt: str) -> str:
    """Likeliest tokens as bars, an SVG element."""
    left, width, height = 130, 320, 22
    full = max(p for _, p in bars)
    rows = "".join(
        f'<text x="{left - 8}" y="{height * i + 15}" text-anchor="end">{escape(name[:16])}</text>'
        f'<rect x="{left}" y="{height * i + 3}" width="{max(1.0, p / full * width):.1f}" height="16"/>'
        f'<text x="{left + width + 60}" y="{height * i + 15}" text-anchor="end">{_percent(p)}</text>'
        for i, (name, p) in enumerate(bars)
    )
    return (
        f'<svg class="tk-pm-twin" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {left + width + 64} {height * len(bars)}" width="{left + width + 64}">{rows}</svg>'
    )
