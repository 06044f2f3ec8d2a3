"""A generation step by step: the counters against PyTorch's, the script against its Python face."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import test_figures
from conftest import random_tokens, tiny_config, tiny_model
from teachkit import figures
from teachkit.cache import ContiguousCache
from test_figures import Elements, data_of

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

TOKENS = ["def", " f", "(", "x", "):", "\n   ", " return", "</script>", "$x$"]
SHAPE = figures.DecodeShape(
    n_layers=3, n_heads=5, n_kv_heads=1, head_dim=7, matrix_params=1_009, head_params=311, itemsize=2
)
N_PROMPT, LAST = 4, 4
SVG = "{http://www.w3.org/2000/svg}"


def figure(**options):
    return figures.decode_steps(TOKENS, N_PROMPT, SHAPE, **options)


def shape_of(model, itemsize):
    config = model.config
    return figures.DecodeShape(
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        matrix_params=sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2),
        head_params=config.vocab_size * config.d_model,
        itemsize=itemsize,
    )


@pytest.mark.parametrize(("n_new", "n_seen"), [(1, 1), (11, 11), (1, 11), (3, 11)])
def test_flops_are_those_that_pytorch_counts(n_new, n_seen):
    model = tiny_model(tiny_config())
    cache, tokens = ContiguousCache(model.config, 1, n_seen), random_tokens(1, n_seen)
    with torch.inference_mode():
        if n_seen > n_new:
            model(tokens[:, : n_seen - n_new], cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens[:, n_seen - n_new :], cache=cache, last_only=True)
    assert shape_of(model, 4).flops(n_new, n_seen) == counter.get_total_flops()


def test_bytes_kept_are_those_of_a_cache():
    model = tiny_model(tiny_config())
    cache = ContiguousCache(model.config, 1, 13, dtype=torch.bfloat16)
    assert shape_of(model, cache.k.itemsize).kept_bytes(13) == cache.nbytes


def test_by_hand():
    assert SHAPE.flops(2, 6) == 2 * 2 * 1_009 + 2 * 311 + 4 * 3 * 5 * 7 * 2 * 6
    assert SHAPE.kept_bytes(6) == 2 * 3 * 1 * 7 * 2 * 6


def test_says_in_words_and_in_a_table_what_it_shows():
    shown = figure(step=2)
    assert shown.alt == (
        "Step 2 writes ‘␣return’. Without a cache, 6 tokens go through the model, "
        f"{SHAPE.flops(6, 6):,} FLOPs; with one, 1 token, {SHAPE.flops(1, 6):,} FLOPs."
    )
    cells = [text for _, text in Elements(shown.html).all("td")]
    assert len(cells) == 7 * (LAST + 1)
    assert cells[:3] == ["0", "):", "4"]
    work = [f"{SHAPE.flops(new, 6):,}" for new in (6, 1)]
    assert cells[14:21] == ["2", "␣return", "6", work[0], "1", work[1], f"{SHAPE.kept_bytes(6):,}"]


def area(d):
    """Cells of a path of rectangles that are one cell high."""
    return sum(int(width) for width in re.findall(r"h(\d+)v1", d))


def test_twin_draws_every_pair_once():
    html = figure(step=2).html
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    recompute, cache = (
        {p.get("class"): area(p.get("d")) for p in group.iter(f"{SVG}path") if p.get("d")[:2] == "M0"}
        for group in svg.findall(f"{SVG}g")
    )
    assert recompute == {"new": 6 * 7 // 2}
    assert cache == {"old": 5 * 6 // 2, "new": 6}
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts[:3] == ["Without a cache", "With a cache", "computed in this step"]
    assert len(texts) == 6
    assert svg.get("aria-label") == figure(step=2).alt


def test_tokens_are_text_in_the_data():
    assert data_of(figure())["tokens"][-2:] == ["</script>", "$x$"]


@pytest.mark.parametrize(
    ("tokens", "n_prompt"), [(TOKENS, 0), (TOKENS, 8), (TOKENS, 9), (["x"] * 41, 4), ([], 0)]
)
def test_a_prompt_and_two_steps_are_needed(tokens, n_prompt):
    with pytest.raises(ValueError, match=f"at most 40 in all; got {len(tokens)} and {n_prompt}"):
        figures.decode_steps(tokens, n_prompt, SHAPE)


@pytest.mark.parametrize("step", [-1, 5])
def test_a_step_that_does_not_exist(step):
    with pytest.raises(ValueError, match=f"step: expected 0 to 4, got {step}"):
        figure(step=step)


# -------------------------------------------------------------------------------- in a browser


def counts(step):
    """The table that the figure must show, worked out here from the shape alone."""
    seen = N_PROMPT + step
    new = [seen, seen if step == 0 else 1]
    so_far = [
        sum(SHAPE.flops(N_PROMPT + s, N_PROMPT + s) for s in range(step + 1)),
        sum(SHAPE.flops(1 if s else N_PROMPT, N_PROMPT + s) for s in range(step + 1)),
    ]
    rows = [
        new,
        [n * seen for n in new],
        [SHAPE.flops(n, seen) for n in new],
        so_far,
        [0, SHAPE.kept_bytes(seen)],
    ]
    return [f"{value:,}" for row in rows for value in row]


def shown(page):
    return page.locator(".tk-ds tbody td").all_text_contents()


@pytest.mark.browser
class TestInABrowser:
    def test_the_keyboard_walks_through_every_step(self, open_page):
        page = open_page(figure(step=1).page())
        assert shown(page) == counts(1)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert shown(page) == counts(0)
        page.keyboard.press("Enter")  # there is nothing before it, and the focus stays
        assert shown(page) == counts(0)
        assert page.evaluate("document.activeElement.ariaDisabled") == "true"
        page.keyboard.press("Tab")
        for step in (1, 2, 3, 4, 4):
            page.keyboard.press("Space")
            assert shown(page) == counts(step)
        page.keyboard.press("Tab")
        for key, step in [("ArrowLeft", 3), ("Home", 0), ("End", 4)]:
            page.keyboard.press(key)
            assert shown(page) == counts(step)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    def test_it_says_what_is_read_and_written(self, open_page):
        page = open_page(figure().page())
        says = page.locator("[aria-live=polite]")
        assert says.text_content() == (
            "Step 0 reads the prompt, 4\u00a0tokens, and writes ‘):’. Both sides do the same work."
        )
        page.get_by_role("button", name="Next").click()
        ratio = SHAPE.flops(5, 5) / SHAPE.flops(1, 5)
        assert says.text_content() == (
            "Step 1 reads ‘):’ and writes ‘⏎␣␣␣’. Without a cache, 5\u00a0tokens go through the model; "
            f"with one, 1\u00a0token: {ratio:.1f} times fewer FLOPs."
        )
        assert page.locator(".tk-ds-text .read").all_text_contents() == ["):"]
        assert page.locator(".tk-ds-text .written").all_text_contents() == ["⏎␣␣␣"]
        assert page.locator(".tk-ds-text .later").count() == 3

    def test_the_picture_has_as_many_cells_as_the_table_counts(self, open_page):
        page = open_page(figure(step=3).page())
        paths = "[...e.querySelectorAll('path')].map(p => [p.getAttribute('class'), p.getAttribute('d')])"
        sides = page.locator(".tk-ds-side svg").evaluate_all(f"all => all.map(e => {paths})")
        pairs = [[(kind, area(d)) for kind, d in side if "v1h" in d] for side in sides]
        assert pairs == [[("masked", 21), ("new", 28)], [("old", 21), ("new", 7)]]

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(figure().page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, input, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(figure().page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(figure().page())
        assert not page.locator(".tk-static svg").is_visible()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
