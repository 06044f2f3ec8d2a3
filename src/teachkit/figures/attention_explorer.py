"""Attention explorer: the Python face of attention_explorer.js."""

from __future__ import annotations

import base64
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachkit.figures.html import Figure, show

Levels = NDArray[np.uint8]  # probabilities in steps of 1/255
SHADES = 20  # as in attention_explorer.js


def attention_explorer(
    tokens: Sequence[str],
    attention: Any,
    *,
    layer: int = 0,
    head: int = 0,
    token: int | None = None,
    alt: str | None = None,
) -> Figure:
    """Who reads whom: every head of every layer, on one piece of text.

    tokens      S strings, shown as they are, with spaces and line ends made visible
    attention   (L, H, S, S) probabilities, a tensor or an array; a row is a query, a column a key
    layer, head, token   what is chosen when the page opens; token defaults to the last
    alt         defaults to a sentence with the chosen token's strongest readings
    Raises      ValueError: wrong shape, not finite, or rows that do not sum to 1
    Why         one byte per probability is finer than the whole percents that the figure prints, and it keeps
                a page with 24 heads a quarter of the size that decimal numbers would need
    """
    probs = _checked(tokens, attention)
    n_layers, n_heads, n_tokens, _ = probs.shape
    token = n_tokens - 1 if token is None else token
    for what, value, end in (("layer", layer, n_layers), ("head", head, n_heads), ("token", token, n_tokens)):
        if not 0 <= value < end:
            raise ValueError(f"{what}: expected 0 to {end - 1}, got {value}")
    levels = np.rint(probs * 255).astype(np.uint8)
    chosen = levels[layer, head]
    names = [visible(t) for t in tokens]
    alt = alt or (
        f"Attention of layer {layer}, head {head}, over {n_tokens} tokens. "
        f"Token {token}, ‘{names[token]}’, reads {_strongest(names, chosen[token])}."
    )
    data = {
        "tokens": names,
        "layers": n_layers,
        "heads": n_heads,
        "attention": base64.b64encode(levels.tobytes()).decode(),
        "start": {"layer": layer, "head": head, "token": token},
    }
    header = ["position", "token", f"reads most, in layer {layer}, head {head}"]
    rows = [[str(i), names[i], _strongest(names, row)] for i, row in enumerate(chosen)]
    twin = f'{_heat_map(names, chosen, alt)}<p aria-hidden="true">{escape(alt)}</p>'  # on paper, the caption
    return show("attention_explorer", data, alt=alt, static=twin, table=(header, rows))


def visible(token: str) -> str:
    r"""A token as it can be seen: space, tab and line end get a sign; nothing is left empty.

    >>> visible(" def"), visible("\n    "), visible("")
    ('␣def', '⏎␣␣␣␣', '∅')
    """
    shown = token.replace(" ", "␣").replace("\t", "⇥").replace("\r", "␍").replace("\n", "⏎")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", shown) or "∅"


def _checked(tokens: Sequence[str], attention: Any) -> NDArray[np.float64]:
    if hasattr(attention, "detach"):  # a tensor; numpy has no bfloat16
        attention = attention.detach().float().cpu().numpy()
    probs = np.asarray(attention, dtype=np.float64)
    S = len(tokens)
    if probs.ndim != 4 or 0 in probs.shape or probs.shape[2:] != (S, S):
        raise ValueError(
            f"attention: expected (L, H, S, S) with S = {S} tokens, got {probs.shape}; "
            "teachkit.maps.attention_maps gives this shape"
        )
    if not np.isfinite(probs).all() or probs.min() < 0 or np.abs(probs.sum(-1) - 1).max() > 0.02:
        raise ValueError("attention: expected probabilities: finite, not negative, each row summing to 1")
    return probs


def _strongest(names: Sequence[str], row: Levels, count: int = 3) -> str:
    """The `count` most-read keys of one query, as "‘x’ 42 %"; of equals the earlier token first."""
    order = np.argsort(-row.astype(int), kind="stable")[:count]
    percents = {j: _percent(int(row[j])) for j in order}
    return ", ".join(f"‘{names[j]}’ {percent}\u00a0%" for j, percent in percents.items() if percent > 0)


def _percent(level: int) -> int:
    return math.floor(level * 100 / 255 + 0.5)  # rounds as JavaScript does, so both say the same


def _heat_map(names: Sequence[str], levels: Levels, alt: str, cell: int = 16, margin: int = 100) -> str:
    """One head's map as an SVG element. Coloured by the page's variables, it follows light and dark."""
    n = len(names)
    side, size = n * cell, n * cell + margin
    steps: dict[int, list[str]] = defaultdict(list)
    for i, j in np.ndindex(n, n):  # one path per shade, on the same curve as in the script
        steps[round((int(levels[i, j]) / 255) ** 0.6 * SHADES)].append(f"M{j} {i}h1v1h-1z")
    steps.pop(0, None)
    shades = [
        f'<path d="{"".join(cells)}" fill-opacity="{step / SHADES}"/>'
        for step, cells in sorted(steps.items())
    ]
    short = [escape(name if len(name) <= 12 else name[:11] + "…") for name in names]
    rows = [
        f'<text x="-5" y="{i * cell + 12}" text-anchor="end">{name}</text>' for i, name in enumerate(short)
    ]
    columns = [
        f'<text transform="translate({j * cell + 4} {side + 5}) rotate(90)">{name}</text>'
        for j, name in enumerate(short)
    ]
    return (
        f'<svg class="tk-map" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="{-margin} -1 {size + 1} {size + 1}" width="{size}">'
        f'<rect class="tk-grid" width="{side}" height="{side}"/>'
        f'<g class="tk-shades" transform="scale({cell})">{"".join(shades)}</g>'
        f'<g class="tk-names">{"".join(rows + columns)}</g></svg>'
    )
