"""Every page of the built book: read as a file, and opened in a browser from disk with the network off."""

from __future__ import annotations

import doctest
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import site_pages
from site_pages import SITE, broken_links, disorder, pages, read
from test_figures import browser  # noqa: F401  (a fixture)

BUILT = pages()
FIRST_BYTES, ANY_BYTES = 1_000_000, 3_000_000
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
BESIDES = [
    "heading-order",
    "page-has-heading-one",
    "landmark-one-main",
    "region",
    "skip-link",
    "duplicate-id-aria",
]
each_page = pytest.mark.parametrize(
    "path", BUILT, ids=lambda p: p.relative_to(SITE).with_suffix("").as_posix()
)

pytestmark = pytest.mark.skipif(not BUILT, reason="no built book: run `make book` first")


def test_examples_of_the_helpers() -> None:
    done = doctest.testmod(site_pages)
    assert (done.failed, done.attempted > 0) == (0, True)


def test_the_whole_book_is_here() -> None:
    """A book of a few pages would pass everything below."""
    toc = (site_pages.ROOT / "_toc.yml").read_text(encoding="utf-8")
    named = [line.split("file:")[1].strip() for line in toc.splitlines() if "file:" in line]
    assert len(named) > 30
    assert not [name for name in named if SITE / f"{name}.html" not in BUILT]


# ---------------------------------------------------------------------------------------- as files


@each_page
def test_nothing_is_asked_of_another_host(path: Path) -> None:
    elsewhere = [a for a in read(path).loads if ":" in a.split("/")[0] and not a.startswith("data:")]
    assert not elsewhere
    lost = [
        a
        for a in read(path).loads
        if not a.startswith("data:") and not (path.parent / a.split("?")[0]).is_file()
    ]
    assert not lost


@each_page
def test_links_within_the_book_lead_somewhere(path: Path) -> None:
    assert not list(broken_links(path))


@each_page
def test_ids_are_unique_and_headings_in_order(path: Path) -> None:
    page = read(path)
    assert sorted(page.ids) == sorted(set(page.ids))
    assert disorder(page.headings) == ""


@each_page
def test_no_source_shows(path: Path) -> None:
    assert [m[0] for m in site_pages.RAW.finditer(read(path).prose)] == []


@pytest.mark.parametrize(
    "text",
    [
        "```{note}",
        "see {ref}`x`",
        r"so \(x\)",
        r"\frac{1}{2}",
        "costs $x^2$",
        "**bold",
        "[a](b.md)",
        ":::{tip}",
    ],
)
def test_a_source_that_shows_would_be_seen(text: str) -> None:
    assert site_pages.RAW.search(f"Some prose, {text}, and more.")


@pytest.mark.parametrize("text", ["It costs $3 and then $5.", "a * b ** c", "{a, b}", "f(x)(y)", "A ~ B"])
def test_prose_is_not_taken_for_a_source(text: str) -> None:
    assert not site_pages.RAW.search(text)


# ------------------------------------------------------------------------------------ in a browser


@contextmanager
def opened(
    chrome: Any, path: Path, *, width: int = 1280, theme: str = "light"
) -> Iterator[tuple[Any, list[str]]]:
    """The page from disk, with no network; and what went wrong on it, collected as it does."""
    context = chrome.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, reduced_motion="reduce"
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:200]}"))
    page.on(
        "request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(f"asked: {r.url}")
    )
    try:
        page.goto(path.as_uri())
        yield page, wrong
    finally:
        context.close()


def look_through(page: Any) -> None:
    """Unfold what is folded, and bring every picture into view, so that it is loaded."""
    page.evaluate(
        "document.querySelectorAll('details:not(.contents details)').forEach((d) => { d.open = true; })"
    )
    page.evaluate("document.querySelectorAll('img[loading=lazy]').forEach((i) => { i.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((i) => i.complete || !i.offsetParent)")


def violations(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA, one line a kind."""
    axe = pytest.importorskip("axe_playwright_python")
    if not page.evaluate("!!window.axe"):
        page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    options = {
        "runOnly": {"type": "rule", "values": _rules(page)},
        "resultTypes": ["violations"],
        "preload": False,
    }
    found = page.evaluate(f"axe.run(document, {json.dumps(options)}).then((r) => r.violations)")
    return [
        f"{v['id']} ({len(v['nodes'])}): {v['nodes'][0]['html'][:150]} {v['nodes'][0]['failureSummary']}"
        for v in found
    ]


def _rules(page: Any) -> list[str]:
    tagged = page.evaluate(f"axe.getRules({json.dumps(WCAG)}).map((r) => r.ruleId)")
    return [*tagged, *(rule for rule in BESIDES if rule not in tagged)]


@each_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_open_to_everyone(path: Path, theme: str, browser: Any) -> None:  # noqa: F811
    """No error, no request, nothing that axe-core finds, with everything unfolded."""
    with opened(browser, path, theme=theme) as (page, wrong):
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        look_through(page)
        assert violations(page) == []
        broken = page.evaluate(
            "[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)"
        )
        assert broken == []
        assert wrong == []


@each_page
def test_a_phone_never_scrolls_sideways(path: Path, browser: Any) -> None:  # noqa: F811
    with opened(browser, path, width=360) as (page, wrong):
        look_through(page)
        wide = page.evaluate(
            """() => document.documentElement.scrollWidth <= 360 ? []
            : [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 361)
            .filter((e) => !e.closest('pre, .table-scroll, .formula, .formula-in-line, .tk-scroll'))
            .slice(0, 5).map((e) => e.outerHTML.slice(0, 120))"""
        )
        assert wide == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert wrong == []


# ------------------------------------------------------------------------------ interactive figures

# What a figure shows, apart from the control with the number `skip` and from what others are set to.
SHOWN = """([figure, skip]) => {
  const live = figure.querySelector('.tk-live').cloneNode(true);
  [...live.querySelectorAll('button, select, input, textarea')].forEach((control, i) => {
    if (i === skip || control.tagName !== 'BUTTON') control.remove();
  });
  return live.innerHTML;
}"""
CONTROLS = ".tk-live button, .tk-live select, .tk-live input, .tk-live textarea"
PLACES = [
    (path, i) for path in BUILT for i in range(path.read_text(encoding="utf-8").count('data-tk-figure="'))
]


def by_keys(page: Any, control: Any) -> None:
    control.focus()
    kind = control.evaluate("(c) => c.type")
    keys = {
        "range": ["ArrowRight", "ArrowRight"],
        "number": ["ArrowUp"],
        "radio": ["Space"],
        "select-one": ["ArrowDown"],
    }
    for key in keys.get(kind, ["Enter"]):
        page.keyboard.press(key)


def by_mouse(page: Any, control: Any) -> None:
    kind = control.evaluate("(c) => c.type")
    control.scroll_into_view_if_needed()
    box = control.bounding_box()
    if kind == "range":
        for part in (0.2, 0.8):
            page.mouse.click(box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
    elif kind in ("button", "submit", "radio"):
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


@pytest.mark.parametrize("how", [by_keys, by_mouse])
@pytest.mark.parametrize(("path", "number"), PLACES, ids=lambda v: v if isinstance(v, int) else v.stem)
def test_a_figure_answers(path: Path, number: int, how: Any, browser: Any) -> None:  # noqa: F811
    """From disk, with no network and no kernel: what it shows changes when one of its controls is used."""
    with opened(browser, path) as (page, wrong):
        figure = page.locator("[data-tk-figure]").nth(number)
        assert figure.get_attribute("data-tk-ready") is not None
        controls = figure.locator(CONTROLS)
        answered = []
        for i in range(min(controls.count(), 8)):
            control = controls.nth(i)
            if not control.is_visible() or control.is_disabled():
                continue
            before = page.evaluate(SHOWN, [figure.element_handle(), i])
            how(page, control)
            page.wait_for_timeout(50)
            answered.append(page.evaluate(SHOWN, [figure.element_handle(), i]) != before)
        assert any(answered), "nothing changed"
        assert wrong == []


def test_the_book_has_its_interactive_figures() -> None:
    """Those that the course promises, wherever they stand."""
    text = "".join(path.read_text(encoding="utf-8") for path in BUILT)
    promised = "attention_explorer roofline kv_memory decode_steps int4_packing block_table request_timeline"
    for name in [*promised.split(), "latency_plane", "page_model", "questions"]:
        assert f'teachkitFigures["{name}"]' in text, name


# ------------------------------------------------------------------------------------------ search


@pytest.mark.parametrize(
    ("query", "kind", "link"),
    [
        ("critical batch", "term", "book/glossary.html#term-critical-batch"),
        ("ContiguousCache", "class", "book/api.html#"),
        ("scaled_dot_product", "function", "book/api.html#"),
        ("why divide by", "section", "notebooks/attention.html#"),
        ("continuous batching", "page", "notebooks/continuous_batching.html"),
        ("nvidia lognormal", "in the text of", ".html"),
    ],
)
def test_search_finds(query: str, kind: str, link: str, browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "notebooks" / "attention.html") as (page, wrong):
        page.keyboard.press("/")
        page.keyboard.type(query)
        page.wait_for_selector("dialog.search li")
        rows = page.locator("dialog.search li a")
        found = [(row.inner_text(), row.get_attribute("href")) for row in rows.all()[:8]]
        assert any(text.startswith(kind) and link in address for text, address in found), found
        assert wrong == []


def test_search_is_operated_by_keys_and_leads_there(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        page.keyboard.press("Control+k")
        page.keyboard.type("ridge")
        page.wait_for_selector("dialog.search li")
        page.keyboard.press("ArrowDown")
        wanted = page.evaluate("document.activeElement.href")
        page.keyboard.press("Enter")
        page.wait_for_url(wanted)
        page.keyboard.press("/")
        page.keyboard.type("qqqqzzzz")
        page.get_by_text("Nothing has all these words.").wait_for()
        page.keyboard.press("Escape")
        assert not page.evaluate("document.querySelector('dialog.search').open")
        assert wrong == []


# ----------------------------------------------------------------------------- the page around it


def test_colours_are_chosen_and_kept(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html", theme="dark") as (page, wrong):
        seen = []
        for _ in range(4):
            seen.append(
                (
                    page.evaluate("document.documentElement.dataset.mode"),
                    page.evaluate("document.documentElement.dataset.theme"),
                )
            )
            page.keyboard.press("Escape")
            page.locator(".tool.theme").press("Enter")
        assert seen == [("auto", "dark"), ("light", "light"), ("dark", "dark"), ("auto", "dark")]
        page.goto((SITE / "book" / "glossary.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        assert wrong == []


def test_chapters_open_and_close_on_a_phone(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "notebooks" / "attention.html", width=360) as (page, wrong):
        chapters, menu = page.locator("#chapters"), page.locator(".tool.menu")
        assert not chapters.is_visible()
        menu.press("Enter")
        assert chapters.is_visible()
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "page"
        page.keyboard.press("Escape")
        assert not chapters.is_visible()
        assert page.evaluate("document.activeElement.classList.contains('menu')")
        assert wrong == []


def test_code_is_copied_without_prompts(browser: Any) -> None:  # noqa: F811
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((SITE / "book" / "api.html").as_uri())
    box = page.locator("div.highlight:has(.gp)").first
    box.locator(".copy").click()
    copied, shown = page.evaluate("navigator.clipboard.readText()"), box.locator("pre").inner_text()
    context.close()
    assert copied
    assert ">>>" not in copied
    assert copied.split("\n")[0] in shown


def test_a_page_can_be_read_without_scripts(browser: Any) -> None:  # noqa: F811
    context = browser.new_context(
        viewport={"width": 360, "height": 800}, java_script_enabled=False, offline=True
    )
    page = context.new_page()
    page.goto((SITE / "notebooks" / "attention.html").as_uri())
    assert page.locator("h1").is_visible()
    assert page.locator(".tk-static img:visible, .tk-static svg:visible").count() >= 1
    page.locator(".tool.menu").click()
    assert page.locator("#chapters").is_visible()
    context.close()


def test_pages_are_light() -> None:
    """What a reader's browser fetches to show a page, uncompressed: the first page, and any other."""
    sizes = {}
    for path in BUILT:
        needed = {a.split("?")[0] for a in read(path).loads if not a.startswith("data:")}
        files = [path, *((path.parent / name).resolve() for name in needed)]
        files += (SITE / "_static" / "fonts").glob("*.woff2")
        sizes[path] = sum(os.path.getsize(file) for file in files)
    assert sizes[SITE / "book" / "intro.html"] <= FIRST_BYTES
    assert max(sizes.values()) <= ANY_BYTES, max(sizes, key=lambda path: sizes[path])
