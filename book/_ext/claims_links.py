"""Where the book treats a claim: links to sections of lessons, and the names of lessons that are to come."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from book_lessons import Lesson, lessons
from claims_data import HEADINGS, TO_COME, Claim

ALONE = "On this page only"


def taught(app: Sphinx, docname: str, places: list[tuple[str, str]], lead: str = "In ") -> list[nodes.Node]:
    """Links to the (lesson, section) pairs that the book has, and the names of those that are to come."""
    found = {lesson.about["stem"]: lesson for lesson in lessons(app)}
    links = [section_link(app, docname, found[stem], section) for stem, section in places if stem in found]
    coming = [TO_COME.get(stem, stem.replace("_", " ")) for stem, _ in places if stem not in found]
    made: list[nodes.Node] = []
    for i, link in enumerate(links):
        made += [nodes.Text("; " if i else lead), link]
    if coming:
        made.append(nodes.Text(f"{'; to' if links else 'To'} come: a chapter on {' and on '.join(coming)}"))
    return made or [nodes.Text(ALONE)]


def counted(app: Sphinx, claims: tuple[Claim, ...]) -> str:
    """How many claims have a section, wait for a lesson, or stand on the page alone."""
    there = {lesson.about["stem"] for lesson in lessons(app)}
    alone = sum(not claim.places for claim in claims)
    linked = sum(any(stem in there for stem, _ in claim.places) for claim in claims)
    waiting = len(claims) - alone - linked
    return (
        f"{linked} link to the section that checks them or teaches how our value is computed; {waiting} wait "
        f"for a chapter that is to come; {alone} stand on this page only."
    )


def section_link(app: Sphinx, docname: str, lesson: Lesson, section: str) -> nodes.reference:
    """A link to a section, by its number or as in HEADINGS. Raises ValueError if there is none."""
    address = app.builder.get_relative_uri(docname, lesson.docname)
    words = f"chapter {lesson.number}"
    if section:
        address += f"#{anchor(heading(lesson.path, section))}"
        words += f", section {section}" if section.isdecimal() else f", “{HEADINGS[section]}”"
    return nodes.reference("", "", nodes.inline("", words), refuri=address, internal=True)


def heading(path: Path, section: str) -> str:
    """The heading of a notebook's section: the one with that number, or that of HEADINGS."""
    title = rf"{section}\. .+" if section.isdecimal() else re.escape(HEADINGS[section])
    for one in _headings(path, path.stat().st_mtime_ns):
        if re.fullmatch(title, one):
            return one
    raise ValueError(f"{path.name} has no section {section!r}")


@cache
def _headings(path: Path, written: int) -> list[str]:
    """Kept: a notebook is a megabyte, and many claims ask for the same one."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"^## (.+?)\s*$", text, flags=re.M)


def anchor(title: str) -> str:
    """The id that docutils gives a section.

    >>> anchor("3. Find the ridge"), anchor("What the sources claim, checked")
    ('find-the-ridge', 'what-the-sources-claim-checked')
    """
    return nodes.make_id(title)
