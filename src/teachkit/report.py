"""An estimate as data, for JSON, and as text, for reading. Knows nothing of torch."""

from __future__ import annotations

from typing import Any

from teachkit import cost as costs
from teachkit.cost import Number
from teachkit.estimate import Estimate, Phase


def as_data(found: Estimate) -> dict[str, Any]:
    """Everything as numbers, strings and lists, for JSON. FLOPs and bytes are of one device."""
    device, held = found.device, found.memory
    numbers = costs.parameters(found.config)
    return {
        "model": found.name,
        "device": device.name,
        "tp": found.tp,
        "batch": found.batch,
        "context": found.context,
        "prompt": found.prompt,
        **found.bits,
        "parameters": sum(numbers.values()),
        "parameters_by_part": numbers,
        "peaks": {
            "source": device.source,
            "bytes_per_s": device.bytes_per_s,
            "flops_per_s": {name: device.peak(name) for name in _formats(found)},
            "link_bytes_per_s": device.link_bytes_per_s,
        },
        "memory": {
            "weights_bytes": held.weights_bytes,
            "kv_bytes": held.kv_bytes,
            "activations_bytes": held.activations_bytes,
            "total_bytes": held.total_bytes,
            "device_bytes": device.memory_bytes,
            "largest_batch": found.largest_batch,
        },
        "prefill": _phase_data(found.prefill),
        "decode": _phase_data(found.decode)
        | {"critical_batch": found.critical_batch, "turning_batch": found.turning_batch},
        "price": None
        if device.price_usd_per_hour is None
        else {
            "usd_per_device_hour": device.price_usd_per_hour,
            "date": device.price_date,
            "source": device.price_source,
        },
        "notes": list(found.notes),
    }


def _phase_data(phase: Phase) -> dict[str, Any]:
    parts = [
        {
            "name": part.name,
            "flops": part.flops,
            "bytes": part.bytes,
            "link_bytes": part.link_bytes,
            "seconds": phase.bound[part.name].seconds,
            "side": phase.bound[part.name].side,
        }
        for part in phase.cost.components
    ]
    return {
        "parts": parts,
        "tokens": phase.cost.tokens,
        "flops": phase.cost.flops,
        "bytes": phase.cost.bytes,
        "seconds": phase.bound.seconds,
        "side": phase.bound.side,
        "tokens_per_s": phase.tokens_per_s,
        "usd_per_million_tokens": phase.usd_per_million_tokens,
    }


def _formats(found: Estimate) -> list[str]:
    """Number formats that the parts are multiplied in."""
    components = (*found.prefill.cost.components, *found.decode.cost.components)
    return list(dict.fromkeys(found.device.number_format(part.bits) for part in components if part.flops))


def as_text(found: Estimate) -> str:
    """The same for reading: aligned, with units."""
    device, tp = found.device, found.tp
    weights, acts, kv = (f"{n:g}" for n in found.bits.values())
    rates = ", ".join(f"{name} {device.peak(name) / 1e12:,.4g} TFLOP/s" for name in _formats(found))
    lines = [
        f"{found.name} on {f'{tp} x ' if tp > 1 else ''}{device.name}",
        f"lower bounds, with all peaks reached{f'; counts of each of {tp} devices' if tp > 1 else ''}",
        "",
        f"{'parameters':26}{sum(costs.parameters(found.config).values()):,}",
        f"{'bits':26}{weights} weights, {acts} activations, {kv} cache",
        f"{'peaks':26}{device.bytes_per_s / 1e9:,.4g} GB/s, {rates}",
        f"{'from':26}{device.source}",
        "",
        *_memory_lines(found),
        "",
        *_phase_lines(f"prefill, {found.batch:,} x {found.prompt:,} tokens", found.prefill),
        *_speed_lines("tokens read", found.prefill),
        "",
        *_phase_lines(f"decode step, {found.batch:,} x 1 token", found.decode),
        *_speed_lines("tokens written", found.decode),
        _row("of each sequence", f"{_short(found.decode.tokens_per_s / found.batch)} per second"),
        _row("critical batch", f"{found.critical_batch:,.1f}: a weight is read as long as computed with"),
        _row("turning batch", _turning(found)),
    ]
    if device.price_date is not None:
        price = f"{device.price_usd_per_hour} USD an hour and device on {device.price_date}"
        lines += ["", f"price: {price}, {device.price_source}"]
    return "\n".join([*lines, *(f"\nnote: {note}" for note in found.notes)])


def _row(name: str, value: str) -> str:
    return f"{name:26}{value}"


def _memory_lines(found: Estimate) -> list[str]:
    held, each = found.memory, " of each device" if found.tp > 1 else ""
    sizes = {
        "weights": held.weights_bytes,
        f"cache, {found.batch:,} x {found.context:,}": held.kv_bytes,
        "activations, at least": held.activations_bytes,
        "total": held.total_bytes,
        "there is": found.device.memory_bytes,
    }
    return [
        f"{'memory' + each:26}{'GB':>10}{'GiB':>10}",
        *(f"{name:26}{n / 1e9:>10,.3f}{n / 2**30:>10,.3f}" for name, n in sizes.items()),
        _row("largest batch", f"{found.largest_batch:,} x {found.context:,} tokens"),
    ]


def _phase_lines(title: str, phase: Phase) -> list[str]:
    lines = [f"{title:26}{'GFLOP':>14}{'GB':>12}{'ms':>13}  waits for"]
    for part in phase.cost.components:
        bound = phase.bound[part.name]
        moved = part.link_bytes if bound.side == "link" else part.bytes
        lines.append(_part_line(part.name, part.flops, moved, bound.seconds, bound.side))
    whole = phase.bound
    return [*lines, _part_line("total", phase.cost.flops, phase.cost.bytes, whole.seconds, whole.side)]


def _part_line(name: str, flops: Number, moved: Number, seconds: float, side: str) -> str:
    return f"{name:26}{flops / 1e9:>14,.2f}{moved / 1e9:>12,.3f}{seconds * 1e3:>13,.3f}  {side}"


def _speed_lines(name: str, phase: Phase) -> list[str]:
    lines = [_row(name, f"{_short(phase.tokens_per_s)} per second")]
    if phase.usd_per_million_tokens is not None:
        lines.append(_row("a million of them", f"{_short(phase.usd_per_million_tokens)} USD"))
    return lines


def _short(number: float) -> str:
    """Three digits, and all that stand before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"


def _turning(found: Estimate) -> str:
    if found.turning_batch is None:
        return "none: at no batch does the step wait for arithmetic most of the time"
    more = ", more than fits" if found.turning_batch > found.largest_batch else ""
    return f"{found.turning_batch:,}{more}: from there the step waits for arithmetic most of the time"
