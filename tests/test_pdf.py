"""tools/pdf.py: what is assembled for paper is whole, and what is printed says the right page numbers."""

from __future__ import annotations

import doctest
import io
import re
import time
from contextlib import nullcontext

import pikepdf
import pytest
from bs4 import BeautifulSoup

import book_pages
import chromium
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


def replaced(html, page, old, new):
    path = html / f"{page}.html"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_markup_that_a_listing_shows_is_text(tmp_path):
    html = made_book.make(tmp_path)
    shown = '&lt;div id="x"&gt; &lt;p id="x"&gt; &lt;a href="#gone"&gt; &lt;i id="notebooks-two--lost"&gt;'
    replaced(html, "notebooks/two", "<h2>Deep", f"<pre>{shown}</pre><h2>Deep")
    document = BeautifulSoup(pdf_assemble.assemble(tmp_path, html), "html.parser")
    holds(document)
    assert '<div id="x">' in document.find(id="notebooks-two").pre.get_text()
    replaced(html, "book/intro", "two.html#deep", "two.html#lost")
    with pytest.raises(ValueError, match="lead nowhere: \\['notebooks-two--lost'"):
        pdf_assemble.assemble(tmp_path, html)


def test_an_id_that_stands_twice_is_refused(tmp_path):
    html = made_book.make(tmp_path)
    (tmp_path / "mark.svg").write_text('<svg id="notebooks-two--deep"/>')
    with pytest.raises(ValueError, match="twice: \\['notebooks-two--deep'"):
        pdf_assemble.assemble(tmp_path, html)


def test_a_page_without_a_heading_is_refused(tmp_path):
    html = made_book.make(tmp_path)
    (html / "notebooks" / "two.html").write_text('<article class="bd-article"><p>Words</p></article>')
    with pytest.raises(ValueError, match=r"two\.html: expected a heading"):
        pdf_assemble.assemble(tmp_path, html)


def test_an_anchor_that_leads_nowhere_stays_one(tmp_path):
    html = made_book.make(tmp_path)
    replaced(html, "notebooks/two", "<h2>Deep", '<a id="mark">anchor</a><h2>Deep')
    document = BeautifulSoup(pdf_assemble.assemble(tmp_path, html), "html.parser")
    assert document.find(id="notebooks-two--mark").attrs == {"id": "notebooks-two--mark"}


def test_an_answer_outside_of_every_section_makes_no_heading(tmp_path):
    html = made_book.make(tmp_path)
    replaced(html, "notebooks/one", "</article>", "<details><p>Late.</p></details></article>")
    document = BeautifulSoup(pdf_assemble.assemble(tmp_path, html), "html.parser")
    holds(document)
    end = document.select_one("#notebooks-one .answers")
    assert [heading.get_text() for heading in end.select(".depth-2, .depth-3")] == ["Answers", "Own section"]
    assert [answer.get_text(" ") for answer in end.select(".answer")][1].split() == ["Answer", "000", "Late."]


def test_the_subtitle_is_what_follows_the_colon(tmp_path):
    html = made_book.make(tmp_path)
    assert pdf_assemble.title_of(tmp_path, html).subtitle == "Made for a test"
    (tmp_path / "CITATION.cff").unlink()
    title = pdf_assemble.title_of(tmp_path, html)
    assert (title.subtitle, title.version) == ("", "")


def one_page():
    """A PDF with bookmarks, as Chromium would hand it over."""
    made = io.BytesIO()
    with pikepdf.new() as document:
        document.add_blank_page()
        with document.open_outline() as outline:
            outline.root.append(pikepdf.OutlineItem("3D attention", 0))
            outline.root[0].children.append(pikepdf.OutlineItem("4bit weights", 0))
            outline.root[0].children[0].children.append(pikepdf.OutlineItem("Below", 0))
        document.save(made)
    return made.getvalue()


def test_what_is_finished_is_the_same_each_time_and_its_bookmarks_folded(tmp_path):
    title = pdf_assemble.title_of(tmp_path, made_book.make(tmp_path))
    printed = one_page()
    for name in ("a", "b"):
        pdf.finish(printed, tmp_path / f"{name}.pdf", title)
        time.sleep(1.1)  # an id that is not made from the file alone has the second in it
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    with pikepdf.open(tmp_path / "a.pdf") as document:
        assert str(document.docinfo["/Author"]) == "Its authors"
        with document.open_outline() as outline:
            (item,) = outline.root
            assert (item.title, item.is_closed) == ("3D attention", True)
            assert [(below.title, below.is_closed) for below in item.children] == [("4bit weights", True)]


def test_a_pdf_that_fails_its_check_is_not_put_in_place(tmp_path, monkeypatch, capsys):
    html = made_book.make(tmp_path)
    target = html.parent / pdf.NAME
    monkeypatch.setattr(chromium, "browser", lambda: nullcontext(None))
    monkeypatch.setattr(pdf_print, "print_document", lambda *_: (one_page(), {}))
    arguments = ["--root", str(tmp_path)]
    assert pdf.main(arguments) == 1  # one empty page is not the book
    said = capsys.readouterr()
    assert "PDF: not in the document" in said.err
    assert str(pdf.unchecked(target)) in said.err
    assert (said.out, target.exists(), pdf.unchecked(target).is_file()) == ("", False, True)
    monkeypatch.setattr(pdf_check, "problems", lambda *_, **__: [])
    assert pdf.main(arguments) == 0
    assert "1 pages" in capsys.readouterr().out
    assert (target.is_file(), pdf.unchecked(target).exists()) == (True, False)


@pytest.mark.parametrize("embedded", [(True, False), (False, True), (True, True)])
def test_one_font_of_a_name_that_is_not_in_the_file_is_found(embedded):
    with pikepdf.new() as document:
        for whole in embedded:
            described = pikepdf.Dictionary(Type=pikepdf.Name.FontDescriptor)
            if whole:
                described.FontFile2 = document.make_stream(b"outlines")
            font = pikepdf.Dictionary(
                Type=pikepdf.Name.Font, BaseFont=pikepdf.Name.Arial, FontDescriptor=described
            )
            page = document.add_blank_page()
            page.obj.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        assert pdf_check._of_fonts(document) == ([] if all(embedded) else ["not embedded: /Arial"])


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
def test_bookmarks_of_long_titles_have_their_spaces(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    long = " ".join(f"{number}bit words that need lines" for number in range(2, 8))
    replaced(html, "notebooks/two", "Two</h1>", f"{long}</h1>")
    assert pdf.write(tmp_path, html, tmp_path / "small.pdf", browser) == []
    with pikepdf.open(tmp_path / "small.pdf") as document, document.open_outline() as outline:
        assert outline.root[-1].children[-1].title == f"2 {long}"


@pytest.mark.browser
def test_what_does_not_fit_the_paper_is_refused(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    path = html / "notebooks" / "two.html"
    wide = '<p style="white-space:nowrap">' + "wide " * 60 + "</p>"
    path.write_text(path.read_text(encoding="utf-8").replace("<h2>Deep", f"{wide}<h2>Deep"), encoding="utf-8")
    with pytest.raises(pdf_print.Overflow, match="wide wide"):
        pdf.write(tmp_path, html, tmp_path / "wide.pdf", browser)


@pytest.mark.browser
def test_what_is_too_wide_becomes_smaller_or_breaks(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    wider = f'<table class="wider"><tr>{"<td>TWELVELETTERS</td>" * 16}</tr></table>'
    replaced(html, "notebooks/two", "<h2>Deep", f"{wider}<h2>Deep")
    document = tmp_path / "book.html"
    document.write_text(pdf_assemble.assemble(tmp_path, html), encoding="utf-8")
    page = browser.new_page(viewport={"width": 605, "height": 900})
    page.emulate_media(media="print")
    page.goto(document.as_uri())
    page.add_script_tag(path=pdf_print.SCRIPT)

    def sizes(selector):
        look = "nodes => nodes.map(node => parseFloat(getComputedStyle(node).fontSize))"
        return page.eval_on_selector_all(f"#notebooks-two {selector}", look)

    before = {kind: sizes(kind) for kind in ("table", ".formula")}
    assert page.evaluate("() => paper.beyond().length") >= 3
    page.evaluate("() => paper.fit()")
    assert page.evaluate("() => paper.beyond()") == []
    (wider_before, narrow_before, wide_before), (wider_after, narrow, wide) = before["table"], sizes("table")
    assert wider_after < wide < wide_before == wider_before
    assert narrow == narrow_before
    assert page.eval_on_selector_all(".breaks", "nodes => nodes.map(node => node.className)") == [
        "wider short breaks"
    ]
    (plain_before, long_before), (plain, long) = before[".formula"], sizes(".formula")
    assert plain == plain_before
    assert 0.6 * long_before <= long < long_before
    page.close()


@pytest.mark.browser
def test_a_missing_picture_is_called_missing(browser, tmp_path):  # noqa: F811
    html = made_book.make(tmp_path, pages_of_two=1)
    (html / "_images" / "light.png").unlink()
    with pytest.raises(ValueError, match=r"^not found: \['file://.*light\.png'\]$") as raised:
        pdf.write(tmp_path, html, tmp_path / "small.pdf", browser)
    assert raised.type is ValueError


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
        del document.Root.Outlines
        link, other = [a for page in document.pages for a in page.obj.get("/Annots", []) if "/Dest" in a][:2]
        link.Dest = pikepdf.Name("/nowhere")
        other.A = pikepdf.Dictionary(S=pikepdf.Name.URI, URI="file:///home/one/book.html")
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
        "no bookmarks",
        "file:///home/one/book.html, which is on one machine only",
    ):
        assert any(words in sentence for sentence in said), f"{words}: {said}"
    said = pdf_check.problems(broken, expected={}, slugs=["book-intro", "gone"], title="Small & made")
    assert "not in the document: ['gone']" in said
