"""Time per token against tokens per second, one curve over the batch: the Python face of latency_plane.js."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import Any

from teachkit.figures.html import Figure, show

FORMATS = ((16, 16), (8, 16), (4, 16), (8, 8))  # bits of weights and of activations
KV_BITS = (16, 8, 4)
SIDES = {"memory": "memory", "compute": "arithmetic", "link": "the link"}  # as they are called on the page
ROWS = (1, 4, 16, 64, 256, 1024)  # batches of the table
MOST = 1 << 16  # sequences of a batch
X, Y = (0.3, 3000.0), (1.0, 300_000.0)  # ms per token, tokens/s: axes that hold for every choice
LEFT, TOP, WIDTH, HEIGHT = 44, 12, 346, 240  # of the plane within the picture
SIZE = (400, 296)
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

    models      name -> config, as teachkit.config.ModelConfig has it
    devices     name -> device, as teachkit.hardware.Device has it, with a rate for 16-bit operands
    predict     called as predict(config, device, batch=, context=, weight_bits=, act_bits=, kv_bits=);
                returns (cost, bound, memory) as teachkit.cost, roofline and memory do. What the page shows
                without scripts comes from it; the script works with the counts of batches 1 and 2
    reading_ms  time in which a person reads a token
    model ...   what is chosen when the page opens; the first model and device if not said
    Raises      ValueError: a model, device or number of bits that is not on offer, counts below 1, a context
                beyond the model's, layers whose windows differ, bits that the device has no rate for
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
    many = f"{batch:,} sequences" if batch > 1 else "1 sequence"
    w, a, kv = (plane.bits[f"{what}_bits"] for what in ("weight", "act", "kv"))
    return " ".join(
        (
            f"{model} on one {device}; bits: weights {w}, activations {a}, keys and values {kv}.",
            f"{many} of {plane.context:,} tokens: at least {digits(1e3 * seconds)} ms per token,",
            f"{digits(reading_ms / (1e3 * seconds))} times as fast as reading.",
            f"At most {digits(1 / seconds)} tokens/s for each, {digits(batch / seconds)} in all;",
            f"the step waits for {side}.",
            _fit(plane.largest_batch, batch),
            _price(plane.device, plane.usd_per_million(batch)),
        )
    )


def _fit(most: int, batch: int) -> str:
    if most < 1:
        return "Not even one sequence fits into the memory."
    full = f"memory is full at {most:,} sequence{'s' if most > 1 else ''}."
    return f"{full[0].upper()}{full[1:]}" if batch <= most else f"That does not fit: {full}"


def _price(device: Any, usd: float | None) -> str:
    if usd is None:
        return "No price is listed."
    hour = f"{device.price_usd_per_hour:.2f} dollars an hour ({_asked(device)})"
    return f"At {hour} a million tokens cost at least {digits(usd)} dollars."


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
            digits(1e3 * seconds),
            digits(1 / seconds),
            digits(batch / seconds),
            side,
            "–" if usd is None else digits(usd),
        ]


def digits(value: float) -> str:
    """No decimal from 100 on, one from 10 on, two from 1 on, else three; halves go up, as in the script.

    >>> digits(1234.4), digits(31.43), digits(0.1166)
    ('1,234', '31.4', '0.117')
    """
    n = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{math.floor(value * 10**n + 0.5) / 10**n:,.{n}f}"


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
    if not 1 <= start["batch"] <= MOST or not 1 <= start["context"] <= config.context:
        raise ValueError(
            f"batch, context: expected 1 to {MOST:,} sequences and 1 to {config.context:,} tokens, "
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


def batches(most: int) -> Iterator[int]:
    """About eight to an octave, from 1 to ``most``."""
    last = 0
    for i in range(8 * MOST.bit_length()):
        batch = min(most, math.floor(2 ** (i / 8) + 0.5))
        if batch > last:
            yield batch
        last = batch


def _place(seconds: float, batch: int) -> tuple[float, float]:
    """Where a step stands in the picture."""
    across = math.log10(1e3 * seconds / X[0]) / math.log10(X[1] / X[0])
    up = math.log10(batch / seconds / Y[0]) / math.log10(Y[1] / Y[0])
    return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)


def _line(plane: Plane, many: Sequence[int], kind: str) -> str:
    places = (_place(plane.step(batch)[0], batch) for batch in many)
    inside = ((x, y) for x, y in places if LEFT <= x <= LEFT + WIDTH and TOP <= y <= TOP + HEIGHT)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
    return f'<polyline class="{kind}" points="{points}"/>'


def _picture(plane: Plane, batch: int, reading_ms: int | float, alt: str) -> str:
    """The plane as an SVG element: grid, reading line, curve up to where memory is full, the point chosen."""
    drawn = ""
    for ms in (1, 10, 100, 1000):
        x, _ = _place(ms / 1e3, 1)
        drawn += f'<path class="grid" d="M{x:.1f},{TOP}v{HEIGHT}"/>'
        drawn += f'<text class="x" x="{x:.1f}" y="{TOP + HEIGHT + 16}">{ms:,}</text>'
    for per_s in (1, 10, 100, 1000, 10_000, 100_000):
        _, y = _place(1.0, per_s)
        drawn += f'<path class="grid" d="M{LEFT},{y:.1f}h{WIDTH}"/>'
        drawn += f'<text class="y" x="{LEFT - 5}" y="{y + 4:.1f}">{tick(per_s)}</text>'
    x, _ = _place(reading_ms / 1e3, 1)
    drawn += f'<path class="reading" d="M{x:.1f},{TOP}v{HEIGHT}"/>'
    drawn += f'<text class="said" x="{x - 5:.1f}" y="{TOP + HEIGHT - 8}">reading</text>'
    if plane.largest_batch:
        drawn += _line(plane, list(batches(plane.largest_batch)), "curve")
        x, y = _place(plane.step(plane.largest_batch)[0], plane.largest_batch)
        drawn += f'<rect class="wall" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
        drawn += f'<text class="said" x="{x - 9:.1f}" y="{y - 8:.1f}">memory full</text>'
    x, y = _place(plane.step(batch)[0], batch)
    drawn += f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    drawn += f'<text class="title" x="{LEFT + WIDTH / 2}" y="{SIZE[1] - 6}">ms per token</text>'
    drawn += f'<text class="title start" x="{LEFT + 6}" y="{TOP + 14}">tokens/s in all</text>'
    return (
        f'<svg class="tk-lp-plane" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {SIZE[0]} {SIZE[1]}" width="{SIZE[0]}">{drawn}</svg>'
    )


def tick(value: int) -> str:
    """
    >>> [tick(10**n) for n in (0, 3, 5)]
    ['1', '1k', '100k']
    """
    return f"{value // 1000}k" if value >= 1000 else str(value)
