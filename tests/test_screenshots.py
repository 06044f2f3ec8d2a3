"""tools/screenshots.py: every page in both themes and widths, whole, in pieces that join without a gap."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

import chromium
import made_book
import screenshots
from test_figures import browser  # noqa: F401  (a fixture)

PAGE = """<!doctype html><style>body {{ margin: 0 }}
p {{ margin: 0; height: 100px }}
.bar {{ position: sticky; top: 0; height: 20px; background: rgb(1, 2, 3) }}
@media (prefers-color-scheme: dark) {{ html {{ background: black }} }}</style>
<div class="bar"></div>{bands}"""


@pytest.mark.browser
def test_pieces_join_to_the_whole_page(browser, tmp_path):  # noqa: F811
    """Each band has its own colour: one missing, double or out of place shows."""
    colours = [(10 * i, 255 - 10 * i, 7 * i) for i in range(23)]
    bands = "".join(f'<p style="background: rgb{colour}"></p>' for colour in colours)
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(bands=bands), encoding="utf-8")
    shots = screenshots.photograph(browser, page.as_uri(), theme="light", width=360, piece=1000)
    assert [shot.size for shot in shots] == [(360, 1000), (360, 1000), (360, 320)]
    whole = Image.new("RGB", (360, 2320))
    for number, shot in enumerate(shots):
        whole.paste(shot, (0, 1000 * number))
    assert whole.getpixel((5, 10)) == (1, 2, 3)  # what stays in view is there once, on top
    assert [whole.getpixel((5, 20 + 100 * i + 50)) for i in range(23)] == colours


@pytest.mark.browser
def test_pictures_far_down_are_waited_for(browser, tmp_path):  # noqa: F811
    """Until each can be drawn: one that cannot be is an error, not a gap."""
    drawn = Image.effect_noise((2000, 2000), 50).convert("RGB")
    drawn.paste((9, 8, 7), (0, 0, 200, 2000))
    drawn.save(tmp_path / "drawn.png")
    page = tmp_path / "page.html"
    far = '<p style="height: 6000px"><p><img src="{}.png" width="360" height="360" {}>'
    lazy = 'loading="lazy" decoding="async"'  # as in the book
    page.write_text(PAGE.format(bands=far.format("none", lazy)), encoding="utf-8")
    with pytest.raises(pytest.importorskip("playwright.sync_api").Error, match="decode"):
        screenshots.photograph(browser, page.as_uri(), theme="light", width=360, piece=1000)
    page.write_text(PAGE.format(bands=far.format("drawn", lazy)), encoding="utf-8")
    shots = screenshots.photograph(browser, page.as_uri(), theme="light", width=360, piece=1000)
    assert shots[6].convert("RGB").getpixel((10, 200)) == (9, 8, 7)


@pytest.mark.browser
def test_a_run_writes_each_page_in_each_theme_and_width(tmp_path, browser):  # noqa: F811
    del browser  # skips where there is none
    made_book.make(tmp_path, pages_of_two=1)
    css = tmp_path / "_build" / "html" / "_static" / "book.css"
    css.write_text("@media (prefers-color-scheme: dark) { html { background: black } }\n")
    out = tmp_path / "shots"
    stale = out / "light-360" / "notebooks-two.9.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(made_book.PIXEL)
    assert run_outside_a_loop(["--root", str(tmp_path), "--out", str(out), "--only", "two"]) == 0
    for theme, paper in (("light", 255), ("dark", 0)):
        for width in (1280, 360):
            folder = out / f"{theme}-{width}"
            names = sorted(path.name for path in folder.iterdir())
            assert names, folder
            assert all(name.startswith("notebooks-two.") for name in names)
            with Image.open(folder / names[0]) as picture:
                assert picture.width == width
                assert picture.convert("RGB").getpixel((1, 1)) == (paper, paper, paper)
            with Image.open(out / f"{theme}-{width}.png") as sheet:
                ground, first = sheet.getpixel((1, 1)), sheet.getpixel((screenshots.THUMB, 8))
            assert (ground, first) == ((138, 148, 163), (paper, paper, paper))
    assert not stale.exists()


def run_outside_a_loop(arguments):
    """In a thread of its own: playwright allows one driver in a thread, and the fixture has it."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(screenshots.main, arguments).result()


def test_only_names_pages_and_says_so_where_there_is_none(tmp_path):
    html = made_book.make(tmp_path)
    assert screenshots.pages(tmp_path, html, []) == ["book/intro", "notebooks/one", "notebooks/two"]
    assert screenshots.pages(tmp_path, html, ["one", "intro"]) == ["book/intro", "notebooks/one"]
    with pytest.raises(SystemExit, match="notebooks/two"):
        screenshots.pages(tmp_path, html, ["three"])


# -------------------------------------------------------------- tools/chromium.py, which finds the browser


def started(monkeypatch, on_path, launch):
    monkeypatch.setattr(chromium, "installed", lambda: on_path)
    return chromium.launch(SimpleNamespace(launch=launch))


def test_the_browser_on_the_path_or_chrome_where_it_is_installed(monkeypatch):
    def how(**options):
        return {key: value for key, value in options.items() if key != "args"}

    assert started(monkeypatch, "/bin/chromium", how) == {"executable_path": "/bin/chromium"}
    assert started(monkeypatch, None, how) == {"channel": "chrome"}


def test_no_browser_says_what_to_install_and_another_failure_what_it_is(monkeypatch):
    error = pytest.importorskip("playwright.sync_api").Error

    def fails(words):
        def launch(**_):
            raise error(words)

        return launch

    with pytest.raises(SystemExit, match="no Chromium or Chrome found"):
        started(monkeypatch, None, fails("Chromium distribution 'chrome' is not found at /opt/google/chrome"))
    with pytest.raises(error, match="closed"):
        started(monkeypatch, None, fails("the browser has been closed"))
