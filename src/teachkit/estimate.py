"""What serving a model asks of a device: memory, time and price, from a config and a data sheet.

Times are lower bounds: they take the published peaks as reached. Knows nothing of torch.

>>> from teachkit.hardware import device
>>> llama = estimate("llama-2-7b", find_config("llama-2-7b"), device("a100-80gb"), batch=8, context=4096)
>>> llama.largest_batch, round(llama.decode.bound.seconds * 1e3, 1), llama.decode.bound.side
(33, 14.9, 'memory')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from teachkit import cost as costs
from teachkit.config import ModelConfig
from teachkit.cost import Cost, Number
from teachkit.hardware import Device
from teachkit.memory import Memory, largest_batch, memory
from teachkit.roofline import Bound, critical_batch, time_bound, turning_batch
from teachkit.shapes import SHAPES, shape

SEVERAL = (2, 4, 8, 16, 32, 64)  # devices that a model is commonly divided among
LARGEST = 10**9  # beyond all use, and far within what floating-point numbers hold


@dataclass(frozen=True)
class Phase:
    """Prefill or one decode step: what it costs, how long it takes, what its tokens cost.

    usd_per_million_tokens  at the bound, of all devices together; None where no price is known
    """

    cost: Cost
    bound: Bound
    usd_per_million_tokens: float | None

    @property
    def tokens_per_s(self) -> float:
        """Of the whole batch: tokens read by a prefill, written by a decode step."""
        return self.cost.tokens / self.bound.seconds


@dataclass(frozen=True)
class Estimate:
    """All that :func:`estimate` finds out. ``notes`` says what the numbers leave out or assume."""

    name: str
    config: ModelConfig
    device: Device
    batch: int
    context: int
    prompt: int
    bits: dict[str, Number]
    tp: int
    memory: Memory
    largest_batch: int
    prefill: Phase
    decode: Phase
    critical_batch: float
    turning_batch: int | None
    notes: tuple[str, ...] = ()


def find_config(name: str) -> ModelConfig:
    """The config that a name stands for: a published one, "bundled", a folder or the path of a config.json.

    Of the package's checkpoints the others, too, by name.

    Raises  ValueError: none of these; ConfigError: a config that cannot be honoured; FileNotFoundError
    """
    ours = resources.files("teachkit") / "checkpoints"
    if name in {folder.name for folder in ours.iterdir()}:
        return ModelConfig.from_folder(str(ours / name))
    if name in SHAPES:  # before any folder of that name: the same command means the same everywhere
        return shape(name).config
    path = Path(name)
    if path.exists():
        return ModelConfig.from_folder(path)
    try:
        return shape(name).config
    except ValueError as error:
        raise ValueError(f"{error}; or 'bundled', a folder with a config.json, or its path") from None


def estimate(
    name: str,
    config: ModelConfig,
    device: Device,
    *,
    batch: int = 1,
    context: int,
    prompt: int | None = None,
    weight_bits: Number = 16,
    act_bits: Number = 16,
    kv_bits: Number = 16,
    tp: int = 1,
) -> Estimate:
    """Memory, prefill and decode step of ``batch`` sequences of ``context`` tokens on ``tp`` devices.

    prompt  tokens of the prefill; as many as the context if not given
    Raises  ValueError: sizes or bits that cannot be, a batch that does not fit, a format that the device has
            no rate for, more than one device where no link is published
    Why     a vocabulary that ``tp`` does not divide is padded, as serving programs do; ``notes`` says so
    """
    prompt = context if prompt is None else prompt
    for size, value in {"batch": batch, "context": context, "tp": tp, "prompt": prompt}.items():
        if not 1 <= value <= LARGEST:
            raise ValueError(f"{size}: expected a whole number from 1 to {LARGEST}, got {value}")
    if prompt > context:
        raise ValueError(f"prompt: expected at most the context of {context} tokens, got {prompt}")
    bits: dict[str, Number] = {"weight_bits": weight_bits, "act_bits": act_bits, "kv_bits": kv_bits}
    divided, notes = _padded(config, tp)
    given: dict[str, Any] = {**bits, "tp": tp}
    held = memory(divided, batch, context, **given)
    reading, writing = (
        _phase(cost, device, tp)
        for cost in (
            costs.prefill(divided, batch, prompt, **given),
            costs.decode_step(divided, batch, context, **given),
        )
    )
    if held.total_bytes > device.memory_bytes:
        raise ValueError(_what_fits(config, device, batch, context, given, held))
    return Estimate(
        name=name,
        config=config,
        device=device,
        batch=batch,
        context=context,
        prompt=prompt,
        bits=bits,
        tp=tp,
        memory=held,
        largest_batch=largest_batch(divided, context, device.memory_bytes, **given),
        prefill=reading,
        decode=writing,
        critical_batch=critical_batch(device, weight_bits=weight_bits, act_bits=act_bits),
        turning_batch=turning_batch(divided, device, context, **given),
        notes=notes,
    )


def _padded(config: ModelConfig, tp: int) -> tuple[ModelConfig, tuple[str, ...]]:
    """A vocabulary that ``tp`` divides, and what to say of it."""
    if config.vocab_size % tp == 0:
        return config, ()
    size = -(-config.vocab_size // tp) * tp
    note = f"vocabulary padded from {config.vocab_size:,} to {size:,}, so that {tp} devices share it evenly"
    return replace(config, vocab_size=size), (note,)


def _phase(cost: Cost, device: Device, tp: int) -> Phase:
    bound = time_bound(cost, device)
    price = device.price_usd_per_hour
    per_million = None if price is None else price * tp / 3600 * bound.seconds / cost.tokens * 1e6
    return Phase(cost, bound, per_million)


def _what_fits(
    config: ModelConfig, device: Device, batch: int, context: int, given: dict[str, Any], held: Memory
) -> str:
    """One line: what is needed, what there is, and what would do."""
    message = (
        f"batch: {batch} sequence{'s' if batch > 1 else ''} of {context:,} tokens "
        f"need{'' if batch > 1 else 's'} {held.total_bytes / 1e9:,.1f} GB per device "
        f"({held.weights_bytes / 1e9:,.1f} of weights), "
        f"got {device.memory_bytes / 1e9:,.1f} GB on {device.name}; "
    )
    room = device.memory_bytes - held.weights_bytes
    fits = int(room // ((held.kv_bytes + held.activations_bytes) / batch)) if room > 0 else 0
    ways = [f"--batch {fits}"] if fits else []
    ways += list(_other_ways(config, device, batch, context, given))
    return message + (f"what fits: {', or '.join(ways)}" if ways else "take a device with more memory")


def _other_ways(
    config: ModelConfig, device: Device, batch: int, context: int, given: dict[str, Any]
) -> Iterator[str]:
    """The fewest devices, and the widest weights, with which the same batch fits."""

    def fits(**changes: Any) -> bool:
        asked = given | changes
        try:
            held = memory(_padded(config, asked["tp"])[0], batch, context, **asked)
        except ValueError:  # heads that do not divide
            return False
        return bool(held.total_bytes <= device.memory_bytes)

    more = [n for n in SEVERAL if n > given["tp"]] if device.link_bytes_per_s else []
    yield from [f"--tp {n}" for n in more if fits(tp=n)][:1]
    fewer = [n for n in (8, 4) if n < given["weight_bits"]]
    yield from [f"--weight-bits {n}" for n in fewer if fits(weight_bits=n)][:1]
