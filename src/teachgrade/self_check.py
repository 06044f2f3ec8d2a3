"""check("attention.q1", softmax): in the notebook, at once, on what is visible. It runs in the student's
own kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

from teachgrade.compare import NOT_YET
from teachgrade.judge import first_difference
from teachgrade.operations import play
from teachgrade.scenario import Recorded
from teachgrade.values import Raised, from_json, to_json
from teachgrade.visible_part import Seen, Visible, load
from teachgrade.withheld import lent

_SHOWN = 300


@dataclass(frozen=True)
class Checked:
    """What a check found; shown as the last line of a cell."""

    question: str
    passed: bool
    text: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return self.text


def check(question: str, *solutions: Any) -> Checked:
    """Try a solution on the visible part of a question, named "lab.question".

    solutions  the functions or classes that the question asks for, in the order in which it names them
    Raises     ValueError: no such question, or another number of solutions
    """
    lab, _, name = question.partition(".")
    questions = load(lab)
    if name not in questions or not questions[name].names:
        known = ", ".join(f"{lab}.{q}" for q, one in questions.items() if one.names)
        raise ValueError(f"question: expected one of {known}, got {question!r}")
    asked = questions[name]
    if len(solutions) != len(asked.names):
        raise ValueError(f"{question}: expected {', '.join(asked.names)}, got {len(solutions)} solutions")
    return judge(question, asked, dict(zip(asked.names, solutions, strict=True)))


def judge(question: str, asked: Visible, names: dict[str, Any]) -> Checked:
    """The same for a namespace."""
    for one in asked.seen:
        with torch.random.fork_rng(devices=[]), lent(asked.withholds):
            torch.manual_seed(0)
            seen = from_json(to_json(play(one.ops, names, _files(names))))
        recorded = Recorded(question, one.name, False, one.ops, one.looks)
        found = first_difference(recorded, one.expected, seen)
        if found == NOT_YET:
            return Checked(question, False, f"{question}: {NOT_YET}.")
        if found:
            return Checked(question, False, _explained(question, one, recorded, seen, found))
    n = len(asked.seen)
    cases = f"the {n} visible case{'s' * (n != 1)}"
    text = f"{question}: as it should be on {cases}. More are tried when it is graded."
    return Checked(question, True, text)


def _explained(question: str, one: Seen, recorded: Recorded, seen: list[Any], found: str) -> str:
    mistake = next(
        (text for text, gives in one.mistakes if not first_difference(recorded, gives, seen)), None
    )
    lines = [f"{question}: not yet. {mistake or found}"]
    for look, expected, got in zip(one.looks, one.expected, seen, strict=False):
        if first_difference(Recorded(question, "", False, [], [look]), [expected], [got]):
            lines += [f"  {look.label}", f"    expected  {_short(expected)}", f"    got       {_short(got)}"]
            break
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        # On one line: the shape, and the numbers if they are few.
        numbers = value.flatten()[:8].tolist()
        shown = ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in numbers)
        dtype, more = str(value.dtype).removeprefix("torch."), " ..." * (value.numel() > 8)
        return f"{tuple(value.shape)} {dtype}: {shown}{more}"
    if isinstance(value, Raised):
        # A cell's file has a name that says nothing.
        line = ", at line " + value.line.partition(", line ")[2] if value.line else ""
        return f"{value.name}: {value.message}{line}"[:_SHOWN]
    return repr(value)[:_SHOWN]


def _files(names: dict[str, Any]) -> list[str]:
    """Where the code of these functions and classes stands."""
    functions = [f for one in names.values() for f in (one, *getattr(one, "__dict__", {}).values())]
    return sorted({f.__code__.co_filename for f in functions if isinstance(f, FunctionType)})
