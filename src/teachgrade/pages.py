"""Feedback as a page for each student, and a report on the class: plain HTML, readable offline, everything escaped."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from teachgrade.result import path_of

Result = dict[str, Any]
WORDS = {
    "passed": "passed",
    "failed": "not yet",
    "not_implemented": "not implemented yet",
    "missing": "not defined",
    "by_hand": "marked by hand",
    "marked": "marked by hand",
    "timeout": "took too long",
    "crashed": "ended the process",
    "out_of_memory": "took too much memory",
    "sandbox_error": "could not be graded",
    "unreadable": "could not be read",
}
STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f4b; --bad: #b3261e; --dim: #666; }
@media (prefers-color-scheme: dark) { :root { --good: #5fd39a; --bad: #ff8f85; --dim: #aaa; } }
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.passed, .marked { color: var(--good); } .failed, .timeout, .crashed, .out_of_memory, .missing { color: var(--bad); }
.dim { color: var(--dim); } pre { overflow-x: auto; background: #8881; padding: .6rem .8rem; border-radius: .3rem; white-space: pre-wrap; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
"""


def page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n'


def feedback(result: Result, titles: dict[str, str]) -> str:
    """One student's page. titles: of the questions."""
    e = html.escape
    parts = [
        f"<h1>{e(result['lab'])}: {e(result['student'])}</h1>",
        f"<p>{result['points']:g} of {_machine_points(result):g} points for what is graded by machine.</p>",
    ]
    if result["status"] != "graded":
        parts.append(f"<p>{e(_STATUS[result['status']])}</p>")
    for one in result["questions"]:
        parts.append(f"<h2>{e(one['question'])}. {e(titles.get(one['question'], ''))}</h2>")
        parts.append(
            f'<p class="{e(one["status"])}">{e(WORDS.get(one["status"], one["status"]))}'
            f" ({one['points']:g} of {one['max_points']:g})</p>"
        )
        if one["message"] and one["status"] != "not_implemented":
            parts.append(f"<p>{e(one['message'])}</p>")
        parts += [f'<p class="dim">visible case {e(v["scenario"])}: {e(v["message"])}</p>'
                  for v in one["visible"] if v["message"] and v["message"] != one["message"]]  # fmt: skip
        if one["hidden_of"]:
            parts.append(f'<p class="dim">{one["hidden_passed"]} of {one["hidden_of"]} further cases</p>')
    if result["notes"]:
        parts.append("<h2>While your notebook ran</h2><ul>")
        parts += [f"<li>{e(note)}</li>" for note in result["notes"]] + ["</ul>"]
    return page(f"{result['lab']}: {result['student']}", "\n".join(parts))


_STATUS = {
    "graded": "",
    "partial": "A part of the notebook ended or stopped the process that ran it; the rest was graded as usual.",
    "unreadable": "The file could not be read.",
    "timeout": "The notebook took longer than it may before anything could be asked of it.",
    "crashed": "The notebook ended the process that ran it before anything could be asked of it.",
    "out_of_memory": "The notebook took more memory than it may before anything could be asked of it.",
    "sandbox_error": "This is not your fault: the grader could not run. Your instructor will repeat it.",
}


def _machine_points(result: Result) -> float:
    return sum(q["max_points"] for q in result["questions"] if q["status"] not in ("by_hand", "marked"))


def class_report(results: Sequence[Result], titles: dict[str, str]) -> str:
    """How the class did: statuses, points, questions, and the misconceptions that came most often."""
    e = html.escape
    lab = results[0]["lab"] if results else ""
    points = [one["points"] for one in results]
    parts = [f"<h1>{e(lab)}: {len(results)} submissions</h1>"]
    if points:
        most = _machine_points(results[0])
        parts.append(
            f"<p>Points: median {statistics.median(points):g}, mean {statistics.fmean(points):.2f}, of {most:g}.</p>"
        )
        parts.append(_histogram(points, most))
    parts.append("<h2>Submissions by status</h2>" + _table(["status", "submissions"], [
        [e(status), f"{n}"] for status, n in Counter(one["status"] for one in results).most_common()]))  # fmt: skip
    rows = []
    for name, title in titles.items():
        of = [q for one in results for q in one["questions"] if q["question"] == name]
        counts = Counter(q["status"] for q in of)
        rest = ", ".join(f"{n} {WORDS.get(s, s)}" for s, n in counts.most_common() if s != "passed")
        rows.append([e(f"{name}. {title}"), f"{counts['passed']}", f"{len(of)}", e(rest)])
    parts.append("<h2>By question</h2>" + _table(["question", "passed", "of", "others"], rows))
    said = Counter(
        (q["question"], q["message"]) for one in results for q in one["questions"] if q["status"] == "failed"
    )
    common = [[e(name), e(message), f"{n}"] for (name, message), n in said.most_common(20)]
    if common:
        parts.append("<h2>What was said most often</h2>" + _table(["question", "feedback", "times"], common))
    return page(f"{lab}: report", "\n".join(parts))


def _table(head: list[str], rows: list[list[str]]) -> str:
    numbers = {i for i, name in enumerate(head) if name in ("submissions", "passed", "of", "times")}
    cell = lambda tag, i, text: f"<{tag}{' class=n' if i in numbers else ''}>{text}</{tag}>"  # noqa: E731
    lines = ["<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows]
    top = "".join(cell("th", i, text) for i, text in enumerate(head))
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _histogram(points: Sequence[float], most: float, n_bins: int = 10) -> str:
    """Submissions by points, as SVG; the numbers are in its text for whoever does not see it."""
    width = most / n_bins or 1.0
    bins = Counter(min(n_bins - 1, int(p / width)) for p in points)
    highest = max(bins.values())
    bars = []
    for i in range(n_bins):
        h = 120 * bins[i] / highest
        bars.append(f'<rect x="{40 + 50 * i}" y="{140 - h:.1f}" width="44" height="{h:.1f}" fill="#3f7fbf"/>')
        if bins[i]:
            bars.append(f'<text x="{62 + 50 * i}" y="{134 - h:.1f}" text-anchor="middle">{bins[i]}</text>')
        bars.append(f'<text x="{40 + 50 * i}" y="158" text-anchor="middle">{i * width:g}</text>')
    said = "; ".join(
        f"{i * width:g} to {(i + 1) * width:g} points: {bins[i]}" for i in range(n_bins) if bins[i]
    )
    return (
        f'<svg viewBox="0 0 560 170" role="img" aria-label="Submissions by points. {html.escape(said)}">{"".join(bars)}'
        f'<text x="540" y="158" text-anchor="middle">{most:g}</text></svg>'
    )


def write(results: Sequence[Result], titles: dict[str, str], folder: Path) -> None:
    """A page for each student in feedback/, and class.html."""
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    for one in results:
        path = path_of(folder / "feedback", one["student"]).with_suffix(".html")
        path.write_text(feedback(one, titles), encoding="utf-8")
    (folder / "class.html").write_text(class_report(results, titles), encoding="utf-8")
