"""Time per token against tokens per second, one curve over the batch: the Python face of latency_plane.js."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from html import escape
from typing import Any

from teachkit.figures.html import Figure, show
from teachkit.figures.step_counts import MOST_SEQUENCES, SIDES, Number, brief, digits, sequences, tick

FORMATS = ((16, 16), (8, 16), (4, 16), (8, 8))  # bits of weights and of activations
KV_BITS = (16, 8, 4)
ROWS = (1, 4, 16, 64, 256, 1024)  # batches of the table
X, Y = (0.3, 3000.0), (1.0, 1e6)  # ms per token, tokens/s: the same axes for every choice
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 24, 40  # around the plane within the picture
WIDTH, HEIGHT = 400, 304  # of the picture; the script draws it as wide as there is room
OUTSIDE = "the point lies outside"
# predict(config, device, batch=, context=, weight_bits=, act_bits=, kv_bits=) -> (cost, bound, memory)
Predict = Callable[..., tuple[Any, Any, Any]]


def latency_plane(
    models: Mapping[str, Any],
    devices: Mapping[str, Any],
    predict: Predict,
    *,
    reading_ms: int | float,
    model: str | None = None,
    device: str | None = None,
    batch: int = 1,
    context: int = 512,
    weight_bits: int = 16,
    act_bits: int = 16,
    kv_bits: int = 16,
) -> Figure:
    """Decode steps on the plane of time per token and tokens per second, by batch.

    models             name -> config, as teachkit.config.ModelConfig has it
    devices            name -> device, as teachkit.hardware.Device has it, with a rate for 16-bit operands
    predict            called as predict(config, device, batch=, context=, weight_bits=, act_bits=, kv_bits=);
                       returns (cost, bound, memory) as teachkit.cost, roofline and memory do. What the page
                       shows without scripts comes from it; the script works with its counts of batches 1
                       and 2
    reading_ms         time in which a person reads a token
    model ... kv_bits  what is chosen when the page opens; the first model and device if not said
    Raises             ValueError: a model, device or number of bits that is not on offer, counts below 1, a
                       context beyond the model's, layers whose windows differ, bits without a rate
    """
    model, device = model or next(iter(models)), device or next(iter(devices))
    bits = {"weight_bits": weight_bits, "act_bits": act_bits, "kv_bits": kv_bits}
    start = {"model": model, "device": device, "batch": batch, "context": context, **bits}
    _require(models, devices, start)
    any_device = next(iter(devices.values()))
    data = {
        "models": [{"name": name, **_counts(c, any_device, predict)} for name, c in models.items()],
        "devices": [{"name": name, **_limits(d)} for name, d in devices.items()],
        "formats": FORMATS,
        "kv_bits": KV_BITS,
        "most": MOST_SEQUENCES,
        "reading_ms": reading_ms,
        "start": start,
    }
    plane = Plane(models[model], devices[device], predict, context, bits)
    alt = sentence(plane, model, device, batch, reading_ms)
    header = (
        "sequences",
        "ms per token",
        "tokens/s each",
        "tokens/s in all",
        "waits for",
        "dollars a million",
    )
    twin = f'{_picture(plane, batch, reading_ms, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show("latency_plane", data, alt=alt, static=twin, table=(header, list(rows(plane))), digits=6)


class Plane:
    """One model on one device, at a context and number formats: what each batch gives."""

    def __init__(
        self, config: Any, device: Any, predict: Predict, context: int, bits: Mapping[str, int]
    ) -> None:
        self.device, self.context, self.bits = device, context, bits
        self._predict: Callable[[int], tuple[Any, Any, Any]] = lambda batch: predict(
            config, device, batch=batch, context=context, **bits
        )
        held = self._predict(1)[2]
        room = device.memory_bytes - held.weights_bytes
        self.largest_batch = max(0, int(room // (held.kv_bytes + held.activations_bytes)))

    def step(self, batch: int) -> tuple[float, str]:
        """Seconds, and what most of them wait for."""
        bound = self._predict(batch)[1]
        return bound.seconds, SIDES[bound.side]

    def usd_per_million(self, batch: int) -> float | None:
        """Dollars for a million tokens; None without a price."""
        price = self.device.price_usd_per_hour
        return None if price is None else price / 3600 * self.step(batch)[0] / batch * 1e6


def sentence(plane: Plane, model: str, device: str, batch: int, reading_ms: int | float) -> str:
    """What the figure shows, in words; the script says the same."""
    seconds, side = plane.step(batch)
    w, a, kv = (plane.bits[f"{what}_bits"] for what in ("weight", "act", "kv"))
    return " ".join(
        (
            f"{model} on one {device}, weights in {w} bits, activations in {a}, keys and values in {kv},",
            f"{sequences(batch, plane.context)}: at least {digits(1e3 * seconds)} ms per token,",
            f"{digits(reading_ms / (1e3 * seconds))} times as fast as reading.",
            f"At most {digits(1 / seconds)} tokens/s for each, {digits(batch / seconds)} in all.",
            f"The step waits mostly for {side}.",
            _fit(plane.largest_batch, batch),
            _price(plane, batch),
        )
    )


def _fit(most: int, batch: int) -> str:
    if most < 1:
        return "Not even one sequence fits into the memory."
    full = f"memory is full at {most:,} sequence{'s' * (most > 1)}."
    return f"{full[0].upper()}{full[1:]}" if batch <= most else f"That does not fit: {full}"


def _price(plane: Plane, batch: int) -> str:
    usd = plane.usd_per_million(batch)
    if usd is None:
        return "No price is listed."
    hour = f"{plane.device.price_usd_per_hour:.2f} dollars an hour ({_asked(plane.device)})"
    cost = "cost" if batch <= plane.largest_batch else "would cost"
    return f"At {hour} a million tokens {cost} at least {digits(usd)} dollars."


def _asked(device: Any) -> str | None:
    """Seller and day of the price."""
    source: str | None = device.price_source
    return None if source is None else f"{source.partition(',')[0]}, {device.price_date}"


def rows(plane: Plane) -> Iterator[list[str]]:
    """The table: batches that fit, and the largest one."""
    fit = [batch for batch in ROWS if batch < plane.largest_batch]
    for batch in [*fit, *([plane.largest_batch] if plane.largest_batch else [])]:
        seconds, side = plane.step(batch)
        usd = plane.usd_per_million(batch)
        yield [
            f"{batch:,}",
            brief(1e3 * seconds),
            digits(1 / seconds),
            digits(batch / seconds),
            side,
            "–" if usd is None else digits(usd),
        ]


def _require(models: Mapping[str, Any], devices: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    offers: tuple[tuple[str, Any, Any], ...] = (
        ("model", start["model"], models),
        ("device", start["device"], devices),
        ("weight_bits, act_bits", (start["weight_bits"], start["act_bits"]), FORMATS),
        ("kv_bits", start["kv_bits"], KV_BITS),
    )
    for what, value, offer in offers:
        if value not in offer:
            raise ValueError(f"{what}: expected one of {', '.join(map(str, offer))}; got {value!r}")
    config = models[start["model"]]
    if not 1 <= start["batch"] <= MOST_SEQUENCES or not 1 <= start["context"] <= config.context:
        raise ValueError(
            f"batch, context: expected 1 to {MOST_SEQUENCES:,} sequences and 1 to {config.context:,} tokens, "
            f"got {start['batch']} and {start['context']}"
        )
    for name, config in models.items():
        if len(set(config.windows)) > 1:
            raise ValueError(f"models: expected one window for all layers, {name} has {config.windows}")


def _counts(config: Any, device: Any, predict: Predict) -> dict[str, Any]:
    """Numbers moved and operations done in a step, fixed and per sequence: both are linear in the batch."""
    bits = {"weight_bits": 16, "act_bits": 16, "kv_bits": 16}
    (one, _, held), (two, _, _) = (predict(config, device, batch=b, context=1, **bits) for b in (1, 2))
    parts = [
        {
            "flops": a.flops,
            "weights": (2 * a.weight_bytes - b.weight_bytes) / 2,
            "looked_up": (b.weight_bytes - a.weight_bytes) / 2,
            "acts": a.activation_bytes / 2,
            "kv": a.kv_write_bytes / 2,  # all layers, one token: the flops of such a part are for one, too
        }
        for a, b in zip(one.components, two.components, strict=True)
    ]
    return {
        "parts": parts,
        "params": held.weights_bytes / 2,
        "widest": held.activations_bytes / 2,
        "context": config.context,
        "window": config.windows[0] or 0,
    }


def _limits(device: Any) -> dict[str, Any]:
    rates = {"16": device.peak(16)}
    with suppress(ValueError):  # no unit for it
        rates["8"] = device.peak(8)
    return {
        "bytes_per_s": device.bytes_per_s,
        "memory_bytes": device.memory_bytes,
        "flops": rates,
        "usd": device.price_usd_per_hour,
        "asked": _asked(device),
    }


# The twin


def batches(most: int, least: int = 1) -> Iterator[int]:
    """About eight to an octave, from ``least`` to ``most``."""
    last = 0
    for i in range(8 * MOST_SEQUENCES.bit_length()):
        batch = min(most, max(least, math.floor(2 ** (i / 8) + 0.5)))
        if batch > last:
            yield batch
        last = batch


def _place(seconds: float, batch: int) -> tuple[float, float]:
    """Where a step stands in the picture."""
    across = math.log10(1e3 * seconds / X[0]) / math.log10(X[1] / X[0])
    up = math.log10(batch / seconds / Y[0]) / math.log10(Y[1] / Y[0])
    return LEFT + (WIDTH - LEFT - RIGHT) * across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - up)


def _inside(x: float, y: float) -> bool:
    return LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM


def _line(plane: Plane, many: Iterator[int], kind: str) -> str:
    places = (_place(plane.step(batch)[0], batch) for batch in many)
    path = "L".join(f"{x:.1f},{y:.1f}" for x, y in places if _inside(x, y))
    return f'<path class="{kind}" d="M{path}"/>' if path else ""


def _picture(plane: Plane, batch: int, reading_ms: int | float, alt: str) -> str:
    """The plane as an SVG element: grid, reading line, curve up to where memory is full, the point chosen."""
    most = plane.largest_batch
    drawn = _grid(reading_ms) + _line(plane, batches(MOST_SEQUENCES, max(1, most)), "beyond")
    if most:
        drawn += _line(plane, batches(min(most, MOST_SEQUENCES)), "curve")
        x, y = _place(plane.step(most)[0], most)
        if _inside(x, y):
            side, at = ("start", x + 9) if x < LEFT + 90 else ("end", x - 9)
            drawn += f'<rect class="wall" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
            drawn += _said("memory full", side, at, y - 8)
    x, y = _place(plane.step(batch)[0], batch)
    if _inside(x, y):
        drawn += f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    else:
        drawn += _said(OUTSIDE, "end", WIDTH - RIGHT - 6, TOP + 18)
    return (
        f'<svg class="tk-lp-plane" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{drawn}</svg>'
    )


def _said(words: str, anchor: str, x: Number, y: Number) -> str:
    return f'<text class="said" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{words}</text>'


def _grid(reading_ms: int | float) -> str:
    ground, drawn = HEIGHT - BOTTOM, ""
    for ms in (1, 10, 100, 1000):
        x, _ = _place(ms / 1e3, 1)
        drawn += f'<path class="grid" d="M{x:.1f},{TOP}V{ground}"/>'
        drawn += f'<text text-anchor="middle" x="{x:.1f}" y="{ground + 16}">{tick(ms)}</text>'
    for per_s in (1, 10, 100, 1000, 10_000, 100_000, 1_000_000):
        _, y = _place(1.0, per_s)
        drawn += f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>'
        drawn += f'<text text-anchor="end" x="{LEFT - 5}" y="{y + 4:.1f}">{tick(per_s)}</text>'
    drawn += '<text x="0" y="12">tokens/s in all</text>'
    drawn += f'<text text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">ms per token</text>'
    if X[0] <= reading_ms <= X[1]:
        x, _ = _place(reading_ms / 1e3, 1)
        drawn += f'<path class="reading" d="M{x:.1f},{TOP}V{ground}"/>'
        drawn += _said("reading", "end", x - 5, ground - 8)
    return drawn
