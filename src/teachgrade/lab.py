"""A lab: its questions, its source with solutions, scenarios, and banks of wrong and of other right
solutions.

    labs/<stem>/
        lab.toml        what it is called, and its questions
        source.py       a notebook (py:percent) with solution regions
        visible.py      scenarios that students have too
        hidden.py       scenarios for marks
        wrong/q1_<name>.py   a solution of q1 with one misconception; its docstring names it, for the student
        right/q1_<name>.py   another correct solution
        slow/q7_<name>.py    the correct and slow solution beside which those of q7 are timed, if time matters

A file of a bank defines only what differs; everything else is the reference's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from teachgrade.cells import is_shown_only
from teachgrade.operations import play
from teachgrade.scenario import Recorded, Scenario, scenarios_of
from teachgrade.source import without_markers
from teachgrade.values import from_json, to_json

SCHEMA = 1
KINDS = ("code", "words")


class LabError(ValueError):
    """A lab that is not as it should be."""


@dataclass(frozen=True)
class Question:
    """One question.

    names      what a solution must define
    kind       "code", or "words": answered in prose, marked by hand
    limit_s    seconds for all of its scenarios together
    withholds  names of torch that a solution must do without: told to the student, refused while grading
    at_most    the share of the time of the lab's slow version that a solution may take; 0: time does not
               matter
    """

    id: str
    title: str
    points: float
    names: tuple[str, ...] = ()
    kind: str = "code"
    limit_s: float = 20.0
    withholds: tuple[str, ...] = ()
    at_most: float = 0.0


@dataclass(frozen=True)
class Solution:
    """One of a bank. message: of a wrong one, the misconception in a sentence to the student."""

    question: str
    name: str
    message: str
    names: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Lab:
    """packages: distributions that a submission may import; modules: of teachkit, likewise."""

    folder: Path
    stem: str
    title: str
    minutes: int
    questions: tuple[Question, ...]
    packages: tuple[str, ...] = ("torch", "numpy")
    modules: tuple[str, ...] = ()
    private: Path | None = None

    def question(self, name: str) -> Question:
        """Raises LabError: there is none of that name."""
        found = next((q for q in self.questions if q.id == name), None)
        if found is None:
            raise LabError(
                f"{self.stem}: expected one of {', '.join(q.id for q in self.questions)}, got {name!r}"
            )
        return found

    @cached_property
    def source(self) -> str:
        return (self.folder / "source.py").read_text(encoding="utf-8")

    @cached_property
    def reference(self) -> dict[str, Any]:
        """What the solutions define."""
        names: dict[str, Any] = {"__name__": f"{self.stem}_reference"}
        for place, code in enumerate(code_cells(without_markers(self.source)), 1):
            _run(code, f"{self.stem}/source.py, code cell {place}", names)
        return names

    @cached_property
    def scenarios(self) -> tuple[Scenario, ...]:
        files = [self.folder / "visible.py", self.folder / "hidden.py"]
        if self.private is not None:
            files.append(self.private / f"{self.stem}.py")
        found = [one for file in files if file.is_file() for one in scenarios_of(_names_of(file))]
        known = {q.id for q in self.questions}
        if stray := [one.name for one in found if one.question not in known]:
            raise LabError(f"{self.stem}: scenarios of no question: {', '.join(stray)}")
        return tuple(found)

    def bank(self, kind: str) -> list[Solution]:
        """ "wrong" or "right" ones."""
        found = []
        for file in sorted((self.folder / kind).glob("*.py")):
            names = dict(self.reference)
            names["__doc__"] = ""
            _run(file.read_text(encoding="utf-8"), str(file), names)
            question, _, name = file.stem.partition("_")
            message = " ".join((names["__doc__"] or "").split())
            found.append(Solution(self.question(question).id, name, message, names))
        return found

    def slow(self, question: str) -> str:
        """The code beside which a question's solutions are timed. Raises LabError: not exactly one file."""
        files = sorted((self.folder / "slow").glob(f"{question}_*.py"))
        if len(files) != 1:
            raise LabError(f"{self.stem}: expected one file slow/{question}_<name>.py, got {len(files)}")
        return files[0].read_text(encoding="utf-8")

    def record(self, seed: str, question: str | None = None) -> list[Recorded]:
        """All scenarios with their inputs, in order."""
        wanted = [one for one in self.scenarios if question in (None, one.question)]
        return [recorded for one in wanted for recorded in one.record(f"{self.stem}/{seed}")]

    @cached_property
    def key(self) -> str:
        """Of the lab's content: another one, other marks."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in (".py", ".toml"))
        files += [self.private / f"{self.stem}.py"] if self.private is not None else []
        digest = sha256()
        for file in files:
            if file.is_file():
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()


def load(folder: Path, private: Path | None = None) -> Lab:
    """Read a lab's folder; private: a folder with more scenarios, in <stem>.py. Raises LabError."""
    # Here, since a student's check does not read labs, and need not have it.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    folder = folder.resolve()
    try:
        found = tomllib.loads((folder / "lab.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise LabError(f"{folder}: {error}") from None
    if found.pop("schema", None) != SCHEMA:
        raise LabError(f"{folder / 'lab.toml'}: schema: expected {SCHEMA}")
    asked = found.pop("question", [])
    try:
        questions = tuple(_question(one) for one in asked)
        lab = Lab(
            folder,
            questions=questions,
            private=private,
            **{key: _frozen(value) for key, value in found.items()},
        )
    except TypeError as error:
        raise LabError(f"{folder / 'lab.toml'}: {error}") from None
    ids = [q.id for q in questions]
    if not ids or len(set(ids)) < len(ids) or lab.stem != folder.name:
        raise LabError(
            f"{folder / 'lab.toml'}: expected questions with different ids, and the folder's name as stem"
        )
    return lab


def _question(found: dict[str, Any]) -> Question:
    one = Question(**{key: _frozen(value) for key, value in found.items()})
    if one.kind not in KINDS or one.points <= 0 or (one.kind == "code") != bool(one.names):
        raise LabError(f"question {one.id}: expected a kind of {KINDS}, points above 0, and names for code")
    return one


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def code_cells(source: str) -> list[str]:
    """The code of a py:percent notebook, cell by cell, without those that only show something."""
    import jupytext

    cells = jupytext.reads(source, fmt="py:percent").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return [text for text in code if not is_shown_only(text)]


def _names_of(file: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": file.stem}
    _run(file.read_text(encoding="utf-8"), str(file), names)
    return names


def _run(code: str, file: str, names: dict[str, Any]) -> None:
    exec(compile(code, file, "exec"), names)


def seen_by(names: dict[str, Any], recorded: Recorded) -> list[Any]:
    """What a trusted solution gives, as it would have come through a pipe."""
    ops = _through(recorded.ops)
    return list(_through(play(ops, names)))


def _through(value: Any) -> Any:
    return from_json(to_json(value))
