"""Results for others to read: a table of marks, Gradescope's JSON, JUnit XML. Manual marks and lateness
come in here.

Results say what was found; what it is worth when a part was marked by hand, or came late, is decided at
export, so that neither asks for anything to be graded again.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

Result = dict[str, Any]
BY_HAND = "by_hand"
# A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
# XML has no way to write these.
_NOT_XML = {n: "?" for n in range(32) if n not in (9, 10, 13)} | {0xFFFE: "?", 0xFFFF: "?"}


def with_marks(result: Result, by_hand: Mapping[tuple[str, str], float]) -> Result:
    """The result with marks given by hand, {(student, question): points}. Raises ValueError: out of range."""
    questions = []
    for graded in result["questions"]:
        one = graded
        points = by_hand.get((result["student"], one["question"]))
        if points is not None:
            if not 0 <= points <= one["max_points"]:
                who = f"{result['student']}, {one['question']}"
                raise ValueError(f"{who}: expected 0 to {one['max_points']} points, got {points}")
            one = one | {"points": points, "status": "marked"}
        questions.append(one)
    return result | {"questions": questions, "points": sum(q["points"] for q in questions)}


def read_marks(text: str) -> dict[tuple[str, str], float]:
    """Marks by hand from CSV with the columns student, question, points. Raises ValueError."""
    found: dict[tuple[str, str], float] = {}
    reader = csv.DictReader(io.StringIO(text))
    if not {"student", "question", "points"} <= set(reader.fieldnames or ()):
        raise ValueError(f"marks: expected the columns student, question, points; got {reader.fieldnames}")
    for row in reader:
        place = (row["student"], row["question"])
        try:
            points = float(row["points"])
        except (TypeError, ValueError):
            raise ValueError(
                f"marks, line {reader.line_num}: points: expected a number, got {row['points']!r}"
            ) from None
        if place in found or not math.isfinite(points):
            raise ValueError(
                f"marks, line {reader.line_num}: {place[0]}, {place[1]}: twice, or no finite number"
            )
        found[place] = points
    return found


def to_csv(results: Sequence[Result], late: Mapping[str, float] | None = None) -> str:
    """One line for each student; late: what is left of the points, by student."""
    ids = list(dict.fromkeys(q["question"] for one in results for q in one["questions"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["student", "status", *ids, "points", "max_points", "late_factor", "final_points", "waits_for"]
    )
    for one in results:
        by_id = {q["question"]: q for q in one["questions"]}
        factor = (late or {}).get(one["student"], 1.0)
        waits = [q["question"] for q in one["questions"] if q["status"] == BY_HAND]
        points = [_points(by_id.get(name)) for name in ids]
        writer.writerow([
            _cell(one["student"]), one["status"], *points, f"{one['points']:g}", f"{one['max_points']:g}",
            f"{factor:g}", f"{one['points'] * factor:g}", " ".join(waits),
        ])  # fmt: skip
    return out.getvalue()


def _points(question: Result | None) -> str:
    return "" if question is None or question["status"] == BY_HAND else f"{question['points']:g}"


def _cell(text: str) -> str:
    return "'" + text if text.startswith(FORMULA) else text


def to_gradescope(result: Result, factor: float = 1.0) -> Result:
    """The results.json that Gradescope's autograder harness reads. Hidden scenarios are counted, not
    shown.
    """
    tests = [
        {
            "name": one["question"],
            "number": one["question"].removeprefix("q"),
            "score": one["points"],
            "max_score": one["max_points"],
            "status": "passed" if one["status"] in ("passed", "marked") else "failed",
            "output": one["message"],
            "visibility": "visible",
        }
        for one in result["questions"]
        if one["status"] != BY_HAND
    ]
    return {
        "score": result["points"] * factor,
        "execution_time": result["time_s"],
        "output": "\n".join([f"status: {result['status']}", *result["notes"]]),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def to_junit(results: Iterable[Result]) -> str:
    """A test suite for each student, a test case for each question."""
    root = ElementTree.Element("testsuites")
    for one in results:
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(one["student"]))
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        for question in one["questions"]:
            counts["tests"] += 1
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(f"{one['lab']}.{one['student']}"), name=question["question"]
            )
            kind = _KINDS.get(question["status"], "error")
            if kind is not None:
                counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]] += 1
                ElementTree.SubElement(case, kind, message=_xml(question["message"] or question["status"]))
        suite.attrib.update({name: str(n) for name, n in counts.items()} | {"time": f"{one['time_s']:g}"})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_KINDS = {
    "passed": None,
    "marked": None,
    "failed": "failure",
    "not_implemented": "failure",
    "missing": "failure",
    BY_HAND: "skipped",
}


def _xml(text: str) -> str:
    return text.translate(_NOT_XML).encode("utf-8", "replace").decode()
