"""FLOPs and bytes of one step, part by part, from the shape of a model alone. Knows nothing of torch.

Counted is what the step cannot do without: each weight and each stored key and value read once, scores kept
on the chip, only pairs of tokens that the mask lets through. So a time computed from these counts is a lower
bound. All counts are of one device; with tensor parallelism (``tp`` devices) matrices and heads are divided,
norms and the residual stream are not.

>>> from teachkit.config import ModelConfig
>>> llama_7b = ModelConfig(vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008)
>>> sum(parameters(llama_7b).values())
6738415616
>>> step = decode_step(llama_7b, batch=1, context=1)
>>> round(step.flops / 1e9, 1), round(step.bytes / 1e9, 1)  # about 2 per weight, and its two bytes
(13.2, 13.2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

from teachkit.config import ModelConfig

Phase = Literal["prefill", "decode", "train"]
Number = int | float  # counts are whole until bits or devices divide them


@dataclass(frozen=True)
class Component:
    """One part of a step, over all layers, on one device.

    flops             a multiplication and an addition are two; of matrix products only
    bits              of the operands that are multiplied, 4, 8, 16, 32 or 64: decides which peak applies
    weight_bytes      read
    activation_bytes  read and written: inputs and outputs of the part
    kv_read_bytes, kv_write_bytes   of the cache
    link_bytes        sent to other devices
    messages          all-reduces that link_bytes are sent in
    """

    name: str
    flops: Number = 0
    bits: int = 16
    weight_bytes: Number = 0
    activation_bytes: Number = 0
    kv_read_bytes: Number = 0
    kv_write_bytes: Number = 0
    link_bytes: Number = 0
    messages: int = 0

    @property
    def kv_bytes(self) -> Number:
        """Of the cache, read and written."""
        return self.kv_read_bytes + self.kv_write_bytes

    @property
    def bytes(self) -> Number:
        """Moved between the device's memory and its arithmetic units."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


def operand_bits(*bits: Number) -> int:
    """The width in which operands of these widths are multiplied: the narrower is widened first.

    >>> operand_bits(4.5, 16)  # int4 with a scale for every 32 numbers, 16-bit activations
    16
    """
    return next(width for width in (4, 8, 16, 32, 64) if width >= max(bits))


@dataclass(frozen=True)
class Cost:
    """A step: its parts in the order in which they run, and how many tokens it takes in over all devices."""

    phase: Phase
    components: tuple[Component, ...]
    tokens: int

    def __getitem__(self, name: str) -> Component:
        """The part of that name. Raises KeyError."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(f"{name}: expected one of {', '.join(c.name for c in self.components)}")

    def total(self, count: str) -> Number:
        """Sum over the parts of one count, such as "weight_bytes"."""
        return sum(getattr(component, count) for component in self.components)

    @property
    def flops(self) -> Number:
        """Of one device."""
        return self.total("flops")

    @property
    def bytes(self) -> Number:
        """Moved between memory and arithmetic units of one device."""
        return self.total("bytes")

    @property
    def intensity(self) -> Number:
        """FLOPs per byte moved."""
        return self.flops / self.bytes


def parameters(config: ModelConfig) -> dict[str, int]:
    """Numbers in the checkpoint by part, exact: biases and norms counted, a tied head not counted twice."""
    C, D, F, V, L = config.d_model, config.head_dim, config.d_ff, config.vocab_size, config.n_layers
    width_q, width_kv = config.n_heads * D, config.n_kv_heads * D
    projections = 2 * C * width_q + 2 * C * width_kv
    projections += (width_q + 2 * width_kv if config.qkv_bias else 0) + (C if config.o_bias else 0)
    mlp = (3 if config.gated_mlp else 2) * C * F
    mlp += (C + F * (2 if config.gated_mlp else 1)) if config.mlp_bias else 0
    one_norm = C if config.norm == "rms" else 2 * C
    per_layer = (config.parallel_norms if config.parallel_residual else 2) * one_norm
    return {
        "embedding": V * C + (config.context * C if config.position == "learned" else 0),
        "attention projections": L * projections,
        "mlp": L * mlp,
        "norms": L * (per_layer + (2 * D if config.qk_norm else 0)) + one_norm,
        "head": 0 if config.tied else V * C,
    }


def prefill(
    config: ModelConfig,
    batch: int,
    tokens: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    kv_bits: Number = 16,
    tp: int = 1,
    past: int = 0,
) -> Cost:
    """Reading ``tokens`` new tokens of each of ``batch`` sequences; logits of each one's last.

    past    tokens of each sequence that are in the cache already: a later chunk of the prompt, or a
            prefix that is shared
    Raises  ValueError: a size below 1, more tokens than the context, bits that are not in (0, 64], tp by
            which heads, MLP or vocabulary cannot be divided
    """
    work = _Work(config, batch, tokens, past, weight_bits, act_bits, kv_bits, tp)
    return Cost("prefill", tuple(work.forward(logits=batch)), batch * tokens)


def decode_step(
    config: ModelConfig,
    batch: int,
    context: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    kv_bits: Number = 16,
    tp: int = 1,
) -> Cost:
    """One more token for each of ``batch`` sequences.

    context  tokens that the new one attends to, itself included
    Raises   as :func:`prefill`
    """
    _require_sizes(context=context)
    work = _Work(config, batch, 1, context - 1, weight_bits, act_bits, kv_bits, tp)
    return Cost("decode", tuple(work.forward(logits=batch)), batch)


def train_step(
    config: ModelConfig,
    batch: int,
    tokens: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    tp: int = 1,
    recompute: bool = False,
) -> Cost:
    """Forward, backward and Adam's update on ``batch`` sequences of ``tokens`` tokens.

    recompute  activations are computed again on the way back instead of being kept: a second forward pass
    Raises     as :func:`prefill`
    Source     twice the forward pass for the backward one: Kaplan et al. 2020, arXiv:2001.08361, section 2.1;
               16 bytes a parameter: Rajbhandari et al. 2019 (ZeRO), arXiv:1910.02054, section 3.1;
               as many all-reduces backward as forward: Shoeybi et al. 2019 (Megatron-LM), arXiv:1909.08053,
               section 3
    """
    work = _Work(config, batch, tokens, 0, weight_bits, act_bits, act_bits, tp)
    passes = 4 if recompute else 3
    # Of a matrix's three products two are summed over devices: its output, and the gradient of its input.
    # A layer's two sums come back as two, the embedding's one as the head's; weights' gradients stay put.
    exchanges = passes - 1
    parts = [
        _scaled(component, exchanges if component.name == "communication" else passes)
        for component in work.forward(logits=batch * tokens)
    ]
    # Gradient read in 16 bits; weight, mean and variance in 32 bits read and written; weight written in 16.
    update = (2 + 2 * 12 + 2) * sum(parameters(config).values()) / tp
    parts.append(Component("optimizer", weight_bytes=update, bits=32))
    return Cost("train", tuple(parts), batch * tokens)


@dataclass(frozen=True)
class _Work:
    """One forward pass of T new tokens per sequence over ``past`` earlier ones; checked when made."""

    config: ModelConfig
    B: int
    T: int
    past: int
    weight_bits: Number
    act_bits: Number
    kv_bits: Number
    tp: int

    def __post_init__(self) -> None:
        _require_sizes(batch=self.B, tokens=self.T, tp=self.tp)
        if self.past < 0:
            raise ValueError(f"past: expected at least 0, got {self.past}")
        if self.past + self.T > self.config.context:
            raise ValueError(
                f"context: expected at most the model's {self.config.context} tokens, "
                f"got {self.past + self.T}"
            )
        for name in ("weight_bits", "act_bits", "kv_bits"):
            if not 0 < getattr(self, name) <= 64:
                raise ValueError(f"{name}: expected more than 0 and at most 64, got {getattr(self, name)}")
        _require_divisible(self.config, self.tp)

    @property
    def kv_heads(self) -> int:
        """Key/value heads on one device; where there are fewer than devices, each is held several times."""
        return max(1, self.config.n_kv_heads // self.tp)

    def forward(self, logits: int) -> Iterator[Component]:
        """The parts of the pass; ``logits`` is the number of tokens whose logits are computed."""
        yield self._embedding()
        yield self._norms()
        yield self._projections()
        yield self._attention()
        yield self._mlp()
        yield self._head(logits)
        if self.tp > 1:
            yield self._communication()

    def _embedding(self) -> Component:
        config, t = self.config, self.B * self.T
        rows = t * (2 if config.position == "learned" else 1)
        return Component(
            "embedding",
            weight_bytes=rows * config.d_model * self.weight_bits / 8,
            activation_bytes=self._acts(t * config.d_model),
        )

    def _norms(self) -> Component:
        numbers, config = parameters(self.config)["norms"], self.config
        return Component(
            "norms",
            weight_bytes=numbers * self.weight_bits / 8,
            # Each reads the stream and writes as much.
            activation_bytes=self._acts(2 * self.B * self.T * config.d_model * (2 * config.n_layers + 1)),
        )

    def _projections(self) -> Component:
        config, t = self.config, self.B * self.T
        width_q, width_kv = config.n_heads * config.head_dim / self.tp, self.kv_heads * config.head_dim
        matrices = config.n_layers * config.d_model * 2 * (width_q + width_kv)
        biases = config.n_layers * (
            (width_q + 2 * width_kv if config.qkv_bias else 0) + (config.d_model if config.o_bias else 0)
        )
        moved = config.n_layers * t * (2 * config.d_model + 2 * width_q + 2 * width_kv)
        return self._matrices("attention projections", t, matrices, biases, moved)

    def _attention(self) -> Component:
        config, kv_token = self.config, self._kv_token()
        width_q = config.n_heads * config.head_dim / self.tp
        pairs = self._over_layers(lambda window: _pairs(self.T, self.past, window))
        read = self._over_layers(lambda window: min(self.past + self.T, window + self.T - 1))
        return Component(
            "attention scores",
            flops=4 * self.B * width_q * pairs,
            bits=operand_bits(self.act_bits, self.kv_bits),
            activation_bytes=self._acts(config.n_layers * self.B * self.T * 2 * width_q),
            kv_read_bytes=self.B * read * kv_token,
            kv_write_bytes=self.B * config.n_layers * self.T * kv_token,
        )

    def _mlp(self) -> Component:
        config, t = self.config, self.B * self.T
        matrices = config.n_layers * (3 if config.gated_mlp else 2) * config.d_model * config.d_ff / self.tp
        ups = 2 if config.gated_mlp else 1
        biases = config.n_layers * (ups * config.d_ff / self.tp + config.d_model) if config.mlp_bias else 0
        moved = config.n_layers * t * 2 * (config.d_model + config.d_ff / self.tp)
        return self._matrices("mlp", t, matrices, biases, moved)

    def _head(self, logits: int) -> Component:
        config = self.config
        matrix = config.vocab_size * config.d_model / self.tp
        return self._matrices(
            "head", logits, matrix, 0, logits * (config.d_model + config.vocab_size / self.tp)
        )

    def _communication(self) -> Component:
        """Two all-reduces a layer and one after the embedding; each sends 2 (tp - 1) / tp of the stream."""
        messages = 2 * self.config.n_layers + 1
        stream = self._acts(self.B * self.T * self.config.d_model)
        sent = messages * 2 * (self.tp - 1) / self.tp * stream
        return Component("communication", link_bytes=sent, messages=messages)

    def _matrices(self, name: str, t: int, numbers: Number, biases: Number, moved: Number) -> Component:
        """Matrices of so many numbers in all, met by t tokens each; ``moved`` numbers in and out."""
        return Component(
            name,
            flops=2 * t * numbers,
            bits=operand_bits(self.weight_bits, self.act_bits),
            weight_bytes=(numbers + biases) * self.weight_bits / 8,
            activation_bytes=self._acts(moved),
        )

    def _acts(self, numbers: Number) -> Number:
        return numbers * self.act_bits / 8

    def _kv_token(self) -> Number:
        """Bytes of one token's key and value in one layer on one device."""
        return 2 * self.kv_heads * self.config.head_dim * self.kv_bits / 8

    def _over_layers(self, count: Callable[[int], int]) -> int:
        """Sum over layers of a count that depends on the layer's window."""
        everything = self.past + self.T
        return sum(count(everything if window is None else window) for window in self.config.windows)


def _pairs(T: int, past: int, window: int) -> int:
    """Pairs (query, key) that a causal mask with this window lets through."""
    full = max(0, min(T, window - past))  # queries that see all before them
    return full * past + full * (full + 1) // 2 + (T - full) * window


def _scaled(component: Component, factor: int) -> Component:
    counts = [f.name for f in fields(Component) if f.name not in ("name", "bits")]
    return replace(component, **{name: factor * getattr(component, name) for name in counts})


def _require_sizes(**sizes: object) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")


def _require_divisible(config: ModelConfig, tp: int) -> None:
    for name in ("n_heads", "d_ff", "vocab_size"):
        if getattr(config, name) % tp:
            raise ValueError(f"tp: expected a divisor of {name} ({getattr(config, name)}), got {tp}")
    if config.n_kv_heads % tp and tp % config.n_kv_heads:
        raise ValueError(
            f"tp: expected a divisor or a multiple of n_kv_heads ({config.n_kv_heads}), got {tp}"
        )
