"""A generation step by step, with and without a cache: the Python face of decode_steps.js."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape

from teachkit.figures.attention_explorer import visible
from teachkit.figures.html import Figure, show

MOST_TOKENS = 40
SIDES = {"recompute": "Without a cache", "cache": "With a cache"}
KEY = {
    "new": "computed in this step",
    "masked": "computed, then masked away",
    "old": "computed before, not again",
    "kept": "key and value kept",
}


@dataclass(frozen=True)
class DecodeShape:
    """What the counters need to know of a model.

    matrix_params  parameters of the matrices that every token goes through: those of all layers, not the head
    head_params    C * V: the head is applied to the last token only
    itemsize       bytes of a stored number
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    matrix_params: int
    head_params: int
    itemsize: int = 4

    def flops(self, n_new: int, n_seen: int) -> int:
        """FLOPs of the matrix products of one pass: T = n_new tokens go in, each attends over S = n_seen."""
        attention = 4 * self.n_layers * self.n_heads * self.head_dim * n_new * n_seen
        return 2 * n_new * self.matrix_params + 2 * self.head_params + attention

    def kept_bytes(self, n_tokens: int) -> int:
        """Bytes of keys and values of n_tokens."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.itemsize * n_tokens


def decode_steps(
    tokens: Sequence[str], n_prompt: int, shape: DecodeShape, *, step: int = 0, alt: str | None = None
) -> Figure:
    """What each step of a generation computes, without a cache and with one, side by side.

    tokens    S strings: the prompt, then what was generated; the last one is only written, never read
    n_prompt  how many of them are the prompt; step 0 reads it, step n reads the nth generated token
    step      the one that shows when the page opens
    Raises    ValueError: fewer than two steps, more than 40 tokens, a step that does not exist
    """
    n_steps = len(tokens) - n_prompt
    if n_prompt < 1 or n_steps < 2 or len(tokens) > MOST_TOKENS:
        raise ValueError(
            f"tokens, n_prompt: expected a prompt, two or more new tokens and at most {MOST_TOKENS} in all; "
            f"got {len(tokens)} and {n_prompt}"
        )
    if not 0 <= step < n_steps:
        raise ValueError(f"step: expected 0 to {n_steps - 1}, got {step}")
    names = [visible(token) for token in tokens]
    alt = alt or _sentence(names, n_prompt, shape, step)
    data = {"tokens": names, "prompt": n_prompt, "shape": asdict(shape), "start": step}
    header = [
        "step",
        "writes",
        *(f"{side}: {what}" for side in SIDES.values() for what in ("tokens in", "FLOPs")),
    ]
    header += ["bytes kept by the cache"]
    rows = []
    for n in range(n_steps):
        seen = n_prompt + n
        counts = [[str(new), f"{shape.flops(new, seen):,}"] for new in _new(n_prompt, n).values()]
        rows.append([str(n), names[seen], *counts[0], *counts[1], f"{shape.kept_bytes(seen):,}"])
    twin = f'{_picture(names, n_prompt, step, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show("decode_steps", data, alt=alt, static=twin, table=(header, rows))


def _new(n_prompt: int, step: int) -> dict[str, int]:
    """Tokens that go through the model in this step, per side."""
    return {"recompute": n_prompt + step, "cache": n_prompt if step == 0 else 1}


def _sentence(names: Sequence[str], n_prompt: int, shape: DecodeShape, step: int) -> str:
    seen = n_prompt + step
    work = {side: shape.flops(new, seen) for side, new in _new(n_prompt, step).items()}
    tokens = {side: f"{new} token{'s' * (new > 1)}" for side, new in _new(n_prompt, step).items()}
    return (
        f"Step {step} writes ‘{names[seen]}’. Without a cache, {tokens['recompute']} go through the model, "
        f"{work['recompute']:,} FLOPs; with one, {tokens['cache']}, {work['cache']:,} FLOPs."
    )


def _picture(names: Sequence[str], n_prompt: int, step: int, alt: str, cell: int = 11) -> str:
    """Both sides as one SVG element: a table of queries and keys, a mark per token beside it, and a key."""
    seen, side = n_prompt + step, len(names) - 1
    width = side * cell
    groups = []
    for index, (name, new) in enumerate(_new(n_prompt, step).items()):
        cells = "".join(
            f'<path class="{kind}" d="{"".join(path)}"/>' for kind, path in _cells(seen, new).items() if path
        )
        rows = "".join(
            f'<path class="{"new" if i >= seen - new else "kept"}" d="M{side + 1} {i + 0.08:.2f}h2v.84h-2z"/>'
            for i in range(seen)
        )
        groups.append(
            f'<g transform="translate({index * (width + 5 * cell)} 20)">'
            f'<text y="-7">{SIDES[name]}</text><rect class="paper" width="{width}" height="{width}"/>'
            f'<g transform="scale({cell})">{cells}{rows}</g></g>'
        )
    for line, (kind, words) in enumerate(KEY.items()):
        y = width + 34 + 20 * line
        groups.append(f'<rect class="{kind}" y="{y}" width="12" height="12"/>')
        groups.append(f'<text class="words" x="20" y="{y + 11}">{words}</text>')
    whole, height = max(2 * width + 9 * cell, 320), width + 34 + 20 * len(KEY)
    return (
        f'<svg class="tk-ds-map" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {whole} {height}" width="{whole}">{"".join(groups)}</svg>'
    )


def _cells(seen: int, new: int) -> dict[str, list[str]]:
    """Pairs of query and key: computed now, computed now and masked away, computed in earlier steps."""
    cells: dict[str, list[str]] = {"old": [], "masked": [], "new": []}
    for i in range(seen):
        if i < seen - new:
            cells["old"].append(f"M0 {i}h{i + 1}v1h-{i + 1}z")
        else:
            cells["new"].append(f"M0 {i}h{i + 1}v1h-{i + 1}z")
            cells["masked"].append(f"M{i + 1} {i}h{seen - i - 1}v1h-{seen - i - 1}z")
    return cells
