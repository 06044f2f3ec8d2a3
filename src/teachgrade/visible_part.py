"""The visible part of a lab as plain data: what a student's own check needs, and nothing that solves
anything.

For each visible scenario: what to call with which inputs, what should come, and what each wrong solution
gives instead, with the sentence that names its mistake. No code of a lab is in it, neither solutions nor
scenarios.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from teachgrade.judge import Key
from teachgrade.operations import Op
from teachgrade.scenario import Look
from teachgrade.values import from_json, to_json

SCHEMA = 1


@dataclass(frozen=True)
class Seen:
    """One visible scenario. mistakes: (message, what a solution with this mistake gives)."""

    name: str
    ops: list[Op]
    looks: list[Look]
    expected: list[Any]
    mistakes: list[tuple[str, list[Any]]]


@dataclass(frozen=True)
class Visible:
    """Of one question."""

    title: str
    names: list[str]
    withholds: list[str]
    seen: list[Seen]


def export(key: Key) -> dict[str, Any]:
    """The file's content, as JSON."""
    questions = {}
    for question in key.lab.questions:
        places = [at for at in key.places(question.id) if not key.recorded[at].hidden]
        questions[question.id] = {
            "title": question.title,
            "names": list(question.names),
            "withholds": list(question.withholds),
            "scenarios": [_scenario(key, at) for at in places],
        }
    return {"schema": SCHEMA, "lab": key.lab.stem, "title": key.lab.title, "questions": questions}


def _scenario(key: Key, at: int) -> dict[str, Any]:
    one = key.recorded[at]
    mistakes = [
        {"message": wrong.message, "seen": to_json(key.mistake(at, number))}
        for number, wrong in enumerate(key.wrong)
        if wrong.question == one.question and key.verdict(at, key.mistake(at, number)).message
    ]
    return {
        "name": one.name,
        "ops": to_json(one.ops),
        "looks": [[look.label, look.rtol, look.atol] for look in one.looks],
        "expected": to_json(key.expected[at]),
        "mistakes": mistakes,
    }


def load(stem: str) -> dict[str, Visible]:
    """The questions of a lab. Raises ValueError: there is no such lab, or its file is of another version."""
    file = files("teachgrade") / "visible" / f"{stem}.json"
    if not file.is_file():
        names = sorted(f.name.removesuffix(".json") for f in (files("teachgrade") / "visible").iterdir())
        raise ValueError(f"lab: expected one of {', '.join(n for n in names if '.' not in n)}, got {stem!r}")
    found = json.loads(file.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise ValueError(f"{stem}: written by another version of teachgrade")
    return {name: _question(one) for name, one in found["questions"].items()}


def _question(found: dict[str, Any]) -> Visible:
    seen = [
        Seen(
            one["name"],
            from_json(one["ops"]),
            [Look(*look) for look in one["looks"]],
            from_json(one["expected"]),
            [(m["message"], from_json(m["seen"])) for m in one["mistakes"]],
        )
        for one in found["scenarios"]
    ]
    return Visible(found["title"], found["names"], found["withholds"], seen)
