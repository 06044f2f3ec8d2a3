"""Marks for others: CSV, Gradescope, JUnit, pages; marks by hand, lateness, and texts that mean harm."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest

from teachgrade.class_report import class_report
from teachgrade.export import read_marks, to_csv, to_gradescope, to_junit, with_marks
from teachgrade.late import Late
from teachgrade.pages import feedback, write

BAD = "<script>alert(1)</script>"


def question(name, status, points=0.0, most=2.0, message="", **more):
    return {
        "question": name, "status": status, "points": points, "max_points": most, "message": message,
        "visible": [], "hidden_passed": 0, "hidden_of": 3,
    } | more  # fmt: skip


def result(student, *questions, status="graded", notes=()):
    return {
        "schema": 1, "student": student, "file": f"{student}.ipynb", "key": "0" * 64, "submission": "2" * 64,
        "lab": "attention", "lab_key": "1" * 64, "sandbox": "bubblewrap", "status": status,
        "points": sum(q["points"] for q in questions), "max_points": sum(q["max_points"] for q in questions),
        "questions": list(questions), "notes": list(notes),
        "printed": BAD, "time_s": 1.5, "date": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


ADA = result(
    "ada",
    question("q1", "passed", 2.0),
    question("q2", "failed", message=f"no {BAD}"),
    question("q3", "by_hand", most=4.0),
)
EVE = result(
    BAD,
    question("q1", "timeout"),
    question("q2", "crashed"),
    question("q3", "by_hand", most=4.0),
    status="partial",
    notes=[BAD],
)
TITLES = {"q1": "One", "q2": f"Two {BAD}", "q3": "Words"}


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv():
    one, other = rows(to_csv([ADA, EVE], {"ada": 0.5}))
    assert one == {
        "student": "ada", "status": "graded", "q1": "2", "q2": "0", "q3": "", "points": "2",
        "max_points": "8",
        "late_factor": "0.5", "final_points": "1", "waits_for": "q3",
    }  # fmt: skip
    assert (other["status"], other["final_points"]) == ("partial", "0")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_csv_holds_no_formula(name):
    assert rows(to_csv([result(name, question("q1", "passed", 2.0))]))[0]["student"] == "'" + name


def test_marks_by_hand():
    given = read_marks("student,question,points\nada,q3,3.5\n")
    marked = with_marks(ADA, given)
    assert (marked["points"], marked["questions"][2]["status"]) == (5.5, "marked")
    assert ADA["points"] == 2.0
    assert with_marks(EVE, given) == EVE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,points\n", "expected the columns"),
        ("", "expected the columns"),
        ("student,question,points\nada,q3,many\n", "line 2.*many"),
        ("student,question,points\nada,q3,nan\n", "no finite"),
        ("student,question,points\nada,q3,1\nada,q3,2\n", "line 3.*twice"),
    ],
)
def test_marks_that_cannot_be(text, says):
    with pytest.raises(ValueError, match=says):
        read_marks(text)


@pytest.mark.parametrize("points", [-1.0, 4.5])
def test_marks_out_of_range(points):
    with pytest.raises(ValueError, match="0 to 4"):
        with_marks(ADA, {("ada", "q3"): points})


def test_lateness():
    due = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    late = Late(due, per_day=0.1, most=0.5, grace_s=3600)
    hours = {0: 1.0, 1: 1.0, 1.01: 0.9, 25: 0.9, 25.01: 0.8, 24 * 30: 0.5}
    assert {h: pytest.approx(late.factor(due + timedelta(hours=h))) for h in hours} == hours
    assert late.factor(due - timedelta(days=1)) == 1.0


def test_gradescope():
    found = to_gradescope(ADA, 0.5)
    assert found["score"] == 1.0
    assert [(t["name"], t["score"], t["max_score"], t["status"]) for t in found["tests"]] == [
        ("q1", 2.0, 2.0, "passed"),
        ("q2", 0.0, 2.0, "failed"),
    ]
    assert json.dumps(found)


def test_junit():
    root = ElementTree.fromstring(
        to_junit(
            [
                ADA,
                EVE | {"notes": ["\x00\x1b"]},
                result("\x00\ud800", question("q1", "failed", message="\x1b[31m")),
            ]
        )
    )
    assert [suite.get("name") for suite in root][:2] == ["ada", BAD]
    counts = [[suite.get(name) for name in ("tests", "failures", "errors", "skipped")] for suite in root]
    assert counts == [["3", "1", "0", "1"], ["3", "0", "2", "1"], ["1", "1", "0", "0"]]


def test_pages_escape_everything(tmp_path):
    report = class_report([ADA, EVE], BAD, TITLES)
    for page in (feedback(ADA, BAD, TITLES), feedback(EVE, BAD, TITLES), report):
        assert BAD not in page
        assert "http" not in page.replace("http-equiv", "")
    write([ADA, EVE], "Lab", TITLES, tmp_path, {"ada": 0.9})
    made = [path.name for path in (tmp_path / "feedback").iterdir()]
    assert sorted(made) == sorted(re.findall(r'href="feedback/([^"]+)"', report))
    (ada,) = [path for path in (tmp_path / "feedback").iterdir() if path.name.startswith("ada")]
    assert "90% of the points" in ada.read_text(encoding="utf-8")


def test_report_counts():
    page = class_report([ADA, EVE], "Lab", TITLES)
    assert "2 submissions" in page
    assert "1 took too long" in page
