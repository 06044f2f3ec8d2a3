"""The picture on the first page: what one token of a large model takes, and what it waits for.

Times are computed from the model's shape and the device's data sheet by the package; the measured rate is
cited on the page. Bars are boxes, not a picture, so that they can be read at any width, and read out.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from teachkit import cost, hardware
from teachkit.estimate import shape

MODEL, DEVICE, BITS = "llama-2-7b", "a100-80gb", 16
NAMES = "Llama 2 7B", "A100"


def times_ms(tokens_per_s: float) -> dict[str, float]:
    """One token, alone: its arithmetic, the reading of the weights, and what was measured; in milliseconds.

    >>> {name: round(value, 2) for name, value in times_ms(104.9).items()}
    {'arithmetic': 0.04, 'reading the weights': 6.61, 'measured': 9.53}
    """
    n = sum(cost.parameters(shape(MODEL).config).values())
    device = hardware.device(DEVICE)
    return {
        "arithmetic": 2 * n / device.flops["fp16"] * 1e3,
        "reading the weights": n * BITS / 8 / device.bytes_per_s * 1e3,
        "measured": 1e3 / tokens_per_s,
    }


def said(milliseconds: float) -> str:
    return f"{milliseconds:.2g} ms"


def in_words(title: str, tokens_per_s: float | None) -> str:
    """The words of the card, whose picture (tools/card.py) is this figure under the book's title.

    >>> print(in_words("A Book", 104.9).replace(": ", ":\\n"))
    A Book. One token of Llama 2 7B on an A100:
    arithmetic 0.043 ms, reading the weights 6.6 ms, measured 9.5 ms.
    >>> in_words("A Book", None)
    'A Book.'
    """
    if tokens_per_s is None:
        return f"{title}."
    parts = ", ".join(f"{name} {said(value)}" for name, value in times_ms(tokens_per_s).items())
    model, device = NAMES
    return f"{title}. One token of {model} on an {device}: {parts}."


def rate(env: BuildEnvironment) -> float | None:
    """The measured rate that the figure was given, on whichever page it stands."""
    given = (about["one_token"] for about in env.metadata.values() if "one_token" in about)
    return next(map(float, given), None)


def bars(times: dict[str, float]) -> str:
    longest = max(times.values())
    rows = "".join(
        f'<li><span class="what">{escape(name)}</span><span class="bar" aria-hidden="true">'
        f'<b style="width:{value / longest * 100:.2f}%"></b></span> '
        f'<span class="time">{said(value)}</span></li>'
        for name, value in times.items()
    )
    model, device = NAMES
    return (
        f'<figure class="one-token"><figcaption>One token of {model} on an {device}</figcaption>'
        f'<ul aria-label="Milliseconds for one token">{rows}</ul></figure>'
    )


class OneToken(SphinxDirective):
    """`{one-token} 104.9`: the argument is the measured rate, in tokens per second."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["one_token"] = self.arguments[0]
        return [nodes.raw("", bars(times_ms(float(self.arguments[0]))), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("one-token", OneToken)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
