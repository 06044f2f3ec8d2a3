"""Bytes of a key/value cache beside the weights and a device's memory: the Python face of kv_memory.js."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from html import escape

from teachkit.figures.html import Figure, show

WEIGHT_BITS = 16
KV_BITS = (32, 16, 8, 4)


@dataclass(frozen=True)
class Model:
    """A published shape.

    context  tokens that it was made for
    window   of its sliding window, 0 where there is none: no query reads a token further back, so no more
             than these are kept
    """

    n_layers: int
    n_kv_heads: int
    head_dim: int
    params: int
    context: int
    source: str
    window: int = 0

    def token_bytes(self, bits: int) -> int:
        """Bytes that one token leaves: keys and values, all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * bits // 8

    def cache_bytes(self, context: int, sequences: int, bits: int) -> int:
        """Bytes of keys and values of so many sequences, each of ``context`` tokens."""
        kept = min(context, self.window) if self.window else context
        return self.token_bytes(bits) * kept * sequences

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters at 16 bits each."""
        return self.params * WEIGHT_BITS // 8


MODELS = {
    "This book's model": Model(6, 2, 64, 5_475_584, 1024, "config.json of the bundled checkpoint"),
    "LLaMA-7B": Model(32, 32, 128, 6_738_415_616, 2048, "arXiv:2302.13971, table 2"),
    "Falcon-7B": Model(32, 1, 64, 6_921_720_704, 2048, "arXiv:2311.16867"),
    "Mistral-7B": Model(32, 8, 128, 7_241_732_096, 8192, "arXiv:2310.06825, table 1", window=4096),
    "Llama-3-8B": Model(32, 8, 128, 8_030_261_248, 8192, "arXiv:2407.21783, table 3"),
    "Llama-3-70B": Model(80, 8, 128, 70_553_706_496, 8192, "arXiv:2407.21783, table 3"),
    "GPT-3": Model(96, 96, 128, 174_604_259_328, 2048, "arXiv:2005.14165, table 2.1"),
}
# GB as printed on the data sheet. How many bytes that is, the figure leaves open, and shows both.
DEVICES = {"T4": 16, "A10": 24, "A100-40GB": 40, "A100-80GB": 80, "H100": 80, "H200": 141}


def kv_memory(
    model: str = "LLaMA-7B",
    device: str = "A100-80GB",
    context: int = 4096,
    sequences: int = 1,
    kv_bits: int = 16,
    *,
    alt: str | None = None,
) -> Figure:
    """How large a cache is, beside the weights and a device: by model, context length, sequences and bits.

    model ... kv_bits   what is chosen when the page opens
    Raises              ValueError: a model, device or number of bits that is not on offer, counts below 1
    """
    for what, value, known in (
        ("model", model, MODELS),
        ("device", device, DEVICES),
        ("kv_bits", kv_bits, KV_BITS),
    ):
        if value not in known:
            raise ValueError(f"{what}: expected one of {', '.join(map(str, known))}; got {value!r}")
    if context < 1 or sequences < 1:
        raise ValueError(f"context, sequences: expected at least 1 of each, got {context} and {sequences}")
    start = {"model": model, "device": device, "context": context, "sequences": sequences, "bits": kv_bits}
    data = {
        "models": [{"name": name, **asdict(shape)} for name, shape in MODELS.items()],
        "devices": [{"name": name, "gb": gb} for name, gb in DEVICES.items()],
        "bits": KV_BITS,
        "weight_bits": WEIGHT_BITS,
        "start": start,
    }
    alt = alt or sentence(model, device, context, sequences, kv_bits)
    header = [
        "model",
        "layers",
        "key/value heads",
        "width of a head",
        "bytes per token, 16 bits",
        "weights, 16 bits",
    ]
    rows = [
        [
            name,
            *map(str, (m.n_layers, m.n_kv_heads, m.head_dim)),
            f"{m.token_bytes(16):,}",
            size(m.weight_bytes),
            m.source,
        ]
        for name, m in MODELS.items()
    ]
    twin = (
        f'{_picture(model, device, context, sequences, kv_bits, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    )
    return show("kv_memory", data, alt=alt, static=twin, table=([*header, "shape from"], rows))


def sentence(model: str, device: str, context: int, sequences: int, kv_bits: int) -> str:
    """What the figure shows, in words; the script says the same."""
    shape = MODELS[model]
    cache = shape.cache_bytes(context, sequences, kv_bits)
    many = f"{sequences:,} sequences" if sequences > 1 else "1 sequence"
    ratio = _share(cache / shape.weight_bytes)
    said = [
        f"One token leaves {shape.token_bytes(kv_bits):,} bytes of keys and values in {model}.",
        f"{many} of {context:,} tokens: {size(cache)}, {ratio} times the weights.",
        _fit(shape, device, cache // sequences),
    ]
    if context > shape.context:
        said.append(f"Its context is {shape.context:,} tokens.")
    if shape.window and context > shape.window:
        said.append(f"Of each sequence it keeps the latest {shape.window:,} tokens, its sliding window.")
    return " ".join(said)


def _fit(shape: Model, device: str, sequence_bytes: int) -> str:
    gb = DEVICES[device]
    rooms = [max(0, unit * gb - shape.weight_bytes) // sequence_bytes for unit in (10**9, 2**30)]
    if shape.weight_bytes > gb * 2**30:
        return f"The weights alone fill more than one {device}."
    return (
        f"One {device} holds the weights and {rooms[0]:,} such sequences "
        f"if each of its {gb} GB is 10⁹ bytes, "
        f"{rooms[1]:,} if it is 2³⁰; nothing is set aside for anything else."
    )


def size(n_bytes: int) -> str:
    """Bytes in decimal and in binary units.

    >>> size(2**31), size(6144)
    ('2.15 GB = 2.00 GiB', '0.006 MB = 0.006 MiB')
    """
    big = n_bytes >= 1e8
    decimal, binary = (n_bytes / 1e9, n_bytes / 2**30) if big else (n_bytes / 1e6, n_bytes / 2**20)
    letter = "G" if big else "M"
    return f"{_share(decimal)} {letter}B = {_share(binary)} {letter}iB"


def _share(value: float) -> str:
    """One decimal from 10 on, two from 1 on, else three; halves go up, as in the script."""
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{math.floor(value * 10**digits + 0.5) / 10**digits:,.{digits}f}"


def _picture(model: str, device: str, context: int, sequences: int, kv_bits: int, alt: str) -> str:
    """Three bars on one scale as an SVG element."""
    shape = MODELS[model]
    cache, memory = shape.cache_bytes(context, sequences, kv_bits), DEVICES[device] * 10**9
    bars = (
        (
            "weights",
            f"Weights of {model}, {WEIGHT_BITS} bits: {size(shape.weight_bytes)}",
            shape.weight_bytes,
        ),
        ("cache", f"Keys and values, {kv_bits} bits: {size(cache)}", cache),
        ("device", f"Memory of one {device}: {DEVICES[device]} GB", memory),
    )
    most = max(value for _, _, value in bars)
    drawn = "".join(
        f'<text y="{48 * i + 14}">{escape(label)}</text>'
        f'<rect class="{kind}" y="{48 * i + 20}" height="18" width="{max(1.0, 480 * value / most):.1f}"/>'
        for i, (kind, label, value) in enumerate(bars)
    )
    return (
        f'<svg class="tk-km-bars" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 480 144" width="480">{drawn}</svg>'
    )
