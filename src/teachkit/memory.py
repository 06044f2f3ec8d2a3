"""What must fit into a device's memory: weights, keys and values, activations. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass

from teachkit.config import ModelConfig
from teachkit.cost import Number, decode_step, parameters


@dataclass(frozen=True)
class Memory:
    """Bytes that one device must hold while it serves.

    weights_bytes       of its share of the model
    kv_bytes            keys and values of all sequences
    activations_bytes   the widest intermediate result of a decode step: a bound from below
    """

    weights_bytes: Number
    kv_bytes: Number
    activations_bytes: Number

    @property
    def total_bytes(self) -> Number:
        """Sum of the three."""
        return self.weights_bytes + self.kv_bytes + self.activations_bytes


def memory(
    config: ModelConfig,
    batch: int,
    context: int,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    kv_bits: Number = 16,
    tp: int = 1,
) -> Memory:
    """What ``batch`` sequences of ``context`` tokens take on each of ``tp`` devices.

    A layer with a window holds no more tokens than that.
    Raises  ValueError: as :func:`teachkit.cost.decode_step`
    """
    step = decode_step(
        config, batch, context, weight_bits=weight_bits, act_bits=act_bits, kv_bits=kv_bits, tp=tp
    )
    numbers = parameters(config)
    divided = sum(n for name, n in numbers.items() if name != "norms") / tp
    widest = max(config.d_ff * (2 if config.gated_mlp else 1), config.vocab_size) / tp + config.d_model
    return Memory(
        weights_bytes=(divided + numbers["norms"]) * weight_bits / 8,
        kv_bytes=step.total("kv_read_bytes"),  # a step reads all that is held
        activations_bytes=batch * widest * act_bits / 8,
    )


def largest_batch(
    config: ModelConfig,
    context: int,
    memory_bytes: Number,
    *,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    kv_bits: Number = 16,
    tp: int = 1,
) -> int:
    """How many sequences of ``context`` tokens fit beside the weights into ``memory_bytes`` of one device.

    Raises  ValueError: not even one fits; the message says what is needed

    >>> from teachkit.shapes import shape
    >>> llama = shape("llama-2-7b").config
    >>> largest_batch(llama, 4096, 80e9), largest_batch(llama, 4096, 80 * 2**30)  # GB, GiB
    (30, 33)
    """
    one = memory(config, 1, context, weight_bits=weight_bits, act_bits=act_bits, kv_bits=kv_bits, tp=tp)
    if one.total_bytes > memory_bytes:
        raise ValueError(
            f"memory_bytes: one sequence of {context} tokens needs {one.total_bytes:.4g} bytes "
            f"({one.weights_bytes:.4g} of weights), got {memory_bytes:.4g}; take fewer bits, a shorter "
            "context or a larger tp"
        )
    return int((memory_bytes - one.weights_bytes) // (one.kv_bytes + one.activations_bytes))
