"""How long a step must take at least, and what it waits for. Knows nothing of torch.

A part of a step computes and moves bytes at the same time, so it takes as long as the slower of the two:
max(FLOPs / peak, bytes / bandwidth). Parts run one after another. Source: Williams et al. 2009 (the roofline
model), doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from teachkit import cost as costs
from teachkit.config import ModelConfig
from teachkit.cost import Component, Cost, Number, operand_bits
from teachkit.hardware import Device

Side = Literal["compute", "memory", "link"]
SIDES: tuple[Side, ...] = ("compute", "memory", "link")


@dataclass(frozen=True)
class PartBound:
    """Bounds of one part: seconds that its arithmetic, its memory traffic and its messages take at least."""

    name: str
    compute_s: Number
    memory_s: Number
    link_s: Number

    @property
    def seconds(self) -> float:
        """The slowest of the three: they overlap."""
        return max(self.compute_s, self.memory_s, self.link_s)

    @property
    def side(self) -> Side:
        """What the part waits for."""
        return max(SIDES, key=lambda side: float(getattr(self, f"{side}_s")))


@dataclass(frozen=True)
class Bound:
    """A step's lower bound in time: its parts, one after another."""

    parts: tuple[PartBound, ...]

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(part.seconds for part in self.parts)

    @property
    def side(self) -> Side:
        """The side that binds for most of the time."""
        return max(SIDES, key=lambda side: sum(p.seconds for p in self.parts if p.side == side))

    def __getitem__(self, name: str) -> PartBound:
        """The part of that name. Raises KeyError."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"{name}: expected one of {', '.join(p.name for p in self.parts)}")


def time_bound(
    cost: Cost,
    device: Device,
    *,
    flops_efficiency: Number = 1.0,
    memory_efficiency: Number = 1.0,
    message_s: Number = 0.0,
) -> Bound:
    """Seconds that a step takes at least on ``device``, part by part.

    flops_efficiency, memory_efficiency   shares of the published peaks that are within reach
    message_s   the least time that one all-reduce takes, however few its bytes
    Raises      ValueError: an efficiency outside (0, 1], a number format that the device has no rate for,
                communication on a device without a link
    """
    for name, share in (("flops_efficiency", flops_efficiency), ("memory_efficiency", memory_efficiency)):
        if not 0 < share <= 1:
            raise ValueError(f"{name}: expected more than 0 and at most 1, got {share}")
    return Bound(
        tuple(
            PartBound(
                part.name,
                part.flops / (device.peak(part.bits) * flops_efficiency) if part.flops else 0.0,
                part.bytes / (device.bytes_per_s * memory_efficiency),
                _link_s(part, device, message_s),
            )
            for part in cost.components
        )
    )


def _link_s(part: Component, device: Device, message_s: Number) -> float:
    if not part.messages:
        return 0.0
    if device.link_bytes_per_s is None:
        raise ValueError(f"tp: {device.name} has no published link between devices; take tp=1")
    return part.messages * max(part.link_bytes / part.messages / device.link_bytes_per_s, message_s)


def ridge(device: Device, bits: int = 16) -> float:
    """FLOPs that the device can do in the time in which it fetches a byte. Raises ValueError."""
    return device.peak(bits) / device.bytes_per_s


def critical_batch(device: Device, *, weight_bits: Number = 16, act_bits: Number = 16) -> float:
    """Tokens per pass at which a weight matrix takes as long to multiply with as to read.

    Each weight takes 2 FLOPs per token and weight_bits / 8 bytes: B = ridge * weight_bits / 16. Activations,
    keys and values are left out; what they add moves the step of a whole model to a larger batch or to none.
    Raises  ValueError: a number format that the device has no rate for
    """
    return ridge(device, operand_bits(weight_bits, act_bits)) * weight_bits / 16


def turning_batch(config: ModelConfig, device: Device, context: int, **bits: Number) -> int | None:
    """The smallest batch whose decode step waits for arithmetic most of the time; None: there is none.

    Above the critical batch of the weights, keys and values may still hold the step back: each sequence
    brings its own, so their intensity does not grow with the batch.
    Raises  as :func:`teachkit.cost.decode_step` and :func:`time_bound`
    """

    def computes(batch: int) -> bool:
        step = costs.decode_step(config, batch, context, **bits)  # type: ignore[arg-type]
        return time_bound(step, device).side == "compute"

    return _first(computes, 1 << 20)


def _first(holds: Callable[[int], bool], limit: int) -> int | None:
    """The smallest n from 1 to limit for which a condition holds that holds for all larger ones."""
    if not holds(limit):
        return None
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def mbu(cost: Cost, device: Device, measured_s: Number) -> float:
    """Model bandwidth utilisation: bytes that the step needs, over what the device could move meanwhile.

    Source  Databricks 2023, LLM Inference Performance Engineering: Best Practices
    Raises  ValueError: a time that is not positive
    """
    return cost.bytes / (device.bytes_per_s * _positive(measured_s))


def mfu(cost: Cost, device: Device, measured_s: Number, *, bits: int = 16) -> float:
    """Model FLOP/s utilisation: FLOPs that the step needs, over what the device could do meanwhile.

    Source  Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B
    Raises  ValueError: a time that is not positive, a format without a rate
    """
    return cost.flops / (device.peak(bits) * _positive(measured_s))


def _positive(measured_s: Number) -> float:
    if not measured_s > 0:
        raise ValueError(f"measured_s: expected a positive time, got {measured_s}")
    return measured_s
