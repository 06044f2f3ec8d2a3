"""The figure says what teachkit.sampling computes: in Python, in its twin and table, and in a browser."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import teachkit as tk
import test_figures
from teachkit import figures
from teachkit.figures.next_token import TOP_K, distribution
from test_figures import BREAKOUT, Elements, data_of

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

V = 47
NAMES = ["", " ", "\n", BREAKOUT, *(f"t{i}" for i in range(4, V))]
PROMPTS = ["for i in ", "class A:\n    x = ", BREAKOUT]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.35},
    {"temperature": 2.0, "top_k": 5},
    {"top_p": 0.6},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.85},
    {"top_k": 1},
    {"top_p": 1.0},
    {"temperature": 0.05, "top_k": 1000, "top_p": 0.05},
]


def logits(seed: int = 0, n: int = len(PROMPTS)) -> torch.Tensor:
    """Random logits on a grid of halves: many are equal, and all are exact in what is sent."""
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(n, V, generator=generator)).round() / 2


def figure(**options: Any) -> figures.Figure:
    return figures.next_token(PROMPTS, logits(), NAMES, **{"shown": 12, **options})


def ranked(row: int, **settings: Any) -> tuple[list[str], torch.Tensor]:
    """Names and probabilities by rank, from teachkit.sampling."""
    order = logits()[row].argsort(descending=True, stable=True)
    return [NAMES[i] for i in order], tk.sampling.probabilities(logits()[row], **settings)[order]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_distribution_is_that_of_sampling(settings: dict[str, Any]) -> None:
    for row in range(len(PROMPTS)):
        _, expected = ranked(row, **settings)
        gaps = np.sort(logits()[row].double().numpy())[::-1]
        found = distribution(gaps[0] - gaps, **settings)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.count_nonzero(found) == np.count_nonzero(expected)


def test_data_hold_every_logit_and_the_names_that_are_shown() -> None:
    data = data_of(figure(prompt=1, top_k=5, temperature=0.5))
    assert data["start"] == {"prompt": 1, "temperature": 0.5, "top_k": 5, "top_p": None}
    assert data["prompts"] == PROMPTS
    assert data["vocabulary"] == V
    for row, (packed, shown) in enumerate(zip(data["gaps"], data["tokens"], strict=True)):
        gaps = np.frombuffer(base64.b64decode(packed), "<u2") / 1000
        values = logits()[row].sort(descending=True).values
        np.testing.assert_allclose(gaps, values[0] - values, atol=5e-4)
        assert shown == [figures.visible(name) for name in ranked(row)[0][:12]]


def test_gaps_too_large_to_send_are_cut() -> None:
    found = figures.next_token(["a"], [[100.0, 0.0]], ["x", "y"], shown=2)
    assert list(np.frombuffer(base64.b64decode(data_of(found)["gaps"][0]), "<u2")) == [0, 65535]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_table_and_twin_show_the_settings(settings: dict[str, Any]) -> None:
    made = figure(prompt=2, **settings)
    cells = [text.strip("\n") for _, text in Elements(made.html).all("td")]
    names, now = ranked(2, **settings)
    given = ranked(2)[1]
    for i in range(12):
        assert cells[4 * i : 4 * i + 2] == [str(i + 1), figures.visible(names[i])]
        assert cells[4 * i + 2] == printed(given[i])
        assert cells[4 * i + 3] == (printed(now[i]) if now[i] else "removed")
    rest = now[12:].sum()
    assert cells[48:] == [
        "",
        f"{V - 12} others",
        printed(given[12:].sum()),
        printed(rest) if rest else "removed",
    ]

    svg = ElementTree.fromstring(made.html[made.html.index("<svg") : made.html.index("</svg>") + 6])
    widths = np.array([float(str(rect.get("width"))) for rect in svg.iter("rect")])
    np.testing.assert_allclose(
        widths / widths.max(), [*(now[:12] / max(now.max(), rest)), rest / max(now.max(), rest)], atol=2e-3
    )


def printed(p: Any) -> str:
    p = float(p)
    if p == 0:
        return "0\u00a0%"
    return "<\u00a00.1\u00a0%" if p < 0.0005 else f"{math.floor(p * 1000 + 0.5) / 10:.1f}\u00a0%"


def test_alt_names_prompt_settings_and_tokens() -> None:
    made = figures.next_token(["x = "], [[0.0, math.log(3)]], ["a", "b "], temperature=1.0, shown=2)
    assert made.alt == (
        "What may follow ‘x␣=␣’, at temperature 1: ‘b␣’ 75.0\u00a0%, ‘a’ 25.0\u00a0%. "
        "2 of 2 tokens can be drawn."
    )
    long = figures.next_token(["y" * 100], [[0.0]], ["a"], shown=1, temperature=0.8, top_k=2, top_p=0.9)
    assert f"‘…{'y' * 39}’, at temperature 0.8, top-k 2, top-p 0.9" in long.alt


def test_the_same_call_gives_the_same_output_and_bfloat16_will_do() -> None:
    assert figure().html == figure().html
    assert (
        figures.next_token(PROMPTS, logits().bfloat16(), NAMES).html
        == figures.next_token(PROMPTS, logits().numpy(), NAMES).html
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompts": ["a"]}, r"\(N, V\) = \(1, 47\).*got \(3, 47\)"),
        ({"prompts": []}, "a row per prompt"),
        ({"logits": torch.full((3, V), math.nan)}, "finite"),
        ({"prompt": 3}, "prompt: expected 0 to 2, got 3"),
        ({"temperature": 2.5}, "temperature: expected 0 to 2, got 2.5"),
        ({"temperature": -0.1}, "temperature: expected 0 to 2"),
        ({"top_k": 4}, "top_k: expected None or one of 1, 2, 3, 5.*got 4"),
        ({"top_p": 0.0}, "top_p: expected a number in"),
        ({"shown": 48}, "shown: expected 1 to 47, got 48"),
        ({"shown": 0}, "shown: expected 1 to 47, got 0"),
    ],
)
def test_errors(change: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"prompts": PROMPTS, "logits": logits(), "names": NAMES, **change}
    with pytest.raises(ValueError, match=complaint):
        figures.next_token(**given)


# -------------------------------------------------------------------------------- in a browser


def move(page: Any, name: str, value: float) -> None:
    """Set a slider as a reader's hand would: input while it moves, change when it rests."""
    page.get_by_label(name, exact=True).evaluate(
        "(box, value) => { box.value = value; box.dispatchEvent(new Event('input'));"
        " box.dispatchEvent(new Event('change')); }",
        str(value),
    )


def rows(page: Any) -> list[tuple[str, str]]:
    return [
        (row.locator("code").text_content(), row.locator("> span").last.text_content())
        for row in page.locator(".tk-nt li").all()
    ]


@pytest.mark.browser
class TestInABrowser:
    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_bars_say_what_sampling_says(
        self,
        open_page: Callable[..., Any],
        settings: dict[str, Any],
    ) -> None:
        page = open_page(figure().page())
        stops = [*TOP_K, None]
        move(page, "Temperature", settings.get("temperature", 1))
        move(page, "Top-k", stops.index(settings.get("top_k")))
        move(page, "Top-p", settings.get("top_p", 1))
        for row in range(len(PROMPTS)):
            page.get_by_role("combobox").select_option(str(row))
            names, now = ranked(row, **settings)
            found = rows(page)
            rest = now[12:].sum()
            values = [*now[:12], rest]
            assert [name for name, _ in found] == [*map(figures.visible, names[:12]), f"{V - 12} others"]
            assert [text for _, text in found] == [printed(p) if p else "removed" for p in values]
            says = page.locator(".tk-nt-says").text_content()
            kept = int((now > 0).sum())
            assert (f"{kept} of {V} tokens can be drawn" if kept > 1 else "1 token can be drawn") in says
            bits = -sum(p * math.log2(p) for p in now.tolist() if p)
            assert abs(float(re.findall(r"Entropy ([\d.]+) bits", says)[0]) - bits) < 0.06
            assert page.locator("[aria-live]").text_content() == says

    def test_opens_at_the_settings_given(self, open_page: Callable[..., Any]) -> None:
        page = open_page(figure(prompt=1, temperature=0.8, top_k=20, top_p=0.9).page())
        assert page.locator("output").all_text_contents() == ["0.8", "20", "0.9"]
        assert page.locator(".tk-nt pre").text_content() == PROMPTS[1]
        assert (
            page.locator(".tk-nt-says").text_content().startswith("At temperature 0.8, top-k 20, top-p 0.9, ")
        )
        page.get_by_role("button").click()
        assert page.locator("output").all_text_contents() == ["1", "off", "off"]
        assert page.locator(".tk-nt-says").text_content().startswith("At temperature 1, 47 of 47 tokens")

    def test_one_prompt_needs_no_menu(self, open_page: Callable[..., Any]) -> None:
        page = open_page(figures.next_token(["x = "], logits(n=1), NAMES).page())
        assert page.get_by_role("combobox").count() == 0
        assert page.locator(".tk-nt pre").text_content() == "x = "

    def test_the_keyboard_is_enough(self, open_page: Callable[..., Any]) -> None:
        page = open_page(figure().page())
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        assert page.locator(".tk-nt pre").text_content() == PROMPTS[1]
        page.get_by_label("Temperature", exact=True).focus()
        page.keyboard.press("Home")
        assert page.locator("output").first.text_content() == "0, greedy"
        assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "0, greedy"
        assert "1 token can be drawn" in page.locator("[aria-live]").text_content()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowLeft")
        assert page.locator("output").nth(1).text_content() == "1000"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page: Callable[..., Any], scheme: str) -> None:
        page = open_page(figure(prompt=2).page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, summary, input')]"
            ".map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(
        self,
        open_page: Callable[..., Any],
    ) -> None:
        page = open_page(figure().page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(figure().page())
        assert not page.locator(".tk-static svg").is_visible()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert page.evaluate("window.broken") is None

    def test_two_figures_share_a_page(self, open_page: Callable[..., Any]) -> None:
        page = open_page(f"<!doctype html><body>{figure().html}{figure(prompt=1).html}")
        for i in (0, 1):
            host = page.locator(".tk-nt").nth(i)
            assert host.locator("pre").text_content() == PROMPTS[i]
            host.get_by_label("Temperature").focus()
            page.keyboard.press("Home")
            changed = [
                text.startswith("At temperature 0,")
                for text in page.locator(".tk-nt-says").all_text_contents()
            ]
            assert changed == [True, i == 1]
