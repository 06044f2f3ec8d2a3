"""Int4 packing, bit by bit: weights, their sixteen values, and a byte: the Python face of int4_packing.js."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from teachkit.figures.html import Figure, show

MOST_WEIGHTS = 64  # more would be too close to tell apart
DIGITS = 4  # of the weights that are shown, and of those that are packed
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Packed:
    """A group in int4: value = (nibble - 8) * scale + zero.

    weights, back  as given (rounded to DIGITS places), and what comes back
    nibbles        from 0 to 15
    scale, zero    of the group, numbers that bfloat16 has
    """

    weights: list[float]
    nibbles: list[int]
    scale: float
    zero: float
    back: list[float]

    @property
    def packed(self) -> list[int]:
        """The bytes: an even weight's nibble in the low four bits, the next one's in the high four."""
        return [low | high << 4 for low, high in zip(self.nibbles[::2], self.nibbles[1::2], strict=True)]

    @property
    def bits_per_weight(self) -> float:
        """Nibbles, and two numbers of two bytes for the group."""
        return 4 + 32 / len(self.weights)


def pack(weights: Sequence[float], *, symmetric: bool = False) -> Packed:
    """One group in int4, step by step in float32, as the package's own ``quant.int4`` computes it."""
    x = np.array([round(float(w), DIGITS) for w in weights], np.float32)
    two = np.float32(2)
    low, high = x.min() / two, x.max() / two
    wanted = np.float32(0) if symmetric else low + (high - low) / np.float32(15) * np.float32(8)
    zero = _bfloat16(wanted)
    if abs(zero) > abs(wanted):
        zero = _neighbour(zero, -1)
    step = max((high - zero) / np.float32(7), (zero - low) / np.float32(8), _TINY)
    scale = _bfloat16(step)
    if scale < step:
        scale = _neighbour(scale, 1)
    codes = np.rint((x / two - zero) / scale).clip(-8, 7).astype(np.float32)
    back = two * (codes * scale + zero)
    nibbles = [int(code) + 8 for code in codes]
    return Packed(x.tolist(), nibbles, float(two * scale), float(two * zero), back.tolist())


def int4_packing(
    groups: Mapping[str, Sequence[float]],
    group: str | None = None,
    byte: int = 0,
    *,
    symmetric: bool = False,
    alt: str | None = None,
) -> Figure:
    """A group of weights on its sixteen values; choose a byte, see its two weights as bits, change them.

    groups  name: weights that share scale and zero, rounded to four decimal places
    group, byte, symmetric   what is chosen when the page opens; None: the first group
    Raises  ValueError: no groups, one with an odd number of weights, with none or more than 64, or with a
            number that is not finite; an unknown group; a byte that it has not
    """
    if not groups:
        raise ValueError("groups: expected at least one, got none")
    for name, weights in groups.items():
        if len(weights) % 2 or not 0 < len(weights) <= MOST_WEIGHTS:
            raise ValueError(
                f"groups: expected an even number of weights up to {MOST_WEIGHTS}, "
                f"got {len(weights)} in {name!r}"
            )
        if not all(math.isfinite(float(w)) for w in weights):
            raise ValueError(f"groups: expected finite weights, got others in {name!r}")
    group = next(iter(groups)) if group is None else group
    if group not in groups:
        raise ValueError(f"group: expected one of {', '.join(groups)}; got {group!r}")
    if not 0 <= byte < len(groups[group]) // 2:
        raise ValueError(f"byte: expected 0 to {len(groups[group]) // 2 - 1}, got {byte}")
    chosen = pack(groups[group], symmetric=symmetric)
    data = {
        "groups": [
            {"name": name, "weights": [round(float(w), DIGITS) for w in weights]}
            for name, weights in groups.items()
        ],
        "start": {"group": group, "byte": byte, "symmetric": symmetric},
    }
    alt = alt or sentence(chosen, byte)
    header = ["weight", "value", "nibble", "bits", "byte", "comes back", "error"]
    twin = f'{_picture(chosen, byte, alt)}<p aria-hidden="true">{escape(alt)}</p>'
    table = header, [_row(chosen, i) for i in range(len(chosen.weights))]
    return show("int4_packing", data, alt=alt, static=twin, table=table)


def sentence(group: Packed, byte: int) -> str:
    """What the figure shows, in words; the script says the same."""
    n, value = len(group.weights), group.packed[byte]
    worst = max(abs(weight - back) for weight, back in zip(group.weights, group.back, strict=True))
    ends = f"{fixed(min(group.weights), 4)} to {fixed(max(group.weights), 4)}"
    said = [f"{n} weights from {ends}: scale {fixed(group.scale, 5)}, zero {fixed(group.zero, 5)}."]
    said += [
        f"Weight {i}, {fixed(group.weights[i], 4)}, is nibble {group.nibbles[i]}, "
        f"{group.nibbles[i]:04b}, and comes back as {fixed(group.back[i], 5)}."
        for i in (2 * byte, 2 * byte + 1)
    ]
    said += [
        f"Byte {byte} is {value >> 4:04b} {value & 15:04b}, in hexadecimal {value:02X}:",
        f"weight {2 * byte + 1} in the high half, weight {2 * byte} in the low.",
        f"The largest error in the group is {fixed(worst, 5)}; half a step is {fixed(group.scale / 2, 5)}.",
        f"{n // 2} bytes of nibbles and 4 of scale and zero make",
        f"{fixed(group.bits_per_weight, 1)} bits per weight.",
    ]
    return " ".join(said)


def fixed(value: float | int, digits: int) -> str:
    """So many decimal places; halves go up, as in the script.

    >>> fixed(-0.03125, 4), fixed(-0.00001, 4)
    ('−0.0312', '0.0000')
    """
    whole = math.floor(value * 10**digits + 0.5)
    return f"{'−' if whole < 0 else ''}{abs(whole) / 10**digits:.{digits}f}"


def _row(group: Packed, i: int) -> list[str]:
    weight, back, nibble = group.weights[i], group.back[i], group.nibbles[i]
    half = "high half" if i % 2 else "low half"
    shown = [str(i), fixed(weight, 4), str(nibble), f"{nibble:04b}", f"{i // 2}, {half}"]
    return [*shown, fixed(back, 5), fixed(back - weight, 5)]


def _picture(group: Packed, byte: int, alt: str) -> str:
    """The weights over the sixteen values of the group as an SVG element; the chosen byte's two stand out."""
    n = len(group.weights)
    values = [(code - 8) * group.scale + group.zero for code in range(16)]
    low = min(*values, *group.weights)
    high = max(*values, *group.weights)

    def y(value: float) -> str:
        return f"{206 - 192 * (value - low) / (high - low):.1f}"

    def x(i: int) -> float:
        return 30 + 440 * (i + 0.5) / n

    drawn = [
        f'<line class="value" x1="30" x2="470" y1="{y(v)}" y2="{y(v)}"/>'
        f'<text x="24" y="{y(v)}" dy="3">{code}</text>'
        for code, v in enumerate(values)
    ]
    for i, (weight, back) in enumerate(zip(group.weights, group.back, strict=True)):
        kind = "chosen" if i // 2 == byte else "other"
        drawn.append(
            f'<line class="{kind}" x1="{x(i):.1f}" x2="{x(i):.1f}" y1="{y(weight)}" y2="{y(back)}"/>'
        )
        drawn.append(
            f'<circle class="{kind}" cx="{x(i):.1f}" cy="{y(weight)}" r="{4 if i // 2 == byte else 3}"/>'
        )
    return (
        f'<svg class="tk-ip-plot" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 480 220" width="480">{"".join(drawn)}</svg>'
    )


def _bits(x: np.float32) -> int:
    return int(np.array([x], np.float32).view(np.uint32)[0])


def _from_bits(bits: int) -> np.float32:
    return np.float32(np.array([bits], np.uint32).view(np.float32)[0])


def _bfloat16(x: np.float32) -> np.float32:
    """The nearest number whose lower sixteen bits are 0; of two equally near, the even one."""
    bits = _bits(x)
    return _from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000)


def _neighbour(x: np.float32, away: int) -> np.float32:
    """The next bfloat16 further from 0 (away = 1) or nearer to it (-1)."""
    return _from_bits(_bits(x) + away * 0x10000)
