"""The parts of a step on the roofline of a device: the Python face of roofline.js.

A test holds its words and the script's together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from teachkit.figures.html import Figure, show
from teachkit.figures.step_counts import (
    MOST_SEQUENCES,
    Number,
    Sizes,
    digits,
    parts,
    sequences,
    sizes,
    tick,
    waits,
)

# What is chosen in the menu -> bits of weights, of activations, of keys and values.
FORMATS: Mapping[str, tuple[int, int, int]] = {
    "all in 32 bits": (32, 32, 32),
    "all in 16 bits": (16, 16, 16),
    "weights in 8 bits": (8, 16, 16),
    "weights in 4 bits": (4, 16, 16),
    "all in 8 bits": (8, 8, 8),
}
PHASES = ("decode", "prefill")
INTENSITIES = (0.1, 300_000.0)  # ends of the horizontal axis; every part of every step lies between them
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 320, 52, 10, 40, 40


def roofline(
    devices: Mapping[str, Any],
    models: Mapping[str, Any],
    *,
    device: str | None = None,
    model: str | None = None,
    phase: str = "decode",
    bits: str = "all in 16 bits",
    batch: int = 1,
    tokens: int = 1024,
    alt: str | None = None,
) -> Figure:
    """Where the parts of a step lie under a device's roofs, and how long the step takes at least.

    devices, models     what the menus offer: name -> ``teachkit.hardware.Device``, ``teachkit.ModelConfig``
    device ... tokens   what is chosen when the page opens; the first device and model if not said
    Raises              ValueError: a choice that is not on offer, a format without a rate, counts below 1,
                        more tokens than the model's context
    """
    device, model = device or next(iter(devices)), model or next(iter(models))
    start = {
        "device": device,
        "model": model,
        "phase": phase,
        "bits": bits,
        "batch": batch,
        "tokens": tokens,
    }
    _require(devices, models, start)
    known_devices = {name: _peaks(given) for name, given in devices.items()}
    known_models = {name: sizes(config) for name, config in models.items()}
    chosen = known_devices[device], known_models[model], phase, FORMATS[bits], batch, tokens
    said = sentence(device, model, phase, bits, batch, tokens, devices=known_devices, models=known_models)
    if _missing(known_devices[device], FORMATS[bits]):
        raise ValueError(f"bits: {said}")
    alt = alt or said
    data = {
        "devices": [{"name": name, **given} for name, given in known_devices.items()],
        "models": [{"name": name, **asdict(given)} for name, given in known_models.items()],
        "formats": [{"name": name, "bits": given} for name, given in FORMATS.items()],
        "most": MOST_SEQUENCES,
        "intensities": INTENSITIES,
        "start": start,
    }
    header = ["device", "GB/s", *(f"TFLOP/s, {b} bits" for b in (32, 16, 8)), "FLOPs per byte, 16 bits"]
    rows = [
        [
            name,
            digits(given["bytes_per_s"] / 1e9),
            *(digits(given["peaks"][b] / 1e12) if given["peaks"][b] else "–" for b in ("32", "16", "8")),
            digits(given["peaks"]["16"] / given["bytes_per_s"]) if given["peaks"]["16"] else "–",
        ]
        for name, given in known_devices.items()
    ]
    twin = f'{_picture(*chosen, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show("roofline", data, alt=alt, static=twin, table=(header, rows))


def sentence(
    device: str,
    model: str,
    phase: str,
    bits: str,
    batch: int,
    tokens: int,
    *,
    devices: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Sizes],
) -> str:
    """What the figure shows, in words; the script says the same."""
    given, shape, widths = devices[device], models[model], FORMATS[bits]
    missing = _missing(given, widths)
    if missing:
        return f"No rate is known for {missing}-bit operands on {device}. Choose another format."
    bandwidth, peaks = given["bytes_per_s"], given["peaks"]
    seconds = {"memory": 0.0, "compute": 0.0}
    for part in parts(shape, phase, batch, tokens, widths):
        bound = part.seconds(bandwidth, peaks[str(part.bits)])
        seconds["memory" if bound == part.bytes / bandwidth else "compute"] += bound
    total = sum(seconds.values())
    new = batch * (1 if phase == "decode" else tokens)
    return (
        f"{model} on {device}, {bits}, {sequences(batch, tokens)}: "
        f"{'a decode step' if phase == 'decode' else 'prefill'} takes at least {digits(total * 1e3)} ms, "
        f"so at most {digits(new / total)} tokens/s in all. {waits(seconds)} "
        f"The ridge lies at {digits(peaks[str(max(widths[0], widths[1]))] / bandwidth)} FLOPs per byte. "
        f"{_fit(shape, widths, batch, tokens, given['memory_gb'])}"
    )


def _fit(model: Sizes, bits: Sequence[int], batch: int, tokens: int, memory_gib: Number) -> str:
    used = model.params * bits[0] / 8 + batch * _kept(model, tokens) * model.kv_width * bits[2] / 8
    room = f"{digits(used / 2**30)} of {digits(memory_gib)} GiB."
    if used > memory_gib * 2**30:
        return f"That does not fit: weights, keys and values would take {room}"
    return f"Weights, keys and values take {room}"


def _kept(model: Sizes, tokens: int) -> int:
    return sum(count * min(tokens, window or tokens) for window, count in model.windows)


def _peaks(device: Any) -> dict[str, Any]:
    return {
        "bytes_per_s": round(device.bytes_per_s),
        "memory_gb": device.memory_gb,
        "peaks": {str(bits): _peak(device, bits) for bits in (32, 16, 8)},
    }


def _peak(device: Any, bits: int) -> int | None:
    try:
        return round(device.peak(bits))
    except ValueError:  # none is published
        return None


def _missing(device: Mapping[str, Any], bits: Sequence[int]) -> int | None:
    """Bits of operands that are needed, and for which the device has no rate."""
    needed = max(bits[0], bits[1]), max(bits[1], bits[2])
    return next((b for b in needed if device["peaks"][str(b)] is None), None)


def _require(devices: Mapping[str, Any], models: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    offers: tuple[tuple[str, Any], ...] = (
        ("device", devices),
        ("model", models),
        ("phase", PHASES),
        ("bits", FORMATS),
    )
    for what, offer in offers:
        if start[what] not in offer:
            raise ValueError(f"{what}: expected one of {', '.join(map(str, offer))}; got {start[what]!r}")
    context = models[start["model"]].context
    if not 1 <= start["batch"] <= MOST_SEQUENCES or not 1 <= start["tokens"] <= context:
        raise ValueError(
            f"batch, tokens: expected 1 to {MOST_SEQUENCES:,} sequences and 1 to {context:,} tokens, "
            f"got {start['batch']} and {start['tokens']}"
        )


def _picture(
    device: Mapping[str, Any],
    model: Sizes,
    phase: str,
    bits: tuple[int, int, int],
    batch: int,
    tokens: int,
    alt: str,
) -> str:
    """Roofs and parts as an SVG element; the script draws the same, as wide as there is room."""
    bandwidth, peaks = device["bytes_per_s"], device["peaks"]
    peak = peaks[str(max(bits[0], bits[1]))]
    low, high = math.log10(bandwidth * INTENSITIES[0]), math.log10(peak * 2)

    def x(intensity: Number) -> float:
        left, right = map(math.log10, INTENSITIES)
        share = (min(max(math.log10(intensity), left), right) - left) / (right - left)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(flops: Number) -> float:
        return TOP + (high - max(math.log10(flops), low)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    ridge, ground = peak / bandwidth, HEIGHT - BOTTOM
    drawn = [
        f'<line class="grid" x1="{x(10.0**e):.1f}" x2="{x(10.0**e):.1f}" y1="{TOP}" y2="{ground}"/>'
        f'<text text-anchor="middle" x="{x(10.0**e):.1f}" y="{ground + 16}">{tick(10.0**e)}</text>'
        for e in range(-1, 6)
    ]
    drawn += [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10.0**e):.1f}" y2="{y(10.0**e):.1f}"/>'
        f'<text text-anchor="end" x="{LEFT - 6}" y="{y(10.0**e) + 4:.1f}">{tick(10.0 ** (e - 12))}</text>'
        for e in range(math.ceil(low), math.floor(high) + 1)
    ]
    drawn.append('<text x="0" y="12">TFLOP/s</text>')
    drawn.append(f'<text text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">FLOPs per byte</text>')
    roof = [(INTENSITIES[0], bandwidth * INTENSITIES[0]), (ridge, peak), (INTENSITIES[1], peak)]
    drawn.append('<path class="roof" d="M' + "L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in roof) + '"/>')
    for number, part in enumerate(parts(model, phase, batch, tokens, bits)):
        if part.flops:
            at, rate = part.flops / part.bytes, part.flops / part.seconds(bandwidth, peaks[str(part.bits)])
            place = f"translate({x(at):.1f} {y(rate):.1f})"
            drawn.append(f'<path class="mark m{number}" transform="{place}" d="{MARKS[number]}"/>')
            drawn.append(
                f'<path class="mark m{number}" transform="translate({LEFT + 16 + 104 * number} {TOP - 16})" '
                f'd="{MARKS[number]}"/><text x="{LEFT + 28 + 104 * number}" y="{TOP - 11}">{part.name}</text>'
            )
    return (
        f'<svg class="tk-rl-plot" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{"".join(drawn)}</svg>'
    )


# Circle, triangle, square, diamond: told apart without colour, and seen when they lie on each other.
MARKS = (
    "M-7 0A7 7 0 1 0 7 0A7 7 0 1 0 -7 0Z",
    "M0 -8L8 6L-8 6Z",
    "M-9 -9H9V9H-9Z",
    "M0 -6L6 0L0 6L-6 0Z",
)
