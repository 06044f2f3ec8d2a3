"""What students get, made from a lab's source: and what they must not get, looked for in what was made."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jupytext
import nbformat

from teachgrade.judge import Key
from teachgrade.lab import Lab
from teachgrade.source import solution_lines, without_markers, without_solutions
from teachgrade.visible_part import export

_ASKS = re.compile(r"\bs\.\w+\(|@hidden")
VISIBLE_SEED = "visible"  # the same for everybody, and never that of marks


class Leak(ValueError):
    """Something that students must not have is in what they would get."""


@dataclass(frozen=True)
class Release:
    """student, instructor: notebooks as text; visible: the data of the visible part."""

    student: str
    instructor: str
    visible: str


def make(lab: Lab, address: str = "") -> Release:
    """The files of a release. address: of the repository, for the set-up cell in Colab. Raises Leak."""
    visible = json.dumps(export(Key(lab, VISIBLE_SEED)), separators=(",", ":")) + "\n"
    made = Release(_notebook(lab, address, solved=False), _notebook(lab, address, solved=True), visible)
    require_no_leak(lab, made.student, made.visible)
    return made


def _notebook(lab: Lab, address: str, *, solved: bool) -> str:
    notebook = jupytext.reads(lab.source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{lab.stem}-{number}".replace("_", "-")
        if cell.cell_type == "code":
            cell.source = without_markers(cell.source) if solved else _blank(lab, cell.source)
            cell.source = cell.source.replace('ADDRESS = ""', f"ADDRESS = {json.dumps(address)}")
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = _about(lab)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": kernel,
            "language_info": {"name": "python"},
            "teachgrade": about,
            # A page of the book, and not run for it: in a student's notebook there is nothing to run yet.
            "mystnb": {"execution_mode": "off"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _about(lab: Lab) -> dict[str, Any]:
    points = {"code": 0.0, "words": 0.0}
    for question in lab.questions:
        points[question.kind] += question.points
    return {
        "schema": 1,
        "lab": lab.stem,
        "title": lab.title,
        "minutes": lab.minutes,
        "questions": len(lab.questions),
        "titles": [question.title for question in lab.questions],
        "points": points["code"],
        "points_by_hand": points["words"],
    }


def _blank(lab: Lab, source: str) -> str:
    defined = {
        node.name for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    question = next((q.id for q in lab.questions if defined & set(q.names)), "this question")
    return without_solutions(source, question)


def require_no_leak(lab: Lab, *texts: str) -> None:
    """Raises Leak: a line of a solution, or a question of the hidden scenarios, is in one of these texts."""
    secrets = solution_lines(lab.source)
    hidden = lab.folder / "hidden.py"
    if hidden.is_file():
        secrets |= _telling_lines(hidden.read_text(encoding="utf-8"))
    held = {line.strip() for text in texts for line in _lines_of(text)}
    found = sorted(secrets & held)
    if found:
        raise Leak(f"{lab.stem}: in what students would get stands {found[0]!r}")


def _lines_of(text: str) -> Iterator[str]:
    """All lines: of JSON, those of every text in it."""
    try:
        tree = json.loads(text)
    except ValueError:
        yield from text.split("\n")
        return
    left = [tree]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield from one.split("\n")
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            # A notebook's source may be a list of lines, with their ends.
            left += one


def _code_lines(text: str) -> set[str]:
    return {line.strip() for line in text.split("\n")}


def _telling_lines(text: str) -> set[str]:
    """Lines of hidden scenarios that ask something: what stands around them may stand in a lab as well."""
    return {line for line in _code_lines(text) if _ASKS.search(line)}
