"""What must hold of the printed book, read from the PDF itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pikepdf

from pdf_print import places

FONT_FILES = ("/FontFile", "/FontFile2", "/FontFile3")


def problems(path: Path, *, expected: dict[str, int], slugs: list[str], title: str) -> list[str]:
    """Sentences about what is wrong with the PDF; none where all is well.

    expected  the page, from 1, that the document prints for each place
    slugs     places that must be there, in this order: one for each page of the book
    title     its name
    """
    with pikepdf.open(path) as document:
        found = [*_of_links(document), *_of_fonts(document), *_of_document(document, title)]
        pages = {page.obj.objgen: number for number, page in enumerate(document.pages, start=1)}
        have = {name: pages[place[0].objgen] for name, place in places(document).items()}
    moved = sorted(name for name, number in expected.items() if have.get(name) != number)
    if moved:
        found.append(f"other pages than are printed: {moved[:5]}")
    missing = [slug for slug in slugs if slug not in have]
    if missing:
        found.append(f"not in the document: {missing}")
    elif [have[slug] for slug in slugs] != sorted(have[slug] for slug in slugs):
        found.append("pages of the book stand in another order than in its table of contents")
    return found


def _of_links(document: pikepdf.Pdf) -> list[str]:
    """Every link inside leads to a place of the document."""
    known, lost = set(places(document)), []
    for number, page in enumerate(document.pages, start=1):
        for link in page.obj.get("/Annots", []):
            target = link.get("/Dest")
            action = link.get("/A")
            if action is not None and action.get("/S") == "/GoTo":
                target = action.get("/D")
            if action is not None and str(action.get("/URI", "")).startswith(("file:", "#")):
                lost.append(f"page {number}: a link to {action.URI}, which is on one machine only")
            named = isinstance(target, pikepdf.Name | pikepdf.String)
            if named and str(target).removeprefix("/") not in known:
                lost.append(f"page {number}: a link to {target}, which is nowhere")
    return lost[:10]


def _of_fonts(document: pikepdf.Pdf) -> list[str]:
    """Every font is in the file: it looks the same everywhere."""
    found: dict[str, bool] = {}
    for page in document.pages:
        _fonts(page.obj.get("/Resources", {}), found, set())
    return [f"not embedded: {name}" for name, embedded in found.items() if not embedded]


def _fonts(resources: Any, found: dict[str, bool], seen: set[Any]) -> None:
    for font in resources.get("/Font", {}).values():
        below = font.get("/DescendantFonts")
        described = (below[0] if below else font).get("/FontDescriptor")
        own = font.get("/Subtype") == "/Type3"  # drawn by the file's own procedures
        embedded = own or (described is not None and any(key in described for key in FONT_FILES))
        name = str(font.get("/BaseFont", font.objgen))
        found[name] = found.get(name, True) and embedded  # several fonts may have one name
    for item in resources.get("/XObject", {}).values():
        if item.objgen not in seen and "/Resources" in item:
            seen.add(item.objgen)
            _fonts(item.Resources, found, seen)


def _of_document(document: pikepdf.Pdf, title: str) -> list[str]:
    """Title, language, tags and bookmarks, which readers, and readers of readers, need."""
    root, found = document.Root, []
    if str(document.docinfo.get("/Title", "")) != title:
        found.append(f"its title is not {title!r}")
    if "/Lang" not in root:
        found.append("it names no language")
    if "/StructTreeRoot" not in root or "/MarkInfo" not in root or not root.MarkInfo.get("/Marked"):
        found.append("it is not tagged")
    with document.open_outline() as outline:
        if not outline.root:
            found.append("it has no bookmarks")
    return found
