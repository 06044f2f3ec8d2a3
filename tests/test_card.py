"""tools/card.py: the picture shows the first page's figure under the book's own title and subtitle."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from PIL import Image

import card
import chromium
import made_book
from test_figures import browser  # noqa: F401  (a fixture)

FIGURE = (
    '<figure class="one-token"><figcaption>One &lt;token&gt;</figcaption><ul><li>0.04 ms</li></ul></figure>'
)


@pytest.fixture
def book(tmp_path):
    """The small book with such a figure on its first page: root and the built pages."""
    html = made_book.make(tmp_path)
    page = html / "book" / "intro.html"
    page.write_text(
        page.read_text(encoding="utf-8").replace("</section>", f"{FIGURE}</section>"), encoding="utf-8"
    )
    (html / "_static" / "mark.svg").write_text(made_book.MARK)
    (html / "_static" / "book.css").write_text("body { margin: 0; background: #010203 }\n")
    return tmp_path, html


def test_words_are_those_of_the_sources(book):
    root, html = book
    text = card.card(root, html)
    assert "Small &amp; made</h1>" in text
    assert "<p>Made for a test</p>" in text
    assert FIGURE in text
    (root / "CITATION.cff").write_text('title: "Fork: of <others>"\n')
    assert "<p>Of &lt;others&gt;</p>" in card.card(root, html)


def test_without_the_figure_it_says_what_is_expected(tmp_path):
    html = made_book.make(tmp_path)
    with pytest.raises(SystemExit, match=r"intro\.html: expected a figure of class one-token"):
        card.card(tmp_path, html)


def test_help_writes_nothing(book):
    root, _ = book
    with pytest.raises(SystemExit) as left:
        card.main(["--root", str(root), "--help"])
    assert left.value.code == 0
    assert not (root / "book").exists()


@pytest.mark.browser
def test_the_picture_has_its_size_and_the_style_of_the_book(browser, book, monkeypatch, capsys):  # noqa: F811
    root, _ = book
    monkeypatch.setattr(chromium, "browser", lambda: nullcontext(browser))
    assert card.main(["--root", str(root)]) == 0
    committed = root / "book" / "_static" / "card.png"
    assert "make book" in capsys.readouterr().out
    elsewhere = root / "made" / "card.png"
    assert card.main(["--root", str(root), "--out", str(elsewhere)]) == 0
    assert "make book" not in capsys.readouterr().out
    assert committed.read_bytes() == elsewhere.read_bytes()
    with Image.open(committed) as picture:
        assert picture.size == (1200, 630)
        assert picture.convert("RGB").getpixel((3, 3)) == (1, 2, 3)
        assert picture.convert("RGB").getpixel((76 + 60, 64 + 20)) == (0, 0, 0)  # the mark, which is black
    assert not (root / "build").exists()
