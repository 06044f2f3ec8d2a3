"""Every page of the built book: read as a file, and opened in a browser from disk with the network off."""

from __future__ import annotations

import doctest
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import TimeoutError

import lighthouse
import site_pages
import teachkit.cost
from site_pages import SITE, broken_links, disorder, pages, read
from test_figures import browser  # noqa: F401  (a fixture)

BUILT = pages()
FIRST_BYTES, ANY_BYTES = 1_000_000, 3_000_000
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
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


@pytest.fixture(scope="module", autouse=True)
def the_book_of_today() -> None:
    site_pages.skip_or_fail()


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
    for name, said in read(path).about.items():
        assert [m[0] for m in site_pages.RAW.finditer(said)] == [], name


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
    chrome: Any, path: Path, *, width: int = 1280, theme: str = "light", **more: Any
) -> Iterator[tuple[Any, list[str]]]:
    """The page from disk, with no network; and what went wrong on it, collected as it does."""
    context = chrome.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        offline=True,
        reduced_motion="reduce",
        **more,
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
    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
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

# What a figure shows, apart from its controls and from what they are set to.
SHOWN = """(figure) => {
  const live = figure.querySelector('.tk-live').cloneNode(true);
  live.querySelectorAll('button, select, input, textarea').forEach((control) => control.remove());
  return live.innerHTML;
}"""
CHANGED = f"([figure, before]) => ({SHOWN})(figure) !== before"
CONTROLS = ".tk-live button, .tk-live select, .tk-live input, .tk-live textarea"
MOST = 24  # of a figure with more controls, so many, spread evenly
# What changes nothing by itself: an answer waits for its Check, and one takes back what was changed before.
WAITS = "(c) => c.matches('.tk-qs input') || ['As it was'].includes(c.innerText)"
SET = "(c) => c.checked || c.getAttribute('aria-pressed') === 'true'"
PLACES = [
    (path, i) for path in BUILT for i in range(path.read_text(encoding="utf-8").count('data-tk-figure="'))
]


def by_keys(page: Any, control: Any) -> list[Callable[[], None]]:
    """Go there; returns what a reader then presses, and what else if that was the end of a scale."""
    control.focus()
    kind = control.evaluate("(c) => c.type")
    keys = {
        "range": ["ArrowRight", "ArrowLeft"],
        "number": ["ArrowUp", "ArrowDown"],
        "radio": ["Space"],
        "select-one": ["ArrowDown", "ArrowUp"],
        "text": ["7"],
        "textarea": ["x"],
    }
    return [partial(page.keyboard.press, key) for key in keys.get(kind, ["Enter"])]


def by_mouse(page: Any, control: Any) -> list[Callable[[], None]]:
    """The same with a mouse; fields and lists are left to keys."""
    kind = control.evaluate("(c) => c.type")
    if kind not in ("button", "submit", "radio", "range"):
        return []
    control.hover()
    box = control.bounding_box()
    return [
        partial(page.mouse.click, box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
        for part in ((0.2, 0.8) if kind == "range" else (0.5,))
    ]


@pytest.mark.parametrize("how", [by_keys, by_mouse])
@pytest.mark.parametrize(("path", "number"), PLACES, ids=lambda v: v if isinstance(v, int) else v.stem)
def test_a_figure_answers(path: Path, number: int, how: Any, browser: Any) -> None:  # noqa: F811
    """From disk, with no network and no kernel: each of its controls changes what it shows."""
    with opened(browser, path) as (page, wrong):
        figure = page.locator("[data-tk-figure]").nth(number)
        assert figure.get_attribute("data-tk-ready") is not None
        controls = figure.locator(CONTROLS)
        numbers = [i for i in range(controls.count()) if not controls.nth(i).evaluate(WAITS)]
        answers = [answered(page, figure, controls.nth(i), how) for i in numbers[:: -(-len(numbers) // MOST)]]
        assert any(answers), "no control could be used"
        assert [said for said in answers if said] == ["yes"] * sum(map(bool, answers))
        assert wrong == []


def answered(page: Any, figure: Any, control: Any, how: Any) -> str:
    """ "yes", or the control that changed nothing; "" where this control cannot be used now."""
    if not control.is_visible() or control.is_disabled() or control.evaluate(SET):
        return ""
    said, handle = control.evaluate("(c) => c.outerHTML.slice(0, 120)"), figure.element_handle()
    presses = how(page, control)
    for press in presses:
        before = page.evaluate(SHOWN, handle)
        press()
        with suppress(TimeoutError):
            page.wait_for_function(CHANGED, arg=[handle, before], timeout=500)
            return "yes"
    return str(said) if presses else ""


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
        ("paged", "page", "notebooks/paged_cache.html"),
        ("KV cache", "page", "notebooks/kv_cache.html"),
        ("kv-cache", "page", "notebooks/kv_cache.html"),
        ("softmax( overflow?", "in the text of", "notebooks/attention.html"),
        ("nvidia lognormal", "in the text of", "book/api.html"),
    ],
)
def test_search_finds(query: str, kind: str, link: str, browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "notebooks" / "attention.html") as (page, wrong):
        page.keyboard.press("Control+k")
        page.locator("dialog.search input").fill(query)  # at once: no answer to a part of it may be read
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
        page.keyboard.press("/")  # a key of its own, which a reader may press without meaning it
        assert not page.evaluate("document.querySelector('dialog.search').open")
        page.keyboard.press("Meta+k")
        page.keyboard.type("qqqqzzzz")
        page.get_by_text("Nothing has all these words.").wait_for()
        page.keyboard.press("Escape")
        assert not page.evaluate("document.querySelector('dialog.search').open")
        assert wrong == []


def test_search_shows_the_passage_and_leads_to_its_section(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        page.keyboard.press("Control+k")
        page.locator("dialog.search input").fill("softmax overflow")
        rows = page.locator("dialog.search li a").filter(has_text="in the text of")
        rows.first.wait_for()
        bare = rows.filter(has_not=page.locator(".passage"))
        while bare.count():
            bare.first.wait_for(state="detached")
        assert rows.count() > 3
        for row in rows.all():
            marked = row.locator("mark").all_inner_texts()
            assert marked
            assert all(word.lower().startswith(("softmax", "overflow")) for word in marked), marked
            address = row.get_attribute("href")
            target = (SITE / "book" / address.split("#")[0]).resolve()
            assert address.split("#")[1].split(":~:")[0] in read(target).ids
            assert len(row.locator(".passage").inner_text()) < 400
        rows.first.click()
        page.wait_for_url(re.compile(r"html#[\w-]+(:~:text=.*)?$"))
        assert wrong == []


@pytest.mark.parametrize(
    "query", ["kv-cache", "q @ k", "c++ (", "$x^2 [a", "the", "one/two a.b", "caches’ ünits"]
)
def test_search_for_anything_breaks_nothing(query: str, browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        page.keyboard.press("Control+k")
        page.locator("dialog.search input").fill(query)
        page.wait_for_selector("dialog.search [role=status]:text-matches('found|Nothing')")
        page.wait_for_timeout(600)  # passages are asked for after a pause
        assert wrong == []


def test_search_without_passages_still_names_the_page(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        page.keyboard.press("Control+k")
        page.wait_for_function("!document.querySelector('dialog.search [role=status]').textContent")
        page.evaluate("document.documentElement.dataset.content_root = 'nowhere/'")
        with page.expect_event("requestfailed", lambda request: "/nowhere/_static/passages/" in request.url):
            page.locator("dialog.search input").fill("loops dispatch")
        rows = page.locator("dialog.search li a").filter(has_text="in the text of")
        assert [
            what for what in wrong if "nowhere/_static/passages/" not in what and "ERR_FILE" not in what
        ] == []
        assert rows.locator(".passage").count() == 0
        assert "#:~:text=loops&text=dispatch" in rows.first.get_attribute("href")


def test_search_without_its_index_says_so_and_tries_again(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, _):
        root = page.evaluate("document.documentElement.dataset.content_root")
        page.evaluate("document.documentElement.dataset.content_root = 'nowhere/'")
        said = page.locator("dialog.search [role=status]")
        page.keyboard.press("Control+k")
        for text in ("rid", "ge"):  # the second time it is known
            page.keyboard.type(text)
            page.get_by_text("The index of this book could not be loaded.").wait_for(timeout=3000)
        assert "Nothing" not in said.inner_text()
        page.keyboard.press("Escape")
        page.evaluate("(root) => { document.documentElement.dataset.content_root = root; }", root)
        page.keyboard.press("Control+k")
        page.get_by_text("could not be loaded").wait_for(state="detached", timeout=3000)
        page.keyboard.type("ridge")
        page.wait_for_selector("dialog.search li", timeout=3000)
        assert "found" in said.inner_text()


def test_search_says_that_its_index_is_on_the_way(browser: Any) -> None:  # noqa: F811
    typed = """() => {
      document.querySelector('.tool.find').click();
      const field = document.querySelector('dialog.search input');
      field.value = 'ridge';
      field.dispatchEvent(new Event('input'));
      return document.querySelector('dialog.search [role=status]').textContent;
    }"""
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        assert page.evaluate(typed) == "Loading the index."
        page.wait_for_selector("dialog.search li")
        assert wrong == []


def test_search_leaves_enter_to_an_input_method(browser: Any) -> None:  # noqa: F811
    enter = """(isComposing) => {
      const about = { key: 'Enter', bubbles: true, cancelable: true, isComposing };
      const key = new KeyboardEvent('keydown', about);
      document.querySelector('dialog.search input').dispatchEvent(key);
      return key.defaultPrevented;
    }"""
    with opened(browser, SITE / "book" / "intro.html") as (page, _):
        page.keyboard.press("Control+k")
        assert [page.evaluate(enter, composing) for composing in (True, False)] == [False, True]


def test_search_is_closed_from_outside_only(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html") as (page, wrong):
        page.locator(".tool.find").click()
        dialog = page.locator("dialog.search")
        box, field = dialog.bounding_box(), dialog.locator("input").bounding_box()
        page.mouse.click(box["x"] + 4, box["y"] + 4)  # its own padding
        assert dialog.is_visible()
        page.mouse.move(field["x"] + 20, field["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] - 50, box["y"] - 20)  # a selection that ends outside
        page.mouse.up()
        assert dialog.is_visible()
        page.mouse.click(box["x"] - 50, box["y"] + 4)
        assert not dialog.is_visible()
        assert wrong == []


def test_without_its_script_search_is_a_link(browser: Any) -> None:  # noqa: F811
    context = browser.new_context(offline=True)
    context.route("**/_static/search.js*", lambda route: route.abort())
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((SITE / "book" / "intro.html").as_uri())
    assert page.evaluate("!window.Search"), "the script was loaded"
    page.locator(".tool.find").click()
    page.wait_for_url("**/search.html", timeout=3000)
    context.close()
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


def test_chapters_on_a_phone_do_not_stay_for_an_address(browser: Any) -> None:  # noqa: F811
    """Without scripts they open at #chapters; with scripts that address, kept or shared, opens nothing."""
    with opened(browser, SITE / "notebooks" / "attention.html", width=360) as (page, _):
        page.goto((SITE / "book" / "intro.html").as_uri() + "#chapters")
        chapters, menu = page.locator("#chapters"), page.locator(".tool.menu")
        for key, shown in (("", False), ("Enter", True), ("Escape", False)):
            if key:
                page.keyboard.press(key) if shown is False else menu.press(key)
            assert chapters.is_visible() is shown
            assert menu.get_attribute("aria-expanded") == str(shown).lower()


def test_the_chapter_one_is_in_closes_the_chapters(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "notebooks" / "attention.html", width=360) as (page, wrong):
        page.locator(".tool.menu").click()
        page.locator("#chapters a.current").click()
        assert not page.locator("#chapters").is_visible()
        assert page.evaluate("!document.querySelector('main').inert")
        assert page.evaluate("document.activeElement.tagName") == "MAIN"
        assert wrong == []


def test_code_is_copied_without_prompts_and_output(browser: Any) -> None:  # noqa: F811
    """What an example of the reference types, as doctest reads it from the docstring."""
    document = teachkit.cost.__doc__ or ""
    examples = doctest.DocTestParser().get_examples(document)
    assert any(example.want for example in examples)
    with opened(browser, SITE / "book" / "api.html", permissions=["clipboard-read", "clipboard-write"]) as (
        page,
        wrong,
    ):
        box = page.locator("section#teachkit-cost div.highlight:has(.gp)").first
        copy = box.locator(".copy")
        copy.click()
        page.locator("[role=status]").get_by_text("Copied", exact=True).wait_for(
            state="attached", timeout=3000
        )
        assert (copy.text_content(), copy.get_attribute("aria-label")) == ("Copied this code", None)
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "".join(example.source for example in examples).rstrip()
        assert wrong == []


@pytest.mark.parametrize("allowed", [True, False])
def test_a_copy_that_a_browser_refuses_is_told(allowed: bool, browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "student_guide.html") as (page, _):
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page.evaluate("(done) => { document.execCommand = () => done; }", allowed)
        copy = page.locator(".copy").first
        copy.press("Enter")
        said = "Copied" if allowed else "Not copied"
        page.locator("[role=status]").get_by_text(said, exact=True).wait_for(state="attached", timeout=3000)
        assert page.evaluate("document.activeElement.className") == "copy"


def test_what_scrolls_is_a_stop_with_a_name(browser: Any) -> None:  # noqa: F811
    """And what does not is none."""
    stops = """() => [...document.querySelector('.bd-article')
      .querySelectorAll('pre, .table-scroll, .formula, .formula-in-line')]
      .filter((box) => box.offsetParent)
      .map((box) => [box.scrollWidth > box.clientWidth + 1, box.tabIndex === 0,
        box.getAttribute('role'), box.getAttribute('aria-label')].join(' '))"""
    counts = {}
    for width in (360, 1280):
        with opened(browser, SITE / "notebooks" / "roofline.html", width=width) as (page, _):
            found = page.evaluate(stops)
            assert {re.sub(r"Code|Table|Formula", "It", said) for said in found} <= {
                "true true group It, scrolls sideways",
                "false false  ",
            }
            counts[width] = sum(said.startswith("true") for said in found)
    assert counts[360] > counts[1280]


def test_bars_of_the_first_page_are_seen_in_forced_colours(browser: Any) -> None:  # noqa: F811
    with opened(browser, SITE / "book" / "intro.html", forced_colors="active") as (page, _):
        behind = page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen = """() => [...document.querySelectorAll('.one-token .bar b')].map(getComputedStyle)
          .map((s) => [s.backgroundColor, s.borderTopWidth === '0px' ? '' : s.borderTopColor])"""
        for inside, edge in page.evaluate(seen):
            assert (edge or inside) not in (behind, "rgba(0, 0, 0, 0)")


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


@pytest.mark.parametrize(
    ("name", "faces"),
    [
        ("book/intro", {"math", "text-400", "text-600"}),
        ("book/how_to_cite", {"text-400", "text-600"}),
    ],
)
def test_from_a_server_fonts_are_asked_for_once_and_early(
    name: str,
    faces: set[str],
    browser: Any,  # noqa: F811
) -> None:
    """Those of the first lines before the style sheet says so; where no formula stands, not theirs."""
    asked, wrong = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda response: response.ok or wrong.append(f"{response.status} {response.url}"))
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    with lighthouse.served(SITE) as address:
        page.goto(f"{address}{name}.html", wait_until="networkidle")
        early = page.evaluate("[...document.querySelectorAll('link[rel=preload]')].map((l) => l.href)")
        page.close()
    assert [url for url in asked if not url.startswith(address)] == []
    assert wrong == []
    fonts = [url for url in asked if url.endswith(".woff2")]
    assert len(fonts) == len(set(fonts))
    assert {url.split("stix-two-")[1].removesuffix(".woff2") for url in early} == faces
    assert set(early) <= set(fonts)


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
