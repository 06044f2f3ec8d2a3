"""What figures about a step share: FLOPs and bytes of its parts, and how they are put into words.

Figures know nothing of models, so the counts of ``teachkit.cost`` stand here once more, for one device; a
test holds the two together. The words stand in the scripts once more, and tests hold those together, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Number = int | float
MOST_SEQUENCES = 1 << 16  # of a batch
SIDES = {"memory": "memory", "compute": "arithmetic", "link": "the link"}  # as they are called on the page


@dataclass(frozen=True)
class Sizes:
    """What the counts need of a model; numbers of weights, and of activations moved per token."""

    context: int
    windows: tuple[tuple[int, int], ...]
    projections: int
    projection_biases: int
    projections_moved: int
    mlp: int
    mlp_biases: int
    mlp_moved: int
    head: int
    head_moved: int
    q_width: int
    kv_width: int
    norms: int
    norms_moved: int
    embedding_rows: int
    d_model: int
    params: int


@dataclass(frozen=True)
class Part:
    """Counts of one part of a step; ``bits`` of the operands that it multiplies."""

    name: str
    bits: int
    flops: Number
    bytes: Number

    def seconds(self, bytes_per_s: Number, peak: Number) -> float:
        """The roofline's bound."""
        return max(self.flops / peak, self.bytes / bytes_per_s)


def sizes(config: Any) -> Sizes:
    """Of a ``teachkit.ModelConfig``, or of anything with its fields. A window of 0 stands for none."""
    C, D, F, V, L = config.d_model, config.head_dim, config.d_ff, config.vocab_size, config.n_layers
    q, kv = config.n_heads * D, config.n_kv_heads * D
    ups = 2 if config.gated_mlp else 1
    norm = C if config.norm == "rms" else 2 * C
    norms = L * (config.parallel_norms if config.parallel_residual else 2) * norm + norm
    norms += L * 2 * D if config.qk_norm else 0
    projections, mlp, head = L * 2 * C * (q + kv), L * (ups + 1) * C * F, V * C
    projection_biases = L * ((q + 2 * kv if config.qkv_bias else 0) + (C if config.o_bias else 0))
    mlp_biases = L * (ups * F + C) if config.mlp_bias else 0
    positions = config.context * C if config.position == "learned" else 0
    embedding = (head if config.tied else 2 * head) + positions
    windows = Counter(window or 0 for window in config.windows)
    return Sizes(
        context=config.context,
        windows=tuple(windows.items()),
        projections=projections,
        projection_biases=projection_biases,
        projections_moved=L * (2 * C + 2 * q + 2 * kv),
        mlp=mlp,
        mlp_biases=mlp_biases,
        mlp_moved=L * 2 * (C + F),
        head=head,
        head_moved=C + V,
        q_width=q,
        kv_width=2 * kv,
        norms=norms,
        norms_moved=2 * C * (2 * L + 1),
        embedding_rows=2 if positions else 1,
        d_model=C,
        params=projections + projection_biases + mlp + mlp_biases + norms + embedding,
    )


def parts(model: Sizes, phase: str, batch: int, tokens: int, bits: tuple[int, int, int]) -> list[Part]:
    """Projections, attention, MLP, head, and what multiplies no matrices: counts of one step.

    tokens  attended by the new one (decode), or read by each sequence (prefill)
    """
    weight, act, kv = (b / 8 for b in bits)
    new, past = (1, tokens - 1) if phase == "decode" else (tokens, 0)
    rows = batch * new
    width = max(bits[0], bits[1])

    def matrices(name: str, n: int, numbers: int, biases: int, moved: int) -> Part:
        return Part(name, width, 2 * n * numbers, (numbers + biases) * weight + n * moved * act)

    pairs = kept = layers = 0
    for window, count in model.windows:
        reach = window or past + new
        full = max(0, min(new, reach - past))
        pairs += count * (full * past + full * (full + 1) // 2 + (new - full) * reach)
        kept += count * min(past + new, reach + new - 1)
        layers += count
    scores = Part(
        "attention",
        max(bits[1], bits[2]),
        4 * batch * model.q_width * pairs,
        layers * rows * 2 * model.q_width * act + batch * (kept + layers * new) * model.kv_width * kv,
    )
    rest = (rows * model.embedding_rows * model.d_model + model.norms) * weight
    rest += rows * (model.d_model + model.norms_moved) * act
    return [
        matrices("projections", rows, model.projections, model.projection_biases, model.projections_moved),
        scores,
        matrices("MLP", rows, model.mlp, model.mlp_biases, model.mlp_moved),
        matrices("head", batch, model.head, 0, model.head_moved),
        Part("norms, embedding", width, 0, rest),
    ]


def digits(value: Number) -> str:
    """Three digits, and all that stand before the point; halves go up, as in the scripts.

    >>> digits(12345.6), digits(153.02), digits(6.7349), digits(0.04567), digits(0.000123)
    ('12,346', '153', '6.73', '0.0457', '0.000123')
    """
    n = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    limit = 0.1
    while 0 < value < limit and n < 8:
        n, limit = n + 1, limit / 10
    return f"{math.floor(value * 10**n + 0.5) / 10**n:,.{n}f}"


def brief(value: Number) -> str:
    """The same for a column: never more than three decimals.

    >>> brief(6.7349), brief(0.04567), brief(0.0001)
    ('6.73', '0.046', '<\\xa00.001')
    """
    if 0 < value < 0.0005:
        return "<\u00a00.001"
    return digits(value) if value >= 1 else f"{math.floor(value * 1000 + 0.5) / 1000:.3f}"


def whole(share: Number) -> str:
    """A share in whole percent; halves go up. The space does not break."""
    return f"{math.floor(100 * share + 0.5)}\u00a0%"


def percent(share: Number) -> str:
    """The same, but a share that is not nothing is not called 0 %, and one that is not all, not 100 %.

    >>> percent(0.125), percent(0.004), percent(0.996)
    ('13\\xa0%', 'under 1\\xa0%', 'over 99\\xa0%')
    """
    if 0 < share < 0.005:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if 0.995 <= share < 1 - 1e-9 else whole(share)


def waits(seconds: Mapping[str, float]) -> str:
    """What a step waits for, from the seconds of each side.

    >>> waits({"memory": 3.0, "compute": 1.0, "link": 0.0})
    'It waits 75\\xa0% of that time for memory, 25\\xa0% for arithmetic.'
    """
    total = sum(seconds[side] for side in SIDES if side in seconds)
    said = [(percent(seconds[side] / total), name) for side, name in SIDES.items() if seconds.get(side)]
    first = f"{said[0][0]} of that time for {said[0][1]}"
    return f"It waits {', '.join([first, *(f'{share} for {name}' for share, name in said[1:])])}."


def sequences(batch: int, tokens: int) -> str:
    """
    >>> sequences(1, 1), sequences(16, 1024)
    ('1 sequence of 1 token', '16 sequences of 1,024 tokens')
    """
    return f"{batch:,} sequence{'s' * (batch > 1)} of {tokens:,} token{'s' * (tokens > 1)}"


def tick(value: Number) -> str:
    """A power of ten as the axes print it.

    >>> [tick(10.0**e) for e in (-3, 0, 2, 3, 5, 6)]
    ['0.001', '1', '100', '1k', '100k', '1M']
    """
    for letter, unit in (("M", 1e6), ("k", 1e3), ("", 1)):
        if value >= unit:
            return f"{value / unit:.0f}{letter}"
    return f"{value:.{round(-math.log10(value))}f}"
