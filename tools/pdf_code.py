"""Listings for paper: where a page may end in one, and how a line that is too long goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from bs4 import BeautifulSoup, Tag

# The words of code that pdf.css colours, by Pygments' short names. Other spans would only swell the document.
COLOURED = re.compile(
    "k[cdnrt]?|ow|nt|s[12abdehirsx]?|dl|m[ifhbo]?|il|n[fcde]|fm|c[1hmps]?|g[oprt]",
)
CODE_COLUMNS = 95  # what a line of code has room for at the size of pdf.css
SHORT_CODE = 16  # lines; a shorter listing is not divided between two pages
SHORT_RUN = 9  # and a run of lines without a blank one between them


def classes(node: Tag) -> list[str]:
    return [word for words in node.get_attribute_list("class") if words for word in str(words).split()]


def add_class(node: Tag, name: str) -> None:
    node["class"] = " ".join([*classes(node), name])


def listing(pre: Tag) -> None:
    """Code in runs between blank lines, so that a page ends there if it can; long lines hang."""
    for span in pre.find_all("span"):
        if not any(map(COLOURED.fullmatch, classes(span))) and not span.get("style"):
            span.unwrap()
    lines = pre.decode_contents().rstrip().split("\n")
    if len(lines) <= SHORT_CODE:
        add_class(pre, "short")
    out: list[str] = []
    blank = False
    for run in _runs(lines):
        if not run:
            blank = True
            continue
        kind = ["run", *["short"] * (len(run) <= SHORT_RUN), *["apart"] * (blank and bool(out))]
        out.append(f'<span class="{" ".join(kind)}">{"".join(map(_line, run)).rstrip()}</span>')
        blank = False
    pre.clear()
    # A parser keeps white space as it is within <pre> only.
    whole = BeautifulSoup(f"<pre>{''.join(out)}</pre>", "html.parser").pre
    for node in list(whole.contents if whole else []):
        pre.append(node)


def _runs(lines: list[str]) -> Iterator[list[str]]:
    """Lines that follow each other, and an empty list for each blank line; a span is not cut."""
    run: list[str] = []
    depth = 0
    for line in lines:
        if not line.strip() and depth == 0:
            if run:
                yield run
            run = []
            yield []
            continue
        run.append(line)
        depth += line.count("<span") - line.count("</span")
    if run:
        yield run


def _line(line: str) -> str:
    text = unescape(re.sub(r"<[^>]*>", "", line))
    if len(text) <= CODE_COLUMNS or line.count("<span") != line.count("</span"):
        return line + "\n"
    indent = len(text) - len(text.lstrip(" ")) + 4
    return f'<span class="long" style="padding-left:{indent}ch;text-indent:-{indent}ch">{line}</span>'
