"""Feedback as a page for each student: plain HTML, readable without a network, everything escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from teachgrade.result import path_of

Result = dict[str, Any]
WORDS = {
    "passed": "passed",
    "failed": "not yet",
    "not_implemented": "not implemented yet",
    "missing": "not defined",
    "by_hand": "waits for a mark by hand",
    "marked": "marked by hand",
    "timeout": "took too long",
    "crashed": "ended the process",
    "out_of_memory": "took too much memory",
    "sandbox_error": "could not be graded",
    "unreadable": "could not be read",
}
STATUS = {
    "graded": "",
    "partial": "A part of the notebook ended the process that ran it, or took too long; the rest was graded.",
    "unreadable": "The file could not be read.",
    "timeout": "The notebook took longer than it may before anything could be asked of it.",
    "crashed": "The notebook ended the process that ran it before anything could be asked of it.",
    "out_of_memory": "The notebook took more memory than it may before anything could be asked of it.",
    "sandbox_error": "This is not your fault: the grader could not run. Your instructor will repeat it.",
}
# What is shown to be good, to be wanting, and to wait; the rest is neither.
_KIND = {"passed": "good", "marked": "good", "by_hand": "wait", "not_implemented": "none"}


def page(title: str, body: str) -> str:
    """A whole HTML page; body: HTML."""
    style = (files("teachgrade") / "pages.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def feedback(result: Result, title: str, titles: Mapping[str, str], late: float = 1.0) -> str:
    """One student's page. title: of the lab; titles: of its questions; late: what is left of the points."""
    e = html.escape
    parts = [
        f"<h1>{e(title)}</h1>",
        f'<p class="lead">{e(result["student"])}: {result["points"]:g} of {decided(result):g} points</p>',
    ]
    waits = sum(q["max_points"] for q in result["questions"] if q["status"] == "by_hand")
    if waits:
        parts.append(f"<p>{waits:g} more points wait for a mark by hand.</p>")
    if late != 1:
        parts.append(f"<p>It came late: {late:.0%} of the points count.</p>")
    if STATUS[result["status"]]:
        parts.append(f"<p>{e(STATUS[result['status']])}</p>")
    parts += [_question(one, titles.get(one["question"], "")) for one in result["questions"]]
    if result["notes"]:
        notes = "".join(f"<li>{e(note)}</li>" for note in result["notes"])
        parts.append(f"<h2>While your notebook ran</h2>\n<ul>{notes}</ul>")
    return page(f"{title}: {result['student']}", "\n".join(parts))


def _question(one: Result, title: str) -> str:
    e = html.escape
    status = one["status"]
    parts = [
        f'<section class="question {_KIND.get(status, "bad")}">',
        f"<h2>{e(one['question'])}. {e(title)}</h2>",
    ]
    points = f"{one['points']:g} of {one['max_points']:g} points"
    parts.append(f'<p><span class="status">{WORDS[status]}</span> · {points}</p>')
    if one["message"] and status != "not_implemented":
        parts.append(f"<p>{e(one['message'])}</p>")
    for seen in one["visible"]:
        if seen["message"] and seen["message"] != one["message"] and status == "failed":
            case = e(_words(seen["scenario"]))
            parts.append(f'<p class="dim">visible case “{case}”: {e(seen["message"])}</p>')
    if one["hidden_of"] and status in ("passed", "failed"):
        parts.append(f'<p class="dim">{one["hidden_passed"]} of {one["hidden_of"]} further cases</p>')
    return "\n".join([*parts, "</section>"])


def _words(name: str) -> str:
    return name.replace("_", " ")


def decided(result: Result) -> float:
    """The points that could be had so far: all but those that wait for a mark by hand."""
    return float(sum(q["max_points"] for q in result["questions"] if q["status"] != "by_hand"))


def write(
    results: Sequence[Result], title: str, titles: Mapping[str, str], folder: Path, late: Mapping[str, float]
) -> None:
    """A page for each student in feedback/. late: what is left of the points, by student."""
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    for one in results:
        text = feedback(one, title, titles, late.get(one["student"], 1.0))
        path_of(folder / "feedback", one["student"]).with_suffix(".html").write_text(text, encoding="utf-8")
