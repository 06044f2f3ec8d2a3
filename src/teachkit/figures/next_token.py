"""Next token: the Python face of next_token.js."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachkit.figures.attention_explorer import visible
from teachkit.figures.html import Figure, show

Numbers = NDArray[np.float64]
TOP_K = (
    1,
    2,
    3,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1000,
)  # the slider's stops, as in next_token.js; the last is "off"
STEP = 1000  # gaps between logits are sent in thousandths


def next_token(
    prompts: Sequence[str],
    logits: Any,
    names: Sequence[str],
    *,
    prompt: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    shown: int = 20,
    alt: str | None = None,
) -> Figure:
    """What may come next, and how temperature, top-k and top-p change it.

    prompts   N texts; the reader chooses among them
    logits    (N, V), a tensor or an array: the model's scores after the last token of each
    names     V strings, the text of each token
    prompt, temperature, top_k, top_p   what is set when the page opens; settings as in teachkit.sampling
    shown     tokens that get a row of their own, most likely first; one row holds all others together
    alt       defaults to a sentence with the most likely tokens at these settings
    Raises    ValueError: wrong shape, logits that are not finite, a setting out of range
    Why       all V logits travel, as two bytes each: how far a token lies below the largest, in thousandths.
              So temperature and top-p are right for the tokens without a row, too: a probability is off by
              0.05 % of itself at temperature 1. A gap beyond 65 counts as 65, a probability below 1e-28
    """
    values = _checked(prompts, logits, names)
    if not 0 <= prompt < len(prompts):
        raise ValueError(f"prompt: expected 0 to {len(prompts) - 1}, got {prompt}")
    if not 0 <= temperature <= 2:
        raise ValueError(f"temperature: expected 0 to 2, got {temperature}")
    for name, value in (("temperature", temperature), ("top_p", 1.0 if top_p is None else top_p)):
        if abs(20 * value - round(20 * value)) > 1e-9:
            raise ValueError(f"{name}: expected a multiple of 0.05, which the slider can show, got {value}")
    if top_k is not None and top_k not in TOP_K:
        raise ValueError(f"top_k: expected None or one of {', '.join(map(str, TOP_K))}, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], got {top_p}")
    if not 1 <= shown <= values.shape[1]:
        raise ValueError(f"shown: expected 1 to {values.shape[1]}, got {shown}")
    order = np.argsort(-values, axis=1, kind="stable")
    gaps = -np.take_along_axis(values - values.max(1, keepdims=True), order, axis=1)
    top = [[visible(names[token]) for token in row[:shown]] for row in order]
    given, now = distribution(gaps[prompt]), distribution(gaps[prompt], temperature, top_k, top_p)
    alt = alt or (
        f"What may follow ‘{_end(prompts[prompt])}’, at {_settings(temperature, top_k, top_p)}: "
        f"{_strongest(top[prompt], now)}. {np.count_nonzero(now):,} of {len(now):,} tokens can be drawn."
    )
    data = {
        "prompts": list(prompts),
        "tokens": top,
        "vocabulary": values.shape[1],
        "gaps": [base64.b64encode(_packed(row)).decode() for row in gaps],
        "start": {"prompt": prompt, "temperature": temperature, "top_k": top_k, "top_p": top_p},
    }
    header = ["rank", "token", "as the model gives it", f"at {_settings(temperature, top_k, top_p)}"]
    pairs = [*zip(given[:shown], now[:shown], strict=True)]
    labels = [(str(i + 1), name) for i, name in enumerate(top[prompt])]
    if shown < len(now):
        pairs.append((given[shown:].sum(), now[shown:].sum()))
        labels.append(("", f"{len(now) - shown:,} others"))
    rows = [
        [rank, name, _percent(before), _percent(after) if after else "removed"]
        for (rank, name), (before, after) in zip(labels, pairs, strict=True)
    ]
    twin = f'{_bars(rows, pairs, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show("next_token", data, alt=alt, static=twin, table=(header, rows))


def distribution(
    gaps: Numbers, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Numbers:
    """Probabilities of tokens sorted by logit; `gaps` are the distances to the largest. As in the script."""
    if temperature == 0:
        return np.eye(1, len(gaps))[0]
    probs = np.exp(-gaps / temperature)
    probs[top_k or len(gaps) :] = 0
    probs /= probs.sum()
    before = np.cumsum(probs) - probs
    probs[before >= (2 if top_p is None or top_p == 1 else top_p)] = 0
    return np.asarray(probs / probs.sum())


def _checked(prompts: Sequence[str], logits: Any, names: Sequence[str]) -> Numbers:
    if hasattr(logits, "detach"):  # a tensor; numpy has no bfloat16
        logits = logits.detach().float().cpu().numpy()
    values = np.asarray(logits, dtype=np.float64)
    if not prompts or not names or values.shape != (len(prompts), len(names)):
        raise ValueError(
            f"logits: expected (N, V) = ({len(prompts)}, {len(names)}), a row per prompt, a column per name, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("logits: expected finite numbers, got NaN or infinity")
    return values


def _packed(gaps: Numbers) -> bytes:
    return np.rint(gaps * STEP).clip(max=65535).astype("<u2").tobytes()


def _settings(temperature: float, top_k: int | None, top_p: float | None) -> str:
    """The settings in words, as in the script."""
    parts = [f"temperature {temperature:g}"]
    parts += [f"top-k {top_k}"] if top_k else []
    parts += [f"top-p {top_p:g}"] if top_p is not None and top_p < 1 else []
    return ", ".join(parts)


def _percent(p: float) -> str:
    """A probability as it is printed: one digit after the point, and never 0 for what is not.

    >>> _percent(0.1234), _percent(0.0004), _percent(0.0)
    ('12.3\\xa0%', '<\\xa00.1\\xa0%', '0\\xa0%')
    """
    if p == 0:
        return "0\u00a0%"
    return "<\u00a00.1\u00a0%" if p < 0.0005 else f"{np.floor(p * 1000 + 0.5) / 10:.1f}\u00a0%"


def _strongest(names: Sequence[str], probs: Numbers, count: int = 3) -> str:
    return ", ".join(f"‘{name}’ {_percent(p)}" for name, p in zip(names[:count], probs, strict=False) if p)


def _end(prompt: str, length: int = 40) -> str:
    text = visible(prompt)
    return text if len(text) <= length else f"…{text[1 - length :]}"


def _bars(rows: Sequence[Sequence[str]], pairs: Sequence[tuple[float, float]], alt: str) -> str:
    """The chart as an SVG element: a bar for what can be drawn, a line where the model's own value ends."""
    left, width, height = 150, 400, 22
    size = left + width + 80, len(rows) * height
    full = next(limit for limit in (0.1, 0.2, 0.5, 1.01) if max(map(max, pairs)) <= limit)
    parts = []
    for i, ((_, name, _, after), (mark, bar)) in enumerate(zip(rows, pairs, strict=True)):
        y = i * height
        short = name if len(name) <= 18 else name[:17] + "…"
        parts += [
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(short)}</text>',
            f'<rect x="{left}" y="{y + 4}" width="{bar / full * width:.1f}" height="{height - 8}"/>',
            f'<path d="M{left + mark / full * width:.1f} {y + 2}v{height - 4}"/>',
            f'<text x="{size[0] - 6}" y="{y + 15}" text-anchor="end">{escape(after)}</text>',
        ]
    return (
        f'<svg class="tk-nt-twin" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" role="img" '
        f'aria-label="{escape(alt)}">{"".join(parts)}</svg>'
    )
