"""Printing: the assembled document through Chromium, until every page number in it is the one it prints.

A style sheet cannot say on which page another place of the document lies. So the document is printed, the
pages of all destinations are read from the PDF, the numbers are filled in, and it is printed again, until
nothing moves.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pikepdf

ROUNDS = 5

SCRIPT = Path(__file__).with_name("pdf_print.js")


class Overflow(ValueError):
    """Text or a picture is wider than the measure."""


def destinations(pdf: bytes) -> dict[str, int]:
    """The page, from 1, of every place that a link of the document leads to."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        pages = {page.obj.objgen: number for number, page in enumerate(document.pages, start=1)}
        return {name: pages[place[0].objgen] for name, place in places(document).items()}


def places(document: pikepdf.Pdf) -> dict[str, Any]:
    """Named destinations as (page, kind, ...): a dictionary in older PDFs, a tree of names in newer ones."""
    root = document.Root
    found: dict[str, Any] = {}
    if "/Dests" in root:
        found |= {name.removeprefix("/"): place for name, place in root.Dests.items()}
    if "/Names" in root and "/Dests" in root.Names:
        found |= {str(name): place for name, place in pikepdf.NameTree(root.Names.Dests).items()}
    return {name: at.D if isinstance(at, pikepdf.Dictionary) else at for name, at in found.items()}


def print_document(browser: Any, document: Path, *, rounds: int = ROUNDS) -> tuple[bytes, dict[str, int]]:
    """The PDF of an assembled document, and the page of each of its destinations.

    Raises  ValueError: a picture or a font is not found; Overflow: something is wider than the measure
            RuntimeError: page numbers do not settle, or one is wanted of a place that is in no page
    """
    page = browser.new_page(viewport={"width": 605, "height": 900})
    missing: list[str] = []
    page.on("requestfailed", lambda request: missing.append(request.url))
    page.emulate_media(media="print", color_scheme="light")
    page.set_default_timeout(300_000)
    page.goto(document.resolve().as_uri(), wait_until="load")
    page.evaluate("() => document.fonts.ready.then(() => null)")
    if missing:
        raise ValueError(f"not found: {missing[:5]}")
    page.add_script_tag(path=SCRIPT)
    page.evaluate("() => paper.fit()")
    beyond = page.evaluate("() => paper.beyond()")
    if beyond:
        raise Overflow(f"wider than the measure: {beyond[:12]}")
    known: dict[str, int] = {}
    for _ in range(rounds):
        pdf = page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        pages = destinations(pdf)
        if pages == known:
            page.close()
            return pdf, pages
        lost = sorted(set(page.evaluate("() => paper.wanted()")) - set(pages))
        if lost:
            raise RuntimeError(f"no page is known of {lost[:8]}")
        page.evaluate("pages => paper.number(pages)", pages)
        known = pages
    raise RuntimeError(f"page numbers did not settle in {rounds} rounds")
