"""Questions on a lesson, answered in the page: the Python face of questions.js.

The questions of a lesson are data, `teachkit/questions/<stem>.json`: a list under `questions`, each with

    id         its name in the reader's progress: once published it stays
    kind       "choice" or "number"
    objective  which of the lesson's objectives it tests, counted from 1
    ask        the question; text between backticks is set as code

a choice with `options`, each with `text` and `says` (what is said to whoever picks it), one of them
`"right": true`, and a `check` that is true where an option states a figure; and a number with

    unit            what is counted, "" for a ratio
    answer, check   the number, and the Python expression over tk and math that it comes from
    tolerance       how far off is still right, as a share of the answer; 0 for a count
    tolerance_why   the reason for it
    why, hint       said after the right answer, and after one that nobody expected
    wrong           expected mistakes, each with value, check and says; where nothing is computed, such as a
                    number that is only taken from the question, the check is that number

tests/test_questions.py evaluates every `check`; the page gets none of them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from teachkit.figures.html import Figure, show

Question = Mapping[str, Any]
COMMON = {"id", "kind", "objective", "ask"}
FIELDS = {
    "choice": COMMON | {"options"},
    "number": COMMON | {"unit", "answer", "check", "tolerance", "tolerance_why", "why", "hint", "wrong"},
}
OPTIONAL = {"choice": {"check"}, "number": set[str]()}
LETTERS = "abcdefgh"


def questions(lesson: str, asked: Sequence[Question] | None = None) -> Figure:
    """The questions of a lesson, with a word on every answer; the reader's browser keeps what was right.

    lesson  the lesson's stem, under which the browser keeps the reader's progress
    asked   the questions, for a lesson that is not the package's own; as in the files of teachkit/questions
    Raises  ValueError: no questions for such a lesson, or a question that lacks something
    """
    asked = read(lesson) if asked is None else asked
    if found := list(problems(asked)):
        raise ValueError(f"questions of {lesson!r}: {'; '.join(found)}")
    alt = f"{len(asked)} questions on this lesson, to be answered here; the answers stand at the end."
    data = {"lesson": lesson, "questions": [_for_the_page(question) for question in asked]}
    return show("questions", data, alt=alt, static=_list(asked), digits=12)


def read(lesson: str) -> list[dict[str, Any]]:
    """The questions of a lesson of the package.

    Raises  ValueError: there are none, with the names of the lessons that have some
    """
    folder = resources.files("teachkit") / "questions"
    known = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))
    if lesson not in known:
        raise ValueError(f"no questions for a lesson {lesson!r}; there are some for: {', '.join(known)}")
    found: list[dict[str, Any]] = json.loads((folder / f"{lesson}.json").read_text(encoding="utf-8"))[
        "questions"
    ]
    return found


def problems(asked: Sequence[Question]) -> Iterator[str]:
    """What is wrong with a list of questions, a line each."""
    ids = [question.get("id") for question in asked]
    if len(set(ids)) < len(ids) or not asked:
        yield f"ids {ids}: expected one or more, all different"
    for question in asked:
        kind = question.get("kind")
        if kind not in FIELDS:
            yield f"{question.get('id')}: kind {kind!r}, expected choice or number"
            continue
        missing, extra = FIELDS[kind] - set(question), set(question) - FIELDS[kind] - OPTIONAL[kind]
        if missing or extra:
            yield f"{question.get('id')}: missing {sorted(missing)}, unknown {sorted(extra)}"
            continue
        yield from (f"{question['id']}: {line}" for line in _LOOK[kind](question))


def _choice_problems(question: Question) -> Iterator[str]:
    options = question["options"]
    if not 3 <= len(options) <= 4:
        yield f"{len(options)} options, expected 3 or 4"
    if [option.get("right", False) for option in options].count(True) != 1:
        yield "expected one right option"
    if not all(option.get("text", "").strip() and option.get("says", "").strip() for option in options):
        yield "an option lacks its text or what is said to it"
    if len({option.get("text") for option in options}) < len(options):
        yield "two options are the same"


def _number_problems(question: Question) -> Iterator[str]:
    answer, tolerance = question["answer"], question["tolerance"]
    if answer <= 0:
        yield f"answer {answer}, expected above 0: mistakes are told as factors"
    if not 0 <= tolerance < 1:
        yield f"tolerance {tolerance}, expected a share of the answer from 0 to below 1"
    for text in ("tolerance_why", "why", "hint"):
        if not question[text].strip():
            yield f"{text} is empty"
    if not question["wrong"] or not all(wrong.get("says", "").strip() for wrong in question["wrong"]):
        yield "expected mistakes, each with what is said to it"
    marks = sorted([answer, *(wrong["value"] for wrong in question["wrong"])])
    for low, high in itertools.pairwise(marks):
        if low * (1 + tolerance) >= high * (1 - tolerance):
            yield f"{low} and {high} cannot be told apart with a tolerance of {tolerance}"


_LOOK = {"choice": _choice_problems, "number": _number_problems}


def _for_the_page(question: Question) -> dict[str, Any]:
    """Without what only authors and tests need; the answer's text is made here, once for page and twin."""
    if question["kind"] == "choice":
        return {key: question[key] for key in ("id", "kind", "ask", "options")}
    keys = ("id", "kind", "ask", "unit", "answer", "tolerance", "why", "hint")
    wrong = [{"value": wrong["value"], "says": wrong["says"]} for wrong in question["wrong"]]
    return {key: question[key] for key in keys} | {
        "wrong": wrong,
        "wanted": _wanted(question),
        "solution": _solution(question),
    }


def _wanted(question: Question) -> str:
    """What the field takes: the unit, and how exactly."""
    unit, share = question["unit"], question["tolerance"]
    relative = "a relative " if unit == "%" else ""
    exactly = f"; {relative}{100 * share:g} % more or less is right" if share else ", exactly"
    return f"A number{f', in {unit}' if unit else ''}{exactly}"


def _solution(question: Question) -> str:
    return f"{_number(question['answer'])} {question['unit']}".strip()


def _number(value: int | float) -> str:
    """Whole numbers in full, others to four digits.

    >>> _number(524288), _number(38.40625), _number(0.00012346), _number(2.5)
    ('524,288', '38.41', '0.0001235', '2.5')
    """
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _list(asked: Sequence[Question]) -> str:
    """The questions as a list, and the answers with their reasons folded below it."""
    items, answers = [], []
    for question in asked:
        if question["kind"] == "choice":
            options = question["options"]
            listed = "".join(f"<li>{_prose(option['text'])}</li>" for option in options)
            items.append(f'<li><p>{_prose(question["ask"])}</p><ol type="a">{listed}</ol></li>')
            at = next(i for i, option in enumerate(options) if option.get("right"))
            solution, why = f"{LETTERS[at]}. {options[at]['text']}", options[at]["says"]
        else:
            items.append(f"<li><p>{_prose(question['ask'])}</p><p>{_prose(_wanted(question))}.</p></li>")
            solution, why = _solution(question), question["why"]
        answers.append(f"<li><p><strong>{_prose(solution)}</strong></p><p>{_prose(why)}</p></li>")
    return (
        f'<div class="tk-qs-list"><ol>{"".join(items)}</ol><details class="tk-qs-answers">'
        f"<summary>Answers</summary><ol>{''.join(answers)}</ol></details></div>"
    )


def _prose(text: str) -> str:
    """Text as HTML; what stands between backticks is code.

    >>> _prose("`a < b` is & stays")
    '<code>a &lt; b</code> is &amp; stays'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
