"""What a model would say after each of its layers: the Python face of logit_lens.js."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachkit.figures.attention_explorer import visible
from teachkit.figures.html import Figure, show

Pieces = Sequence[Sequence[Sequence[str]]]  # [reading][token][rank]
WIDTH, HEIGHT, MARGIN = 84, 22, 96  # of a cell of the twin, and the room for tokens beside it


def logit_lens(
    tokens: Sequence[str],
    pieces: Pieces,
    probs: Any,
    *,
    reading: int | None = None,
    token: int | None = None,
    alt: str | None = None,
) -> Figure:
    """The likeliest next tokens, read off the residual stream before the first layer and after each one.

    tokens   S strings, shown as they are, with spaces and line ends made visible
    pieces   [reading][token][rank]: L + 1 readings (embedding, layer 0, ...) of S tokens, the K likeliest
    probs    (L + 1, S, K) their probabilities, falling along the last axis; a tensor or an array
    reading, token   the cell that is chosen when the page opens; both default to the last
    alt      defaults to a sentence with the chosen token's likeliest continuation in each reading
    Raises   ValueError: shapes that do not fit, no probabilities, a cell that does not exist
    Why      what came next is marked where it is the likeliest, so that one sees from which layer on
    """
    numbers = _checked(tokens, pieces, probs)
    n_readings, n_tokens, _ = numbers.shape
    reading = n_readings - 1 if reading is None else reading
    token = n_tokens - 1 if token is None else token
    for what, value, end in (("reading", reading, n_readings), ("token", token, n_tokens)):
        if not 0 <= value < end:
            raise ValueError(f"{what}: expected 0 to {end - 1}, got {value}")
    names = [visible(t) for t in tokens]
    shown = [[[visible(piece) for piece in cell] for cell in row] for row in pieces]
    percents = np.floor(numbers * 100 + 0.5).astype(int)
    # Compared as they are shown; U+FFFD stands for any bytes that form no character, so it proves nothing.
    came_next = [
        [
            piece == after and "\ufffd" not in piece
            for (piece, *_), after in zip(row, [*names[1:], ""], strict=True)
        ]
        for row in shown
    ]
    labels = ["embedding", *(f"layer {i}" for i in range(n_readings - 1))]
    said = ", ".join(
        f"{label} ‘{row[token][0]}’ {percent}\u00a0%"
        for label, row, percent in zip(labels, shown, percents[:, token, 0], strict=True)
    )
    alt = (
        alt
        or f"The likeliest next token after token {token}, ‘{names[token]}’, read after each layer: {said}."
    )
    data = {
        "tokens": names,
        "labels": labels,
        "pieces": shown,
        "came_next": came_next,
        "percents": percents,
        "start": {"reading": reading, "token": token},
    }
    rows = [
        [str(i), name, *(f"‘{shown[r][i][0]}’ {percents[r, i, 0]}\u00a0%" for r in range(n_readings))]
        for i, name in enumerate(names)
    ]
    twin = f'{_grid(names, labels, shown, came_next, percents, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show("logit_lens", data, alt=alt, static=twin, table=(["position", "token", *labels], rows))


def _checked(tokens: Sequence[str], pieces: Pieces, probs: Any) -> NDArray[np.float64]:
    if hasattr(probs, "detach"):  # a tensor; numpy has no bfloat16
        probs = probs.detach().float().cpu().numpy()
    numbers = np.asarray(probs, dtype=np.float64)
    if numbers.ndim != 3 or 0 in numbers.shape or numbers.shape[1] != len(tokens):
        raise ValueError(
            f"probs: expected (L + 1, {len(tokens)}, K), as there are tokens; got {numbers.shape}"
        )
    found = {len(pieces), *(len(row) for row in pieces), *(len(cell) for row in pieces for cell in row)}
    fits = len(pieces) == numbers.shape[0] and all(
        len(row) == numbers.shape[1] and all(len(cell) == numbers.shape[2] for cell in row) for row in pieces
    )
    if not fits:
        raise ValueError(
            f"pieces: expected {' × '.join(map(str, numbers.shape))} as in probs, got lengths {sorted(found)}"
        )
    # An infinite one makes the sum fail, and a comparison with nan is never true.
    falling = (np.diff(numbers, axis=-1) <= 1e-6).all()
    if not (numbers.min() >= 0 and numbers.sum(-1).max() < 1.001 and falling):
        raise ValueError("probs: expected probabilities, the largest first")
    return numbers


def _grid(
    names: Sequence[str],
    labels: Sequence[str],
    shown: Pieces,
    came_next: Sequence[Sequence[bool]],
    percents: NDArray[np.int64],
    alt: str,
) -> str:
    """All readings as an SVG element, one row per token. Coloured by the page's variables."""
    cells = []
    for (r, i), percent in np.ndenumerate(percents[:, :, 0]):
        piece, x, y = shown[r][i][0], r * WIDTH, i * HEIGHT
        opacity = round((percent / 100) ** 0.6 / 2, 2)  # as in logit_lens.js
        right = came_next[r][i]
        cells.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH - 2}" height="{HEIGHT - 2}" fill-opacity="{opacity}"/>'
        )
        mark = "✓ " if right else ""
        cells.append(
            f'<text x="{x + 5}" y="{y + 14}">{mark}{escape(_short(piece, 9 if right else 11))}</text>'
        )
    heads = [f'<text x="{r * WIDTH + 5}" y="-7">{escape(label)}</text>' for r, label in enumerate(labels)]
    rows = [
        f'<text x="-6" y="{i * HEIGHT + 14}" text-anchor="end">{escape(_short(name, 12))}</text>'
        for i, name in enumerate(names)
    ]
    width, height = MARGIN + len(labels) * WIDTH, len(names) * HEIGHT + 24
    return (
        f'<svg class="tk-ll-twin" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="{-MARGIN} -24 {width} {height}" width="{width}">'
        f'<g class="tk-ll-names">{"".join(heads + rows)}</g><g class="tk-ll-cells">{"".join(cells)}</g></svg>'
    )


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
