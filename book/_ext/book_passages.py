"""What stands under each heading of a page: the search shows it around the words that it found.

One script a page, _static/passages/<page>.js, which a reader's browser asks for when that page is among the
answers. A script, since a page from disk may not fetch the files beside it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

FOLDER = "_static/passages"
NO_TEXT = re.compile(r"<(script|style|svg)\b.*?</\1>", re.S)
UNREAD = frozenset(["math", "noscript"])
HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
IN_A_LINE = frozenset(["a", "abbr", "b", "code", "em", "i", "mark", "q", "span", "strong", "sub", "sup", "u"])


@dataclass
class Section:
    """A section's anchor, and pieces of its heading and its text; what its own sections say is theirs."""

    anchor: str
    heading: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def passage(self) -> tuple[str, str, str]:
        heading, text = (re.sub(r"\s+", " ", "".join(part)).strip() for part in (self.heading, self.text))
        return self.anchor, heading, text


class Reader(HTMLParser):
    """The sections of a page in one pass: a tree of its elements takes several times as long."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[Section] = []
        self.within: list[Section] = []
        self.in_heading = False
        self.unread = ""  # the element we are in that nobody reads, and how many of its name are open
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if self.unread:
            self.depth += tag == self.unread
        elif tag in UNREAD or "headerlink" in attributes.get("class", "").split():
            self.unread, self.depth = tag, 1
            self.put("…" if tag == "math" else "")
        elif tag == "section":
            self.enter(attributes.get("id", ""))
        else:
            self.in_heading |= tag in HEADINGS and bool(self.within) and not self.within[-1].heading
            self.put("" if tag in IN_A_LINE else " ")

    def handle_endtag(self, tag: str) -> None:
        if self.unread:
            self.depth -= tag == self.unread
            self.unread = self.unread if self.depth else ""
        elif tag == "section":
            self.within.pop()
        else:
            self.put("" if tag in IN_A_LINE else " ")
            self.in_heading &= tag not in HEADINGS

    def handle_data(self, data: str) -> None:
        self.put("" if self.unread else data)

    def enter(self, anchor: str) -> None:
        """A section without an anchor belongs to the one around it."""
        if self.within and not anchor:
            self.within.append(self.within[-1])
        else:
            self.sections.append(Section(anchor))
            self.within.append(self.sections[-1])

    def put(self, text: str) -> None:
        if self.within:
            (self.within[-1].heading if self.in_heading else self.within[-1].text).append(text)


def passages(body: str) -> list[tuple[str, str, str]]:
    """(anchor, heading, text) of each section of a page, in order.

    >>> passages('<section id="a"><h1>A</h1>One <b>two</b>.<section id="b"><h2>B</h2>3</section></section>')
    [('a', 'A', 'One two.'), ('b', 'B', '3')]
    """
    reader = Reader()
    reader.feed(NO_TEXT.sub("", body))
    reader.close()
    return [section.passage() for section in reader.sections]


def write(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """The page's script; lists that Sphinx makes, such as the index, have none."""
    if doctree is None:
        return
    path = Path(app.outdir) / FOLDER / f"{pagename}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    page, found = (json.dumps(part, ensure_ascii=False) for part in (pagename, passages(context["body"])))
    path.write_text(f"window.bookPassages({page}, {found});\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", write, priority=950)  # after those that change the page's body
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
