"""tools/pdf.py: what is assembled for paper is whole, and what is printed says the right page numbers."""

from __future__ import annotations

import doctest
import re

import pikepdf
import pytest
from bs4 import BeautifulSoup

import book_pages
import made_book
import pdf
import pdf_assemble
import pdf_check
import pdf_page
import pdf_print
from test_figures import browser  # noqa: F401  (a fixture)

INTERACTIVE = (
    "script, button, input, select, form, details, summary, .tk-live, .headerlink, [onclick], [tabindex]"
)


@pytest.fixture
def made(tmp_path):
    """The small book, and the document assembled from it."""
    html = made_book.make(tmp_path)
    return tmp_path, BeautifulSoup(pdf_assemble.assemble(tmp_path, html), "html.parser")


def built_book():
    html = book_pages.ROOT / "_build" / "html"
    if any(not (html / f"{name}.html").is_file() for name in book_pages.names()):
        pytest.skip("run `make book` first")
    return html


def holds(document):
    """What must be so of any assembled book."""
    ids = [node["id"] for node in document.find_all(id=True)]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in document.find_all("a", href=True)]
    assert {href[1:] for href in links if href.startswith("#")} <= set(ids)
    assert all(re.match(r"#|https?://|mailto:", href) for href in links)
    assert {node["data-page-of"] for node in document.select("[data-page-of]")} <= set(ids)
    assert document.body.select(INTERACTIVE) == []


def test_examples():
    assert doctest.testmod(pdf_page).failed == 0


def test_small_book_is_whole(made):
    _, document = made
    holds(document)
    assert [sheet["id"] for sheet in document.select("section.sheet")] == [
        "book-intro",
        "notebooks-one",
        "notebooks-two",
    ]
    assert document.html["lang"] == "en"
    assert document.title.string == "Small & made"
    assert document.select_one(".part h1").string == "First part"


def test_links_between_pages_become_links_inside_and_say_the_page(made):
    _, document = made
    intro = document.find(id="book-intro")
    assert [link["href"] for link in intro.find_all("a")] == [
        "#notebooks-one",
        "#notebooks-two--deep",
        "https://example.org/x",
    ]
    assert [ref["data-page-of"] for ref in intro.select(".page-ref")] == [
        "notebooks-one",
        "notebooks-two--deep",
    ]
    two = [ref["data-page-of"] for ref in document.find(id="notebooks-two").select(".page-ref")]
    assert two == ["notebooks-one--own"], "none after a term of the glossary"
    own = document.find("a", href="#notebooks-one--own", class_="same-page")
    assert "page-ref" not in (own.next_sibling.get("class", []) if own.next_sibling.name else [])


def test_a_file_to_download_becomes_its_name(made):
    _, document = made
    assert "script (one.py)" in document.find(id="notebooks-one").get_text()
    assert document.find(href=re.compile("_downloads")) is None


def test_folded_code_goes_and_folded_answers_move_to_the_end(made):
    _, document = made
    one = document.find(id="notebooks-one")
    assert "folded_away" not in one.get_text()
    pointer, answer = one.select_one(".asked a"), one.select_one(".answers .answer")
    assert pointer["href"] == f"#{answer['id']}"
    assert answer.select_one(".answer-of a")["href"] == f"#{one.select_one('.asked')['id']}"
    assert answer.select_one(".answer-of a").string == "1. A question"
    assert "Forty-two" in answer.get_text()
    assert "Forty-two" not in one.find(id="notebooks-one--own").get_text()


def test_a_figure_prints_its_static_twin(made):
    _, document = made
    figure = document.select_one("#notebooks-one .tk-figure")
    assert figure.select_one(".tk-static svg")["aria-labelledby"] == "notebooks-one--t"
    assert figure.find("g")["clip-path"] == "url(#notebooks-one--c)"
    assert figure.select(".tk-table, .tk-live, script") == []
    assert [image["alt"] for image in document.find(id="notebooks-one").find_all("img")] == ["l"]
    assert ".tk-figure { color: black }" in document.head.decode(formatter=None)


def test_code_keeps_its_indents_and_hangs_where_it_is_too_long(made):
    _, document = made
    pre = document.select_one("#notebooks-one pre")
    assert pre.get_text().startswith('def f(x):\n    """words"""\n    return x')
    long = pre.select_one(".long")
    assert long["style"] == "padding-left:8ch;text-indent:-8ch"
    assert [run.get_text() for run in pre.select(".run.apart")] == ["f(1)"]
    assert [span["class"] for span in pre.select(".run span")][:2] == [
        ["k"],
        ["nf"],
    ]  # names are not coloured


def test_headings_stand_below_their_part_and_numbers_in_front(made):
    _, document = made
    assert [node.name for node in document.select("#notebooks-one .depth-1, #notebooks-one .depth-2")] == [
        "h2",
        "h3",
        "h3",
    ]
    assert document.select_one("#book-intro .depth-1").name == "h1"
    assert '@bottom-left { content: "1 One <first>" }' in document.head.decode(formatter=None)


@pytest.mark.parametrize(
    ("page", "old", "new", "said"),
    [
        ("book/intro", "two.html#deep", "two.html#nowhere", "notebooks-two--nowhere"),
        ("notebooks/one", "bd-article", "other", "bd-article"),
    ],
)
def test_what_is_broken_is_refused(tmp_path, page, old, new, said):
    html = made_book.make(tmp_path)
    path = html / f"{page}.html"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        pdf_assemble.assemble(tmp_path, html)


def test_a_section_called_answers_is_no_obstacle(tmp_path):
    html = made_book.make(tmp_path)
    path = html / "notebooks" / "one.html"
    path.write_text(path.read_text(encoding="utf-8").replace("Answer</summary>", "Hint</summary>"))
    two = html / "notebooks" / "two.html"
    two.write_text(two.read_text(encoding="utf-8").replace("#own", "#all-answers"), encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace("own", "all-answers"), encoding="utf-8")
    document = BeautifulSoup(pdf_assemble.assemble(tmp_path, html), "html.parser")
    holds(document)
    assert document.select_one(".answers .depth-2").get_text() == "Hints"


@pytest.mark.slow
def test_the_book_is_whole():
    html = built_book()
    document = BeautifulSoup(pdf_assemble.assemble(book_pages.ROOT, html), "html.parser")
    holds(document)
    assert [sheet["id"] for sheet in document.select("section.sheet")] == [
        pdf_page.slug(name) for name in book_pages.names()
    ]
    assert all(len(sheet.get_text()) > 200 for sheet in document.select("section.sheet"))


def text_of(path, number):
    """What stands on a page: its words as Chromium wrote them, through the font's own table of characters."""
    with pikepdf.open(path) as document:
        page = document.pages[number - 1]
        fonts = {name: to_unicode(font) for name, font in page.Resources.Font.items()}
        words, table = [], {}
        for operands, operator in pikepdf.parse_content_stream(page):
            if str(operator) == "Tf":
                table = fonts[str(operands[0])]
            elif str(operator) in ("Tj", "TJ"):
                pieces = operands[0] if str(operator) == "TJ" else operands
                for piece in pieces:
                    if isinstance(piece, pikepdf.String):
                        raw = bytes(piece)
                        words += [table.get(raw[i : i + 2], "?") for i in range(0, len(raw), 2)]
            elif str(operator) == "ET":
                words.append(" ")
    return re.sub(r"\s+", " ", "".join(words))


def to_unicode(font):
    table = {}
    text = font.ToUnicode.read_bytes().decode("ascii")
    for block in re.findall(r"beginbfchar(.*?)endbfchar", text, re.DOTALL):
        for code, value in re.findall(r"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", block):
            table[bytes.fromhex(code)] = bytes.fromhex(value).decode("utf-16-be")
    for block in re.findall(r"beginbfrange(.*?)endbfrange", text, re.DOTALL):
        for low, high, value in re.findall(r"<(\w+)>\s*<(\w+)>\s*<(\w+)>", block):
            for step in range(int(high, 16) - int(low, 16) + 1):
                code = (int(low, 16) + step).to_bytes(len(low) // 2, "big")
                table[code] = (int(value, 16) + step).to_bytes(len(value) // 2, "big").decode("utf-16-be")
    return table


@pytest.mark.browser
def test_printed_contents_say_where_chapters_begin(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path)
    target = tmp_path / "small.pdf"
    assert pdf.write(tmp_path, html, target, browser) == []
    with pikepdf.open(target) as document:
        n_pages = len(document.pages)
        with document.open_outline() as outline:
            first, *others = [item.title for item in outline.root]
            chapters = [below.title for below in outline.root[-1].children]
    pages = {number: text_of(target, number) for number in range(1, n_pages + 1)}
    opening = {"One <first>": "Chapter 1 One <first>", "Two": "Chapter 2 Two", "Deep": "Deep Back to"}
    begins = {title: [n for n, said in pages.items() if words in said] for title, words in opening.items()}
    assert [len(numbers) for numbers in begins.values()] == [1, 1, 1], begins
    assert begins["One <first>"] < begins["Two"] < begins["Deep"]
    for title, (number,) in begins.items():
        assert f"{title} {number} " in pages[2], (
            f"{title} begins on {number}, and the contents say {pages[2]}"
        )
    assert f"deep in the second p. {begins['Deep'][0]}" in pages[3]
    assert f"{n_pages} 2 Two" in pages[n_pages], "folio and running head"
    assert (first, others, chapters) == ("Contents", ["Small", "First part"], ["1 One <first>", "2 Two"])


@pytest.mark.browser
def test_what_does_not_fit_the_paper_is_refused(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    path = html / "notebooks" / "two.html"
    wide = '<p style="white-space:nowrap">' + "wide " * 60 + "</p>"
    path.write_text(path.read_text(encoding="utf-8").replace("<h2>Deep", f"{wide}<h2>Deep"), encoding="utf-8")
    with pytest.raises(pdf_print.Overflow, match="wide wide"):
        pdf.write(tmp_path, html, tmp_path / "wide.pdf", browser)


@pytest.mark.browser
def test_checks_find_what_is_planted(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    target, broken = tmp_path / "small.pdf", tmp_path / "broken.pdf"
    pdf.write(tmp_path, html, target, browser)
    with pikepdf.open(target) as document:
        del document.Root.StructTreeRoot
        del document.Root.Lang
        for font in document.objects:
            if isinstance(font, pikepdf.Dictionary) and font.get("/Type") == "/FontDescriptor":
                for key in pdf_check.FONT_FILES:
                    if key in font:
                        del font[key]
        link = next(a for page in document.pages for a in page.obj.get("/Annots", []) if "/Dest" in a)
        link.Dest = pikepdf.Name("/nowhere")
        document.save(broken)
    said = pdf_check.problems(
        broken, expected={"notebooks-one": 99}, slugs=["notebooks-two", "book-intro"], title="Another"
    )
    for words in (
        "not tagged",
        "no language",
        "not embedded",
        "nowhere",
        "other pages",
        "another order",
        "title",
    ):
        assert any(words in sentence for sentence in said), f"{words}: {said}"
