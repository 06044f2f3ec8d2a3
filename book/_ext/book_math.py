"""Formulas as MathML, made when the book is built.

Browsers set MathML themselves, with the book's own font: no script, nothing moves while a page loads, and a
screen reader is given the formula, not a picture of it. A command that the converter does not know fails
the build.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)
LONG = 30  # characters of TeX


@cache
def mathml(tex: str, *, block: bool = False) -> str:
    r"""A formula in TeX's notation as a <math> element.

    >>> mathml(r"\sqrt{D}")
    '<math display="inline"><mrow><msqrt><mrow><mi>D</mi></mrow></msqrt></mrow></math>'
    >>> mathml(r"\nonsense{x}")
    Traceback (most recent call last):
        ...
    ValueError: not known in a formula: \nonsense
    """
    made: str = convert(tex.strip(), display="block" if block else "inline")
    unknown = re.findall(r"\\[a-zA-Z]+", re.sub(r"<mtext>.*?</mtext>", "", made))
    if unknown:
        raise ValueError(f"not known in a formula: {', '.join(sorted(set(unknown)))}")
    return made.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def _made(self: Any, node: nodes.Element, *, block: bool) -> str:
    try:
        return mathml(node.astext(), block=block)
    except Exception as error:  # the converter's own have no common class
        log.warning("formula %r: %s", node.astext(), error, location=node)
        return ""


def inline(self: Any, node: nodes.Element) -> None:
    """Browsers do not break a formula within a line; one that may be wider than a phone scrolls by itself."""
    made = _made(self, node, block=False)
    if len(node.astext()) > LONG:
        made = f'<span class="formula-in-line">{made}</span>'
    self.body.append(made)
    raise nodes.SkipNode


def block(self: Any, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "div", "", CLASS="formula"))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})</span>')
    self.body.append(_made(self, node, block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
