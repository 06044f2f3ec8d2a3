"""The passages that the search shows: read from a page's body, and kept beside every page of the book."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import book_passages
import pytest
from book_passages import passages
from bs4 import BeautifulSoup

import site_pages
from site_pages import SITE, read

OF_SPHINX = ("genindex", "search")  # lists, in which nothing stands
WRITTEN = [path for path in site_pages.pages() if path.stem not in OF_SPHINX]


def test_examples() -> None:
    done = doctest.testmod(book_passages)
    assert (done.failed, done.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("inside", "heading", "text"),
    [
        ("", "", ""),
        ("<h2>On <code>x</code><a class=headerlink href=#a>#</a></h2>y", "On x", "y"),
        ("<p>one</p><p>two</p>", "", "one two"),
        ("<td>1</td><td>2</td><br>3", "", "1 2 3"),
        ("by <math><mi>d</mi><mtext>x</mtext></math>, then", "", "by …, then"),
        ("a &lt; b &amp; c", "", "a < b & c"),
        ("<script>if (1 < 2) '</p>'</script><style>p{}</style>x<svg><text>y</text></svg>", "", "x"),
        ("<noscript>no <noscript>no</noscript> no</noscript>yes", "", "yes"),
        ("<h1>A</h1><figure><h2>F</h2></figure>t", "A", "F t"),
        ("1<section>2</section>3", "", "123"),
    ],
)
def test_what_is_read_of_a_section(inside: str, heading: str, text: str) -> None:
    assert passages(f"<p>Outside.</p><section id=a>{inside}</section>Outside.") == [("a", heading, text)]


def test_a_section_has_its_own_text_and_comes_in_its_place() -> None:
    c = "<section id=c><h3>C</h3>3</section>"
    b = f"<section id=b><h2>B</h2>2{c}4</section>"
    body = f"<section id=a><h1>A</h1>1{b}5</section><section id=d></section>"
    assert passages(body) == [("a", "A", "15"), ("b", "B", "24"), ("c", "C", "3"), ("d", "", "")]


def kept(path: Path) -> list[tuple[str, str, str]]:
    """What the page's script holds."""
    name = path.relative_to(SITE).with_suffix("").as_posix()
    script = (SITE / book_passages.FOLDER / f"{name}.js").read_text(encoding="utf-8")
    match = re.fullmatch(r"window\.bookPassages\((\".*?\"), (\[.*\])\);\n", script)
    assert match, script[:100]
    assert json.loads(match[1]) == name
    return [tuple(passage) for passage in json.loads(match[2])]


def words(text: str) -> str:
    """Words alone, one space around each, so that what stands in a text is found whole."""
    return " ".join(["", *re.findall(r"[^\W_]+", text), ""])


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.relative_to(SITE).with_suffix("").as_posix())
def test_every_section_of_every_page_is_kept(path: Path) -> None:
    site_pages.skip_or_fail()
    found = kept(path)
    assert {anchor for anchor, _, _ in found} <= set(read(path).ids)
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    for other in soup.select("main .headerlink, main math, main script, main style, main svg, main noscript"):
        other.decompose()
    headings = soup.select("main section[id] > :is(h1, h2, h3, h4, h5, h6):first-of-type")
    kept_headings = [words(heading) for _, heading, _ in found]
    assert headings
    assert [h for h in (words(heading.get_text()) for heading in headings) if h not in kept_headings] == []
    texts = [words(text) for _, _, text in found]
    paragraphs = [words(p.get_text()) for p in soup.select("main section[id] p")]
    assert [p for p in paragraphs if not any(p in text for text in texts)] == []
