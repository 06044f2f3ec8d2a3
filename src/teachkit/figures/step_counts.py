"""FLOPs and bytes of a step's parts, for figures that let the reader choose its sizes.

Figures know nothing of models, so the counts of ``teachkit.cost`` stand here once more, for one device; a
test holds the two together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

Number = int | float


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
