"""Figures: what is inlined is safe and stable; pictures have words; the explorer says what the data say."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from teachkit import figures

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "teachkit" / "figures"
BREAKOUT = "</script><script>window.broken = 1</script><!-- <script> \u2028 & $x$"


class Elements(HTMLParser):
    """Every element as (tag, attributes, text); the parser's idea of where a script ends is a browser's."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [(a, text) for t, a, text in self.found if t == tag and wanted.items() <= a.items()]


def data_of(figure: figures.Figure) -> Any:
    ((_, text),) = Elements(figure.html).all("script", type="application/json")
    return json.loads(text)


def maps(n_layers: int = 3, n_heads: int = 2, n_tokens: int = 7, seed: int = 0) -> np.ndarray:
    """Causal attention weights (L, H, S, S) from random scores."""
    scores = np.random.default_rng(seed).normal(scale=2, size=(n_layers, n_heads, n_tokens, n_tokens))
    weights = np.tril(np.exp(scores))
    return weights / weights.sum(-1, keepdims=True)


TOKENS = ["def", " f", "(", "x", "):", "\n   ", BREAKOUT]


# -------------------------------------------------------------------------------- what is inlined


def test_data_come_back_as_they_went_in() -> None:
    data = {"text": BREAKOUT, "list": [1, 2.5, None, True], "nested": {"é": "←"}}
    assert data_of(figures.show("attention_explorer", data, alt="x")) == data


def test_data_cannot_leave_their_script_element() -> None:
    figure = figures.show(
        "attention_explorer", {"text": BREAKOUT}, alt=BREAKOUT, table=([BREAKOUT], [[BREAKOUT]])
    )
    scripts = Elements(figure.html).all("script")
    assert [a.get("type") for a, _ in scripts] == ["application/json", None, None]
    assert not any("window.broken = 1" in text for a, text in scripts if a.get("type") is None)


def test_numpy_values_are_plain_and_rounded() -> None:
    data = {"a": np.float32(1 / 3), "b": np.arange(3), "c": np.array([[-0.00001]]), "d": np.int64(2)}
    figure = figures.show("attention_explorer", data, alt="x")
    assert data_of(figure) == {"a": 0.3333, "b": [0, 1, 2], "c": [[0.0]], "d": 2}
    assert "-0.0" not in figure.html.split("application/json")[1].split("</script>")[0]


def test_the_same_call_gives_the_same_output_and_another_a_new_key() -> None:
    first, again = (figures.attention_explorer(TOKENS, maps()) for _ in range(2))
    other = figures.attention_explorer(TOKENS, maps(seed=1))
    key = re.compile(r'data-tk-figure="([\w-]+)"')
    assert first.html == again.html
    assert key.findall(first.html) != key.findall(other.html)


def test_noise_of_another_cpu_does_not_show() -> None:
    """Weights are multiples of 1/255, so a change in the last bits stays far from where rounding turns."""
    levels = np.eye(5)[None, None]
    tokens = list("abcde")
    assert (
        figures.attention_explorer(tokens, levels).html
        == figures.attention_explorer(tokens, (levels + 1e-7) / (1 + 5e-7)).html
    )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda p: p.stem)
def test_scripts_are_classic_and_ask_for_nothing(path: Path) -> None:
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", ""))
    for word in (
        "fetch",
        "import",
        "export",
        "XMLHttpRequest",
        "WebSocket",
        "http:",
        "https:",
        "innerHTML",
        "eval",
    ):
        assert not re.search(rf"\b{word}", code), f"{path.name} contains {word}"
    name = "teachkitParts = { element, sentence }"  # of figure.js, which stands before each of the others
    assert (
        f"window.{name if path.stem == 'figure' else f'teachkitFigures.{path.stem} = {{ render }}'}" in code
    )
    assert "</" not in code, "would end the element that the script stands in"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.css")), ids=lambda p: p.stem)
def test_style_sheets_ask_for_nothing_and_touch_only_figures(path: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "url(" not in text
    assert "@import" not in text
    for selector in re.findall(r"(?:^|[};{])\s*([^{};@]+)\{", text):
        assert all(".tk-" in part for part in re.split(r",(?![^(]*\))", selector)), selector


def test_figures_do_not_import_matplotlib_until_they_plot() -> None:
    program = "import sys; from teachkit import figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ------------------------------------------------------------------------------ errors for callers


@pytest.mark.parametrize("alt", ["", "   "])
def test_a_picture_without_words_is_refused(alt: str) -> None:
    with pytest.raises(ValueError, match="alt must say"):
        figures.show("attention_explorer", {}, alt=alt)
    with pytest.raises(ValueError, match="alt must say"):
        figures.static(draw, alt=alt)


@pytest.mark.parametrize("name", ["nothing", "../html", "figure", ""])
def test_unknown_figure(name: str) -> None:
    with pytest.raises(ValueError, match="there are: attention_explorer"):
        figures.show(name, {}, alt="x")


def test_data_must_be_finite() -> None:
    with pytest.raises(ValueError, match="expected finite numbers, got nan"):
        figures.show("attention_explorer", {"a": [1.0, float("nan")]}, alt="x")


@pytest.mark.parametrize("shape", [(2, 7, 7), (3, 2, 7, 6), (3, 2, 6, 6), (0, 2, 7, 7)])
def test_attention_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"expected \(L, H, S, S\) with S = 7 tokens, got " + re.escape(str(shape))
    ):
        figures.attention_explorer(TOKENS, np.full(shape, 1 / 7))


@pytest.mark.parametrize("spoil", [lambda a: a * 2, lambda a: a - 0.2, lambda a: a * np.nan])
def test_attention_that_is_no_probability(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(ValueError, match="expected probabilities"):
        figures.attention_explorer(TOKENS, spoil(maps()))


@pytest.mark.parametrize("start", [{"layer": 3}, {"head": 2}, {"token": 7}, {"token": -1}])
def test_start_out_of_range(start: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(start))}: expected 0 to"):
        figures.attention_explorer(TOKENS, maps(), **start)


# -------------------------------------------------------------------------------- the explorer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_explorer_packs_the_weights(dtype: torch.dtype) -> None:
    weights = torch.tensor(maps()).to(dtype).requires_grad_()
    data = data_of(figures.attention_explorer(TOKENS, weights))
    packed = np.frombuffer(base64.b64decode(data["attention"]), np.uint8).reshape(3, 2, 7, 7)
    np.testing.assert_allclose(packed / 255, weights.detach().float().numpy(), atol=0.5 / 255 + 1e-6)
    assert (data["layers"], data["heads"], len(data["tokens"])) == (3, 2, 7)


def test_explorer_says_in_words_what_it_shows() -> None:
    weights = np.zeros((1, 1, 3, 3))
    weights[0, 0] = [[1, 0, 0], [0.25, 0.75, 0], [0.1, 0.3, 0.6]]
    figure = figures.attention_explorer(["a", " b", "\n"], weights)
    assert figure.alt == (
        "Attention of layer 0, head 0, over 3 tokens. "
        "Token 2, ‘⏎’, reads ‘⏎’ 60\u00a0%, ‘␣b’ 30\u00a0%, ‘a’ 10\u00a0%."
    )
    cells = [text for _, text in Elements(figure.html).all("td")]
    assert cells[3:6] == ["1", "␣b", "‘␣b’ 75\u00a0%, ‘a’ 25\u00a0%"]
    assert figure._repr_mimebundle_() == {"text/html": figure.html, "text/plain": figure.alt}


def test_explorer_twin_is_a_picture_of_the_chosen_head() -> None:
    weights = np.tile(np.eye(3), (1, 2, 1, 1))
    weights[0, 1] = [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    html = figures.attention_explorer(["a", "<b>", "c"], weights, head=1).html
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    name = "{http://www.w3.org/2000/svg}"
    assert [path.get("d") for path in svg.iter(f"{name}path")] == ["M0 0h1v1h-1zM1 1h1v1h-1zM1 2h1v1h-1z"]
    assert [text.text for text in svg.iter(f"{name}text")] == ["a", "<b>", "c"] * 2
    assert "head 1" in str(svg.get("aria-label"))


# -------------------------------------------------------------------------------- plots


def draw() -> Any:
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], color=figures.colours()["accent"])
    ax.set(xlabel="S (tokens)", title="A line")
    return fig


def pictures(figure: figures.Figure) -> dict[str, bytes]:
    prefix = "data:image/png;base64,"
    return {
        str(a["class"]): base64.b64decode(str(a["src"]).removeprefix(prefix))
        for a, _ in Elements(figure.html).all("img")
    }


def test_static_draws_once_for_light_and_once_for_dark() -> None:
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    first, again = (figures.static(draw, alt="A “line” & more.") for _ in range(2))
    assert first.html == again.html
    light, dark = (pictures(first)[f"only-{theme}"] for theme in ("light", "dark"))
    assert light[:4] == dark[:4] == b"\x89PNG"
    assert light != dark
    assert b"tEXt" not in light, "metadata would change with the version that wrote it"
    assert {a["alt"] for a, _ in Elements(first.html).all("img")} == {"A “line” & more."}
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_picture_has_the_colours_of_its_theme(theme: str) -> None:
    import io

    from matplotlib.image import imread

    pixels = (
        imread(io.BytesIO(pictures(figures.static(draw, alt="A line."))[f"only-{theme}"])) * 255
    ).round()
    opaque = {tuple(int(c) for c in rgba[:3]) for rgba in pixels.reshape(-1, 4) if rgba[3] == 255}
    assert pixels[0, 0, 3] == 0, "the page's own background shows through"
    for key in ("ink", "accent"):
        assert tuple(bytes.fromhex(figures.PALETTE[theme][key][1:])) in opaque


def test_a_long_title_is_not_cut_off() -> None:
    drawn = []

    def draw_long() -> Any:
        drawn.append(draw())
        drawn[-1].axes[0].set_title(
            "A title of many words that is far wider than the picture on which it stands, so it wraps"
        )
        return drawn[-1]

    figures.static(draw_long, alt="A line.")
    for figure in drawn:
        box = figure.get_tightbbox()
        assert box.x1 <= figure.get_figwidth()
        assert box.y1 <= figure.get_figheight()


def test_static_needs_a_matplotlib_figure() -> None:
    with pytest.raises(ValueError, match="must return a matplotlib Figure, got NoneType"):
        figures.static(lambda: None, alt="x")


def test_a_finished_matplotlib_figure_can_be_a_twin() -> None:
    import matplotlib.pyplot as plt

    with figures.style():
        fig = draw()
    html = figures.show("attention_explorer", {}, alt="A line.", static=fig).html
    plt.close(fig)
    assert Elements(html).all("img", alt="A line.", width="560")


def test_a_twin_may_be_words_alone() -> None:
    assert (
        "<p>Three &lt;words&gt; here</p>"
        in figures.show("attention_explorer", {}, alt="Three <words> here").html
    )


def test_style_of_an_unknown_theme() -> None:
    with pytest.raises(ValueError, match="'light' or 'dark', got 'sepia'"), figures.style("sepia"):
        pass


# -------------------------------------------------------------------------------- one palette


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_background(theme: str) -> None:
    colour = figures.PALETTE[theme]
    for ground in ("background", "surface"):
        assert all(contrast(colour[text], colour[ground]) >= 4.5 for text in ("ink", "muted", "accent"))
        assert all(contrast(colour[line], colour[ground]) >= 3 for line in ("second", "third", "fourth"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_book_and_the_figures_share_a_palette(theme: str) -> None:
    css = (ROOT / "book" / "_theme" / "memory_bound" / "static" / "book.css").read_text(encoding="utf-8")
    block = css[css.index(":root {" if theme == "light" else 'html[data-theme="dark"]') :]
    block = block[: block.index("}")]
    colour = figures.PALETTE[theme]
    for name in ("background", "surface", "ink", "muted", "rule", "accent", "second"):
        assert f"--{name}: {colour[name]};" in block
    for name in re.findall(r"--(?:code-\w+|error): (#\w+);", block):
        assert contrast(name, colour["surface"]) >= 4.5
        assert contrast(name, colour["background"]) >= 4.5


def test_every_reference_stands_under_one_heading() -> None:
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8").split("\n@")[1:]
    page = (ROOT / "book" / "references.md").read_text(encoding="utf-8")
    headings = re.findall(r':filter: keywords % "(\w+)"', page)
    keywords = [re.findall(r"keywords = \{([^}]*)\}", entry) for entry in entries]
    assert all(len(found) == 1 and found[0] in headings for found in keywords)
    assert {found[0] for found in keywords} == set(headings)


# -------------------------------------------------------------------------------- in a browser


def installed_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = installed_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome on the PATH: interactive figures not tested")
    api = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--disable-quic"]
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=options)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    contexts, problems = [], []

    def open_page(html: str, *, width: int = 900, scheme: str = "light", scripts: bool = True) -> Any:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: None if request.url == path.as_uri() else problems.append(request.url)
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == [], "script errors, or requests beyond the page itself"


TEN = ["import", " os", "\n", "def", " f", "(", "x", "):", BREAKOUT, "x"]
TEN_MAPS = maps(n_layers=3, n_heads=2, n_tokens=10)


def expected(layer: int, head: int, token: int) -> str:
    """What the figure must say, worked out from the weights and not from what was packed."""
    row = np.floor(np.rint(TEN_MAPS[layer, head, token] * 255) * 100 / 255 + 0.5).astype(int)
    names = [figures.visible(t) for t in TEN]
    order = sorted(range(10), key=lambda key: (-np.rint(TEN_MAPS[layer, head, token, key] * 255), key))
    top = [key for key in order[:3] if row[key]]
    reads = [f"‘{names[k]}’{' (itself)' if k == token else ''} {row[k]}\u00a0%" for k in top]
    rest = 100 - sum(row[k] for k in top)
    others = f"; all others {rest}\u00a0%" if rest > 0 else ""
    return f"Token {token}, ‘{names[token]}’, reads: {', '.join(reads)}{others}."


@pytest.mark.browser
class TestExplorerInABrowser:
    figure = figures.attention_explorer(TEN, TEN_MAPS, layer=1, head=1, token=9)

    def test_the_keyboard_is_enough_and_it_says_what_the_data_say(
        self, open_page: Callable[..., Any]
    ) -> None:
        page = open_page(self.figure.page())
        live, says = page.locator("[aria-live=polite]"), page.locator(".tk-ae-says")
        assert says.text_content() == expected(1, 1, 9)

        for _ in range(3):  # layer, head, then one stop for the whole sentence: the chosen token
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        for key, token in [("ArrowLeft", 8), ("ArrowLeft", 7), ("Home", 0), ("ArrowLeft", 0), ("End", 9)]:
            page.keyboard.press(key)
            assert says.text_content() == expected(1, 1, token)
        assert live.text_content() == f"Layer 1, head 1. {expected(1, 1, 9)}"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

        page.keyboard.press("Tab")  # one stop for all heads
        assert page.evaluate("document.activeElement.ariaLabel") == "Layer 1, head 1"
        for key, layer, head in [("ArrowUp", 0, 1), ("ArrowLeft", 0, 0), ("ArrowDown", 1, 0), ("End", 2, 1)]:
            page.keyboard.press(key)
            assert live.text_content() == f"Layer {layer}, head {head}. {expected(layer, head, 9)}"

    def test_every_row_of_every_head(self, open_page: Callable[..., Any]) -> None:
        page = open_page(self.figure.page())
        for layer, head in np.ndindex(3, 2):
            page.get_by_role("combobox", name="Layer", exact=True).select_option(str(layer))
            page.get_by_role("combobox", name="Head", exact=True).select_option(str(head))
            for token, button in enumerate(page.locator(".tk-ae-tokens button").all()):
                button.click()
                assert page.locator(".tk-ae-says").text_content() == expected(layer, head, token)

    def test_a_passing_mouse_shows_but_is_not_read_out(self, open_page: Callable[..., Any]) -> None:
        page = open_page(self.figure.page())
        page.locator(".tk-ae-tokens button").nth(4).hover()
        assert page.locator(".tk-ae-says").text_content() == expected(1, 1, 4)
        assert page.locator("[aria-live]").text_content() == ""
        page.mouse.move(0, 0)
        assert page.locator(".tk-ae-says").text_content() == expected(1, 1, 9)

    def test_a_click_on_the_map_chooses_its_row(self, open_page: Callable[..., Any]) -> None:
        page = open_page(self.figure.page())
        box = page.locator(".tk-ae-map svg").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.35)
        assert page.locator(".tk-ae-says").text_content() == expected(1, 1, 3)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page: Callable[..., Any], scheme: str) -> None:
        page = open_page(self.figure.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"
        ground = page.evaluate("getComputedStyle(document.querySelector('.tk-figure')).backgroundColor")
        assert ground == f"rgb{tuple(bytes.fromhex(figures.PALETTE[scheme]['background'][1:]))}"

    @pytest.mark.parametrize(
        ("attributes", "theme"),
        [
            ("<html data-theme='dark'><body>", "dark"),
            ("<html data-theme='light'><body>", "light"),
            ("<html><body data-jp-theme-light='false'>", "dark"),
            ("<html><body data-jp-theme-light='true'>", "light"),
            ("<html theme='dark'><body>", "dark"),
        ],
    )
    def test_the_page_s_own_switch_beats_the_system(
        self, open_page: Callable[..., Any], attributes: str, theme: str
    ) -> None:
        plot = figures.static(draw, alt="A line.")
        scheme = {"dark": "light", "light": "dark"}[theme]
        page = open_page(f"<!doctype html>{attributes}{self.figure.html}{plot.html}", scheme=scheme)
        ink = page.evaluate("getComputedStyle(document.querySelector('.tk-figure')).color")
        assert ink == f"rgb{tuple(bytes.fromhex(figures.PALETTE[theme]['ink'][1:]))}"
        assert [page.locator(f"img.only-{t}").is_visible() for t in ("light", "dark")] == [
            theme == "light",
            theme == "dark",
        ]

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page: Callable[..., Any]) -> None:
        page = open_page(self.figure.page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(self.figure.page(), scheme="dark")
        assert not page.locator(".tk-static svg").is_visible()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
        ink = page.evaluate("getComputedStyle(document.querySelector('.tk-figure')).color")
        assert ink == f"rgb{tuple(bytes.fromhex(figures.PALETTE['light']['ink'][1:]))}", "dark ink on paper"

    def test_equal_and_different_figures_share_a_page(self, open_page: Callable[..., Any]) -> None:
        other = figures.attention_explorer(["a", "b"], np.eye(2)[None, None])
        page = open_page(f"<!doctype html><body>{self.figure.html}{self.figure.html}{other.html}")
        assert page.locator(".tk-ae-says").all_text_contents() == [
            expected(1, 1, 9),
            expected(1, 1, 9),
            "Token 1, ‘b’, reads: ‘b’ (itself) 100\u00a0%.",
        ]
        assert page.evaluate("window.broken") is None
