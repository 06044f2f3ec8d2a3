"""Logit lens figure: it says what the probabilities say; the keyboard is enough; the twin shows the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from teachkit import figures

# The fixtures are used by their names.
from test_figures import BREAKOUT, Elements, browser, data_of, open_page  # noqa: F401

TOKENS = ["<start>", "def", " f", BREAKOUT, "):"]
READINGS, RANKS = 3, 4
LABELS = ["embedding", "layer 0", "layer 1"]


def readings(seed: int = 0) -> tuple[list[list[list[str]]], np.ndarray]:
    """Pieces and falling probabilities; in the last two readings, " f" is followed by the right token."""
    generator = np.random.default_rng(seed)
    probs = -np.sort(-generator.dirichlet(np.ones(RANKS + 1), size=(READINGS, len(TOKENS))))[..., :RANKS]
    pieces = [[[f"{r}.{i}.{k}" for k in range(RANKS)] for i in range(len(TOKENS))] for r in range(READINGS)]
    for r in (1, 2):
        pieces[r][2][0] = BREAKOUT
    return pieces, probs


def percent(probability: float) -> int:
    return int(np.floor(probability * 100 + 0.5))


def expected(reading: int, token: int) -> str:
    """What a screen reader hears of a chosen cell, worked out from the probabilities."""
    pieces, probs = readings()
    where = "the embedding, before any layer" if reading == 0 else f"after {LABELS[reading]}"
    likeliest = [
        f"‘{figures.visible(piece)}’ {percent(p)}\u00a0%"
        for piece, p in zip(pieces[reading][token], probs[reading, token], strict=True)
    ]
    names = [figures.visible(t) for t in TOKENS]
    rest = f"In the text comes ‘{names[token + 1]}’." if token + 1 < len(names) else "Here the text ends."
    return f"Token {token}, ‘{names[token]}’, {where}: {', '.join(likeliest)}. {rest}"


FIGURE = figures.logit_lens(TOKENS, *readings(), reading=1, token=2)


def test_data_are_what_was_given() -> None:
    pieces, probs = readings()
    data = data_of(FIGURE)
    assert data["labels"] == LABELS
    assert data["start"] == {"reading": 1, "token": 2}
    assert data["pieces"] == [[[figures.visible(p) for p in cell] for cell in row] for row in pieces]
    np.testing.assert_allclose(np.array(data["percents"]) / 100, probs, atol=0.005 + 1e-9)


def test_it_opens_at_the_last_cell_and_says_what_it_shows() -> None:
    pieces, probs = [[["a", "b"]], [["c", "d"]]], [[[1.0, 0.0]], [[0.614, 0.2]]]
    figure = figures.logit_lens(["\n"], pieces, probs)
    assert data_of(figure)["start"] == {"reading": 1, "token": 0}
    assert figure.alt == (
        "The likeliest next token after token 0, ‘⏎’, read after each layer: "
        "embedding ‘a’ 100\u00a0%, layer 0 ‘c’ 61\u00a0%."
    )
    cells = [text.strip() for _, text in Elements(figure.html).all("td")]
    assert cells == ["0", "⏎", "‘a’ 100\u00a0%", "‘c’ 61\u00a0%"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_will_do(dtype: torch.dtype) -> None:
    pieces, probs = readings()
    data = data_of(figures.logit_lens(TOKENS, pieces, torch.tensor(probs, requires_grad=True).to(dtype)))
    np.testing.assert_allclose(np.array(data["percents"]) / 100, probs, atol=0.01)


def test_the_twin_marks_what_came_next() -> None:
    html = FIGURE.html
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    name = "{http://www.w3.org/2000/svg}"
    assert len(list(svg.iter(f"{name}rect"))) == READINGS * len(TOKENS)
    marked = [text.text for text in svg.iter(f"{name}text") if (text.text or "").startswith("✓")]
    assert len(marked) == 2
    assert all(re.fullmatch(r"✓ \S{8}…", text or "") for text in marked)
    heads = [text.text for text in svg.iter(f"{name}text") if text.get("y") == "-7"]
    assert heads == LABELS


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 5), (0, 5, 4), (3, 5, 0)])
def test_probabilities_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"probs: expected \(L \+ 1, 5, K\).* got " + re.escape(str(shape))):
        figures.logit_lens(TOKENS, readings()[0], np.zeros(shape))


def test_pieces_of_the_wrong_shape() -> None:
    pieces, probs = readings()
    for wrong in (pieces[:2], [row[:4] for row in pieces], [[cell[:3] for cell in row] for row in pieces]):
        with pytest.raises(ValueError, match="pieces: expected 3 × 5 × 4 as in probs, got lengths"):
            figures.logit_lens(TOKENS, wrong, probs)


@pytest.mark.parametrize(
    "spoil", [lambda p: p * 2, lambda p: p - 0.5, lambda p: p * np.nan, lambda p: p[..., ::-1]]
)
def test_numbers_that_are_no_falling_probabilities(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    pieces, probs = readings()
    with pytest.raises(ValueError, match="expected probabilities, the largest first"):
        figures.logit_lens(TOKENS, pieces, spoil(probs))


@pytest.mark.parametrize("start", [{"reading": 3}, {"token": 5}, {"reading": -1}])
def test_start_out_of_range(start: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(start))}: expected 0 to"):
        figures.logit_lens(TOKENS, *readings(), **start)


@pytest.mark.browser
class TestInABrowser:
    def test_every_cell_by_keyboard(self, open_page: Callable[..., Any]) -> None:  # noqa: F811
        page = open_page(FIGURE.page())
        live = page.locator("[aria-live=polite]")
        assert live.text_content() == "", "nothing is read out before a choice"
        page.keyboard.press("Tab")  # one stop for all cells: the chosen one
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert page.evaluate("document.activeElement.ariaLabel").startswith(
            "layer 0, token 2, ‘␣f’: ‘</script>"
        )
        assert page.evaluate("document.activeElement.ariaLabel").endswith(", which came next")
        reading, token = 1, 2
        for key, change in [
            ("ArrowRight", (1, 0)),
            ("ArrowUp", (0, -1)),
            ("ArrowUp", (0, -1)),
            ("Home", (-2, 0)),
            ("ArrowDown", (0, 1)),
            ("End", (2, 0)),
            ("ArrowDown", (0, 1)),
            ("ArrowDown", (0, 1)),
            ("ArrowDown", (0, 1)),
        ]:
            page.keyboard.press(key)
            reading, token = reading + change[0], token + change[1]
            assert live.text_content() == expected(reading, token)
        for key in ("ArrowRight", "ArrowDown"):  # the end: nothing moves
            page.keyboard.press(key)
            assert live.text_content() == expected(2, 4)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"

    def test_every_cell_by_click(self, open_page: Callable[..., Any]) -> None:  # noqa: F811
        page = open_page(FIGURE.page())
        buttons = page.locator(".tk-ll-grid button").all()
        assert len(buttons) == READINGS * len(TOKENS)
        for i, button in enumerate(buttons):
            button.click()
            assert page.locator("[aria-live]").text_content() == expected(i % READINGS, i // READINGS)
        assert page.evaluate("window.broken") is None
        assert page.locator(".tk-ll-grid button:has(i)").count() == 2

    def test_bars_are_as_long_as_their_probabilities(self, open_page: Callable[..., Any]) -> None:  # noqa: F811
        page = open_page(FIGURE.page())
        wide = page.locator(".tk-ll-bar").first.bounding_box()["width"]
        drawn = [bar.bounding_box()["width"] / wide for bar in page.locator(".tk-ll-bar i").all()]
        np.testing.assert_allclose(drawn, readings()[1][1, 2], atol=0.006)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page: Callable[..., Any], scheme: str) -> None:  # noqa: F811
        page = open_page(FIGURE.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"
        ground = page.evaluate("getComputedStyle(document.querySelector('.tk-ll-chosen')).backgroundColor")
        assert ground == f"rgb{tuple(bytes.fromhex(figures.PALETTE[scheme]['background'][1:]))}"

    def test_without_scripts_and_in_print_the_twin_stands_in(
        self,
        open_page: Callable[..., Any],  # noqa: F811
    ) -> None:
        page = open_page(FIGURE.page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(FIGURE.page())
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
