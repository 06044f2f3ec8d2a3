"""The assumptions of llm-analysis 0.1.0, as its published LLaMA tables show them, beside our own.

Not a model to use: a profile to compare with. Fed to :func:`teachkit.roofline.time_bound` it gives the
tool's published latencies; part by part beside :mod:`teachkit.cost` it shows where the two part company.

Source  https://github.com/cli99/llm-analysis, examples/llama; formulas recovered from its tables
"""

from __future__ import annotations

from dataclasses import replace

from teachkit.config import ModelConfig
from teachkit.cost import Component, Cost, Number, Phase, operand_bits

MESSAGE_S = 8e-6  # the tool's least time of an all-reduce
GLOBAL_BATCH = 4_000_000  # meant as tokens by the LLaMA paper, taken as sequences by the example


def prefill(
    config: ModelConfig,
    batch: int,
    tokens: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    embedding_bits: Number = 16,
    tp: int = 1,
) -> Cost:
    """Reading a prompt, as the tool counts it."""
    parts = _forward(config, batch, tokens, weight_bits / 8, act_bits / 8, embedding_bits / 8, tp)
    return _cost("prefill", parts, batch * tokens, operand_bits(weight_bits, act_bits))


def decode_step(
    config: ModelConfig,
    batch: int,
    context: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    embedding_bits: Number = 16,
    tp: int = 1,
) -> Cost:
    """One step, as the tool counts it: attention over one token, and the cache of ``context`` twice.

    context  prompt and all tokens to be generated: every step pays for the longest
    """
    parts = _forward(config, batch, 1, weight_bits / 8, act_bits / 8, embedding_bits / 8, tp)
    stored = 2 * batch * context * config.d_model / tp * act_bits / 8 * config.n_layers
    # The whole cache is loaded and stored again.
    parts.append(Component("kv cache", kv_read_bytes=stored, kv_write_bytes=stored))
    return _cost("decode", parts, batch, operand_bits(weight_bits, act_bits))


def training_flops(config: ModelConfig, n_tokens: Number, *, tokens: int = 2048) -> float:
    """FLOPs of a whole training run of ``n_tokens``, in sequences of ``tokens``, as the tool counts them.

    Three forward passes and a fourth of the attention scores; whole iterations only, and of sequences: with
    4,000,000 sequences to an iteration the rounding is coarse.
    """
    h, L = config.d_model, config.n_layers
    per_token = 3 * (L * (24 * h**2 + 4 * tokens * h) + 2 * h * config.vocab_size) + 4 * tokens * h * L
    iterations = int(n_tokens / (GLOBAL_BATCH * tokens))
    return per_token * float(iterations * GLOBAL_BATCH * tokens)


def _forward(
    config: ModelConfig, b: int, s: int, W: Number, A: Number, E: Number, tp: int
) -> list[Component]:
    h, L, t = config.d_model, config.n_layers, b * s
    scores = 2 * config.n_heads * s**2 * b / tp  # written and read
    parts = [
        Component("embedding", weight_bytes=config.vocab_size * h * E),  # the whole table
        Component(
            "attention",
            flops=L * (8 * t * h**2 + 4 * b * s**2 * h) / tp,
            weight_bytes=L * 4 * h**2 * W / tp,
            activation_bytes=L * (t * h + 4 * t * h / tp + scores) * A,
        ),
        Component(  # two matrices h by 4h, whatever the config says
            "mlp",
            flops=L * 16 * t * h**2 / tp,
            weight_bytes=L * 8 * h**2 * W / tp,
            activation_bytes=L * (t * h + 8 * t * h / tp) * A,
        ),
        Component("norms", activation_bytes=L * 2 * t * h * 4),  # in fp32
        Component("head", flops=2 * t * config.vocab_size * h / tp),  # its weights are not read
    ]
    if tp > 1:
        messages = 2 * L + 1
        sent = messages * 2 * t * h * (tp - 1) / tp * A
        parts.append(Component("communication", link_bytes=sent, messages=messages))
    return parts


def _cost(phase: Phase, parts: list[Component], tokens: int, bits: int) -> Cost:
    return Cost(phase, tuple(replace(part, bits=bits) for part in parts), tokens)
