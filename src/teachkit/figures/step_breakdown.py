"""The parts of a decode step as a stacked bar, by model, device, batch, context, bits and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from teachkit.figures.html import Figure, show
from teachkit.figures.step_counts import (
    MOST_SEQUENCES,
    SIDES,
    brief,
    digits,
    percent,
    sequences,
    waits,
    whole,
)

WEIGHT_BITS = (16, 8, 4)
KV_BITS = (16, 8)
DEGREES = (1, 2, 4, 8, 16)  # devices that share a model
PARTS = (
    "embedding",
    "norms",
    "attention projections",
    "attention scores",
    "MLP",
    "head",
    "communication",
)
# predict(config, device, batch=, context=, weight_bits=, kv_bits=, tp=) -> (cost, bound, memory) of a step
Predict = Callable[..., tuple[Any, Any, Any]]


def step_breakdown(
    models: Mapping[str, Any],
    devices: Mapping[str, Any],
    predict: Predict,
    *,
    message_s: float = 0.0,
    model: str | None = None,
    device: str | None = None,
    batch: int = 1,
    context: int = 512,
    weight_bits: int = 16,
    kv_bits: int = 16,
    tp: int = 1,
) -> Figure:
    """Where the time of a decode step goes, part by part, and what each part waits for.

    models        name -> config, as teachkit.config.ModelConfig has it
    devices       name -> device, as teachkit.hardware.Device has it; each with a link
    predict       called as predict(config, device, batch=, context=, weight_bits=, kv_bits=, tp=); returns
                  (cost, bound, memory) as teachkit.cost, roofline and memory do. What the page shows without
                  scripts comes from it; the script holds the same formulas, for settings yet to be chosen
    message_s     the least time that one all-reduce takes; ``predict`` is to assume the same
    model ... tp  what is chosen when the page opens; the first model and device if not said
    Raises        ValueError: a model, device, degree or number of bits that is not on offer; counts below 1,
                  a context beyond the model's; a device without a link
    """
    model, device = model or next(iter(models)), device or next(iter(devices))
    start = {
        "model": model,
        "device": device,
        "batch": batch,
        "context": context,
        "weight_bits": weight_bits,
        "kv_bits": kv_bits,
        "tp": tp,
    }
    _require(models, devices, start)
    data = {
        "models": [{"name": name, **_shape(config)} for name, config in models.items()],
        "devices": [{"name": name, **_peaks(given)} for name, given in devices.items()],
        "weight_bits": WEIGHT_BITS,
        "kv_bits": KV_BITS,
        "degrees": DEGREES,
        "message_us": message_s * 1e6,
        "most": MOST_SEQUENCES,
        "start": start,
    }
    setting = {key: start[key] for key in ("batch", "context", "weight_bits", "kv_bits", "tp")}
    predicted = predict(models[model], devices[device], **setting)
    alt = sentence(model, device, setting, devices[device], predicted)
    rows = part_rows(predicted)
    twin = f'{_picture(predicted, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    return show(
        "step_breakdown", data, alt=alt, static=twin, table=(("part", "ms", "waits for"), rows), digits=6
    )


def sentence(
    model: str, device: str, setting: Mapping[str, Any], limits: Any, predicted: tuple[Any, Any, Any]
) -> str:
    """What the figure shows, in words; the script says the same."""
    step, bound, memory = predicted
    n, batch = setting["tp"], setting["batch"]
    seconds = {side: sum(p.seconds for p in bound.parts if p.side == side) for side in SIDES}
    largest = max(bound.parts, key=lambda part: part.seconds)
    busy = step.bytes / (limits.bytes_per_s * bound.seconds)
    held, room = memory.total_bytes / 2**30, limits.memory_bytes / 2**30
    fits = "Each holds" if n > 1 else "It holds"
    if held > room:
        fits = "That does not fit: each would hold" if n > 1 else "That does not fit: it would hold"
    return (
        f"{model} on {f'{n} × ' if n > 1 else 'one '}{device}, weights in {setting['weight_bits']} bits, "
        f"keys and values in {setting['kv_bits']}, {sequences(batch, setting['context'])}: "
        f"a decode step takes at least {digits(bound.seconds * 1e3)} ms, so at most "
        f"{digits(batch / bound.seconds)} tokens/s in all. Its largest part: {_called(largest.name)}, "
        f"{percent(largest.seconds / bound.seconds)}. {waits(seconds)} "
        f"MBU is at most {whole(busy)}. {fits} {digits(held)} of {digits(room)} GiB."
    )


def part_rows(predicted: tuple[Any, Any, Any]) -> list[list[str]]:
    """Part, milliseconds, what it waits for; in the order in which they run."""
    return [[_called(p.name), brief(p.seconds * 1e3), SIDES[p.side]] for p in predicted[1].parts]


def _called(name: str) -> str:
    """A component of the cost model as the page calls it."""
    return "MLP" if name == "mlp" else name


def degrees(config: Any) -> list[int]:
    """The numbers of devices among which heads, MLP and vocabulary can be divided evenly."""
    sizes = (config.n_heads, config.d_ff, config.vocab_size)
    kv = config.n_kv_heads
    return [n for n in DEGREES if not any(size % n for size in sizes) and (kv % n == 0 or n % kv == 0)]


def _require(models: Mapping[str, Any], devices: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    offers: tuple[tuple[str, Any], ...] = (
        ("model", models),
        ("device", devices),
        ("weight_bits", WEIGHT_BITS),
        ("kv_bits", KV_BITS),
    )
    for what, offer in offers:
        if start[what] not in offer:
            raise ValueError(f"{what}: expected one of {', '.join(map(str, offer))}; got {start[what]!r}")
    config = models[start["model"]]
    if start["tp"] not in degrees(config):
        some = ", ".join(map(str, degrees(config)))
        raise ValueError(f"tp: expected one of {some} for {start['model']}, got {start['tp']}")
    if not 1 <= start["batch"] <= MOST_SEQUENCES or not 1 <= start["context"] <= config.context:
        raise ValueError(
            f"batch, context: expected 1 to {MOST_SEQUENCES:,} sequences and 1 to {config.context:,} tokens, "
            f"got {start['batch']} and {start['context']}"
        )
    for name, device in devices.items():
        if device.link_bytes_per_s is None:
            raise ValueError(f"devices: expected devices with a link, {name} has none")


def _shape(config: Any) -> dict[str, Any]:
    """What the script's formulas need of a config."""
    one = config.d_model if config.norm == "rms" else 2 * config.d_model
    in_layer = (config.parallel_norms if config.parallel_residual else 2) * one
    in_layer += 2 * config.head_dim if config.qk_norm else 0
    return {
        "L": config.n_layers,
        "C": config.d_model,
        "H": config.n_heads,
        "Hkv": config.n_kv_heads,
        "D": config.head_dim,
        "F": config.d_ff,
        "V": config.vocab_size,
        "context": config.context,
        "windows": [window or 0 for window in config.windows],
        "ups": 2 if config.gated_mlp else 1,
        "qkv_bias": int(config.qkv_bias),
        "o_bias": int(config.o_bias),
        "mlp_bias": int(config.mlp_bias),
        "learned": int(config.position == "learned"),
        "tied": int(config.tied),
        "norms": config.n_layers * in_layer + one,
        "degrees": degrees(config),
    }


def _peaks(device: Any) -> dict[str, Any]:
    return {
        "bytes_per_s": device.bytes_per_s,
        "flops": device.peak(16),
        "link_bytes_per_s": device.link_bytes_per_s,
        "memory_bytes": device.memory_bytes,
    }


def _picture(predicted: tuple[Any, Any, Any], alt: str) -> str:
    """The bar and what its colours mean, as an SVG element."""
    _, bound, _ = predicted
    drawn, left, rows = "", 0.0, part_rows(predicted)
    for i, (part, (name, ms, side)) in enumerate(zip(bound.parts, rows, strict=True)):
        width = 480 * part.seconds / bound.seconds
        kind = f"part-{PARTS.index(name)}"
        drawn += f'<rect class="{kind}" x="{left:.1f}" y="4" height="26" width="{width:.1f}"/>'
        drawn += f'<rect class="{kind}" x="0" y="{46 + 22 * i}" height="14" width="14"/>'
        drawn += f'<text x="22" y="{58 + 22 * i}">{escape(f"{name}: {ms} ms, waits for {side}")}</text>'
        left += width
    height = 46 + 22 * len(rows)
    return (
        f'<svg class="tk-sb-bars" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 480 {height}" width="480">{drawn}</svg>'
    )
