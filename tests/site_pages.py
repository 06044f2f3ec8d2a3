"""The built book as files: its pages, what they refer to, and what a reader must never see on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(__import__("os").environ.get("BOOK_SITE", ROOT / "_build" / "html"))
VOID = {"img", "br", "hr", "meta", "link", "input", "source", "wbr"}
SILENT = {"script", "style", "math", "noscript", "template"}  # no prose in it
CODE = {"pre", "code", "kbd", "samp", "textarea"}

# What stands in a source and must not stand in prose: directives, roles, fences, TeX.
RAW = re.compile(
    r"(?P<directive>(```|:::+|~~~)\s*\{?\w*)|(?P<role>\{[\w:-]+\}`)|(?P<tex>\\[()\[\]]|\\(frac|sqrt|text|cdot|times|left|mathrm)\b|\$\$)"
    r"|(?P<inline>(?<![\w$])\$[A-Za-z\\{][^$\n]{0,60}\$(?!\w))|(?P<bold>(?<![\w)])\*\*[A-Za-z])|(?P<link>\]\([\w./#:-]+\))"
)


@dataclass
class Page(HTMLParser):
    """What a page holds: ids, headings, addresses it refers to, its prose without code."""

    path: Path
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # <a href>
    loads: list[str] = field(default_factory=list)  # what a browser fetches by itself
    headings: list[int] = field(default_factory=list)
    prose: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if found.get("id"):
            self.ids.append(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in (
            "stylesheet",
            "icon",
            "preload",
            "modulepreload",
            "manifest",
        ):
            self.loads.append(found["href"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not (SILENT | CODE) & set(self._open):
            self.prose += data


@cache
def read(path: Path) -> Page:
    return Page(path)


def pages(site: Path = SITE) -> list[Path]:
    """Every page, but the one that only leads to the first."""
    return [path for path in sorted(site.rglob("*.html")) if path != site / "index.html"]


def broken_links(path: Path, site: Path = SITE) -> Iterator[str]:
    """Links within the book that lead nowhere, to a missing file or a missing anchor."""
    for link in read(path).links:
        address, anchor = urldefrag(link)
        if re.match(r"[a-z]+:", address):
            continue
        target = (path.parent / unquote(address.split("?")[0])).resolve() if address else path
        if (
            not target.is_file()
            or not target.is_relative_to(site.resolve())
            or (anchor and target.suffix == ".html" and unquote(anchor) not in read(target).ids)
        ):
            yield link


def disorder(headings: list[int]) -> str:
    """What is wrong with the levels of headings, if anything.

    >>> disorder([1, 2, 3, 2]), disorder([1, 3]), disorder([2]), disorder([1, 1])
    ('', '1 is followed by 3', 'begins with 2', 'two of level 1')
    """
    if headings[:1] != [1]:
        return f"begins with {headings[0] if headings else 'none'}"
    if headings.count(1) > 1:
        return "two of level 1"
    return next((f"{a} is followed by {b}" for a, b in pairwise(headings) if b > a + 1), "")
