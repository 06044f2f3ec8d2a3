"""Results: one JSON file for each submission, written whole or not at all. The schema is in
schemas/result.json.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from teachgrade.grade import Graded, Outcome
from teachgrade.lab import Lab

SCHEMA = 1
ANEW = "asked anew: "
GRADER = "1"  # counted up when marks for the same submission may become others
STATUSES = ("graded", "partial", "unreadable", "timeout", "crashed", "out_of_memory", "sandbox_error")


def key_of(submission_key: str, lab: Lab, seed: str, sandbox: str) -> str:
    """What a result depends on: another key, another result."""
    words = [submission_key, lab.key, GRADER, sha256(seed.encode()).hexdigest(), sandbox]
    return sha256("\0".join(words).encode()).hexdigest()


def make(
    student: str, file: str, key: str, submission: str, lab: Lab, outcome: Outcome, sandbox: str
) -> dict[str, Any]:
    """A result as it is written. Points are of what was graded by machine; words wait for a human."""
    return {
        "schema": SCHEMA,
        "student": student,
        "file": file,
        "key": key,
        "submission": submission,
        "lab": lab.stem,
        "lab_key": lab.key,
        "sandbox": sandbox,
        "status": outcome.status,
        "points": sum(q.points for q in outcome.questions),
        "max_points": sum(q.max_points for q in outcome.questions),
        "questions": [_question(q) for q in outcome.questions],
        "notes": outcome.notes,
        "printed": outcome.printed[:4_000],
        "time_s": round(outcome.time_s, 3),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _question(graded: Graded) -> dict[str, Any]:
    hidden = [v for v in graded.verdicts if v.hidden]
    return {
        "question": graded.question,
        "status": graded.status,
        "points": graded.points,
        "max_points": graded.max_points,
        "message": graded.message,
        "visible": [{"scenario": v.scenario, "message": v.message} for v in graded.verdicts if not v.hidden],
        "hidden_passed": sum(not v.message for v in hidden),
        "hidden_of": len(hidden),
    }


def merged(before: dict[str, Any], anew: dict[str, Any]) -> dict[str, Any]:
    """An earlier result of the same submission with the questions that were asked anew in their places."""
    by_id = {one["question"]: one for one in anew["questions"]}
    questions = [by_id.get(one["question"], one) for one in before["questions"]]
    statuses = {one["status"] for one in questions}
    status = anew["status"]
    if status == "graded" and statuses & {"timeout", "crashed", "out_of_memory"}:
        status = "partial"
    before_that = [note for note in before["notes"] if note.startswith(ANEW)]
    note = ANEW + ", ".join(by_id)
    return anew | {
        "status": status,
        "questions": questions,
        "points": sum(one["points"] for one in questions),
        "max_points": sum(one["max_points"] for one in questions),
        "notes": [*anew["notes"], *before_that, *([] if note in before_that else [note])],
    }


def marks(result: dict[str, Any]) -> dict[str, Any]:
    """What must be the same on every run: all but times and dates."""
    return {name: value for name, value in result.items() if name not in ("time_s", "date")}


def path_of(folder: Path, student: str) -> Path:
    """A file name that is the student's alone, whatever the name is made of."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", student).strip("-")[:60]
    return folder / f"{readable or 'student'}-{sha256(student.encode()).hexdigest()[:12]}.json"


def write(folder: Path, result: dict[str, Any]) -> Path:
    """Write a result so that a reader, or a restart, finds either all of it or the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    target = path_of(folder, result["student"])
    handle, name = tempfile.mkstemp(dir=folder, prefix=".writing-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1, ensure_ascii=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def read(path: Path) -> dict[str, Any] | None:
    """A result, or None for a file that is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def read_all(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The results in some folders, by student. Raises ValueError: two folders differ about a student."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            result = read(path)
            if result is None:
                continue
            other = found.setdefault(result["student"], result)
            if marks(other) != marks(result):
                raise ValueError(f"{result['student']}: two results that differ")
    return [found[student] for student in sorted(found)]
