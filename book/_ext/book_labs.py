"""What the book says about its labs, from what is derived of them: the student's notebook is the page.

A lab is a notebook of the table of contents with `metadata.teachgrade`. This adds

- under each lab's title: how long it takes, its questions and points, its lesson, its file,
  and Colab where it can be opened;
- under each lesson's title that has a lab: a link to it;
- the directive `labs`: all labs in order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import book_lessons


@dataclass(frozen=True)
class Lab:
    """One lab as its notebook describes itself."""

    docname: str
    path: Path
    about: dict[str, Any]

    @property
    def stem(self) -> str:
        return str(self.about["lab"])

    @property
    def title(self) -> str:
        return str(self.about["title"])


def labs(app: Sphinx) -> list[Lab]:
    """The labs in the order of the table of contents."""
    found = []
    for _, docname in book_lessons.contents(app):
        path = Path(app.srcdir) / f"{docname}.ipynb"
        if docname.startswith("labs/") and path.is_file():
            about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("teachgrade")
            if about:
                found.append(Lab(docname, path, about))
    return found


def facts(about: dict[str, Any]) -> str:
    """The sentence under a lab's title.

    >>> facts({"minutes": 90, "questions": 7, "points": 15.0, "points_by_hand": 2.0})
    '90 minutes, 7 questions, 17 points, 2 of them for an answer in words.'
    """
    points, by_hand = about["points"] + about["points_by_hand"], about["points_by_hand"]
    words = f", {by_hand:g} of them for an answer in words" if by_hand else ""
    return f"{about['minutes']} minutes, {about['questions']} questions, {points:g} points{words}."


def add_facts(app: Sphinx, doctree: nodes.document) -> None:
    """Put the facts of a lab under its title, and a link to a lesson's lab under those of the lesson."""
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is None:
        return
    all_labs, docname = labs(app), app.env.docname
    lab = next((one for one in all_labs if one.docname == docname), None)
    if lab is not None:
        title.parent.insert(title.parent.index(title) + 1, _box(app, lab))
    for lesson in book_lessons.lessons(app):
        mine = next((one for one in all_labs if one.stem == lesson.about["lab"]), None)
        if lesson.docname == docname and mine is not None:
            box = next(n for n in doctree.findall(nodes.container) if "lesson-facts" in n["classes"])
            line = nodes.paragraph(
                "", "Its lab: ", link_to(mine.docname, docname, mine.title), nodes.Text(".")
            )
            box += line


def _box(app: Sphinx, lab: Lab) -> nodes.Element:
    first = nodes.paragraph(text=facts(lab.about) + " ")
    lesson = next((one for one in book_lessons.lessons(app) if one.about["lab"] == lab.stem), None)
    if lesson is not None:
        first += nodes.Text("It belongs to ")
        first += book_lessons.link_to(lesson, lab.docname, f"chapter {lesson.number}, {lesson.title}")
        first += nodes.Text(".")
    files = nodes.paragraph(text="Fill it in: download the ")
    link = addnodes.download_reference(reftarget=f"/{lab.docname}.ipynb")
    link += nodes.inline("", "notebook")
    files += link
    files += book_lessons.run_elsewhere(app, lab.docname)
    files += nodes.Text(".")
    return nodes.container("", first, files, classes=["lesson-facts"])


def link_to(target: str, docname: str, text: str) -> nodes.Element:
    link = addnodes.pending_xref(
        "",
        refdoc=docname,
        refdomain="std",
        reftype="doc",
        reftarget=f"/{target}",
        refexplicit=True,
        refwarn=True,
    )
    link += nodes.inline("", text)
    return link


class LabList(SphinxDirective):
    """Each lab with its length, and what its questions are about."""

    def run(self) -> list[nodes.Node]:
        found = labs(self.env.app)
        for path in [Path(self.env.app.confdir) / "_toc.yml", *(lab.path for lab in found)]:
            self.env.note_dependency(str(path))
        if not found:
            raise self.warning("the table of contents has no lab")
        made = nodes.definition_list(classes=["lesson-list"])
        for lab in found:
            term = nodes.term("", "", link_to(lab.docname, self.env.docname, lab.title))
            term += nodes.Text(f" · {lab.about['minutes']} minutes")
            text = f"{'; '.join(lab.about['titles'])}."
            made += nodes.definition_list_item(
                "", term, nodes.definition("", nodes.paragraph(text=text[0].upper() + text[1:]))
            )
        return [made]


def setup(app: Sphinx) -> dict[str, Any]:
    # After the facts of lessons, at 400, and before Sphinx collects the downloads, at 500.
    app.connect("doctree-read", add_facts, priority=450)
    app.add_directive("labs", LabList)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
