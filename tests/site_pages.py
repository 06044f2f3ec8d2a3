"""The built book as files: its pages, what they refer to, and what a reader must never see on them.

BOOK_SITE names another built book to look at than that of the repository. Where BOOK_REQUIRED is set, tests
of pages fail, rather than are skipped, if the book is missing or older than what it is made of.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(os.environ.get("BOOK_SITE", ROOT / "_build" / "html"))
MADE_OF = ("book", "notebooks", "labs", "src", "_toc.yml", "_config.yml", "CHANGELOG.md", "CITATION.cff")
KINDS = {".md", ".py", ".ipynb", ".bib", ".cff", ".css", ".js", ".svg", ".html", ".toml", ".json", ".yml"}
VOID = {"img", "br", "hr", "meta", "link", "input", "source", "wbr"}
SILENT = {"script", "style", "math", "noscript", "template"}  # no prose in it
CODE = {"pre", "code", "kbd", "samp", "textarea"}

# What stands in a source and must not stand in prose: directives, roles, fences, TeX.
RAW = re.compile(
    r"(?P<directive>(```|:::+|~~~)\s*\{?\w*)|(?P<role>\{[\w:-]+\}`)|(?P<tex>\\[()\[\]]|\\(frac|sqrt|text|cdot|times|left|mathrm)\b|\$\$)"
    r"|(?P<inline>(?<![\w$])\$[A-Za-z\\{][^$\n]{0,60}\$(?!\w))|(?P<bold>(?<![\w)])\*\*[A-Za-z])|(?P<link>\]\([\w./#:-]+\))"
)


def missing() -> str:
    """Why pages cannot be tested: the reason to skip, "" if there is none."""
    if "BOOK_SITE" in os.environ:
        return "" if pages() else f"no built book in {SITE}"
    passed = ROOT / "build" / "book" / "passed"  # written by each build that passes
    if not passed.is_file() or not pages():
        return "no built book: run `make book` first"
    built = passed.stat().st_mtime
    newer = next((path for path in _sources() if path.stat().st_mtime > built), None)
    return f"{newer.relative_to(ROOT)} is newer than the book: run `make book` first" if newer else ""


def _sources() -> Iterator[Path]:
    for top in (ROOT / name for name in MADE_OF):
        yield from (p for p in (top.rglob("*") if top.is_dir() else [top]) if p.suffix in KINDS)


def skip_or_fail() -> None:
    """What a fixture of tests that need the built book calls first."""
    reason = missing()
    if reason and os.environ.get("BOOK_REQUIRED"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@dataclass
class Page(HTMLParser):
    """What a page holds: ids, headings, addresses it refers to, its prose without code, its <meta>."""

    path: Path
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # <a href>
    loads: list[str] = field(default_factory=list)  # what a browser fetches by itself
    headings: list[int] = field(default_factory=list)
    prose: str = ""
    about: dict[str, str] = field(default_factory=dict)  # <meta>, by name or property

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if found.get("id"):
            self.ids.append(found["id"])
        if tag == "meta" and "content" in found:
            self.about[found.get("name") or found.get("property", "")] = found["content"]
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
