"""A report on the class: statuses, points, questions, and the misconceptions that came most often."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from teachgrade.pages import WORDS, decided, page
from teachgrade.result import path_of

Result = dict[str, Any]
_FEEDBACK = Path()
N_BINS, MOST_MESSAGES = 10, 20
NOT_TRIED = ("not_implemented", "by_hand")


def class_report(results: Sequence[Result], title: str, titles: Mapping[str, str]) -> str:
    """One page. title: of the lab; titles: of its questions, in order."""
    e = html.escape
    parts = [f"<h1>{e(title)}</h1>", f'<p class="lead">{len(results)} submissions</p>']
    if results:
        points = [one["points"] for one in results]
        most = max(map(decided, results))
        said = (
            f"Points: median {statistics.median(points):g}, mean {statistics.fmean(points):.1f}, of {most:g}."
        )
        parts += [f"<p>{said}</p>", _histogram(points, most)]
    statuses = Counter(one["status"] for one in results).most_common()
    parts += ["<h2>By status</h2>", table(["status", "submissions"], [[e(s), f"{n}"] for s, n in statuses])]
    parts += ["<h2>By question</h2>", _bars(results, titles), _questions(results, titles)]
    said_often = _messages(results)
    if said_often:
        parts += ["<h2>What was said most often</h2>", table(["question", "feedback", "times"], said_often)]
    parts += ["<h2>Students</h2>", _students(results)]
    return page(f"{title}: the class", "\n".join(parts))


def _of(results: Sequence[Result], question: str) -> Counter[str]:
    return Counter(q["status"] for one in results for q in one["questions"] if q["question"] == question)


def _questions(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    rows = []
    for name, title in titles.items():
        counts = _of(results, name)
        rest = ", ".join(f"{n} {WORDS.get(s, s)}" for s, n in counts.most_common() if s != "passed")
        label = html.escape(f"{name}. {title}")
        rows.append([label, f"{counts['passed']}", f"{counts.total()}", html.escape(rest)])
    return table(["question", "passed", "of", "others"], rows)


def _messages(results: Sequence[Result]) -> list[list[str]]:
    said = Counter(
        (q["question"], q["message"]) for one in results for q in one["questions"] if q["status"] == "failed"
    )
    return [
        [html.escape(name), html.escape(message), f"{n}"]
        for (name, message), n in said.most_common(MOST_MESSAGES)
    ]


def _students(results: Sequence[Result]) -> str:
    e = html.escape
    rows = []
    for one in results:
        file = path_of(_FEEDBACK, one["student"]).with_suffix(".html").name
        link = f'<a href="feedback/{e(file)}">{e(one["student"])}</a>'
        waits = " ".join(q["question"] for q in one["questions"] if q["status"] == "by_hand")
        rows.append([link, e(one["status"]), f"{one['points']:g}", e(waits)])
    return table(["student", "status", "points", "waits for a mark by hand"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; cells are HTML. Columns of numbers are set to the right."""
    numbers = {i for i, name in enumerate(head) if name in ("submissions", "passed", "of", "times", "points")}

    def row(tag: str, cells: Sequence[str]) -> str:
        kind = ' scope="col"' if tag == "th" else ""
        made = (
            f"<{tag}{kind}{' class=n' if i in numbers else ''}>{text}</{tag}>" for i, text in enumerate(cells)
        )
        return "<tr>" + "".join(made) + "</tr>"

    body = "".join(row("td", one) for one in rows)
    return f'<div class="wide"><table><thead>{row("th", head)}</thead><tbody>{body}</tbody></table></div>'


def _histogram(points: Sequence[float], most: float) -> str:
    """Submissions by points, as SVG; the numbers are in its label for whoever does not see it."""
    width = most / N_BINS or 1.0
    bins = Counter(min(N_BINS - 1, int(p / width)) for p in points)
    highest = max(bins.values())
    bars = []
    for i in range(N_BINS):
        x, height = 10 + 58 * i, 120 * bins[i] / highest
        bars.append(f'<rect class="bar" x="{x}" y="{140 - height:.1f}" width="52" height="{height:.1f}"/>')
        if bins[i]:
            bars.append(f'<text x="{x + 26}" y="{134 - height:.1f}" text-anchor="middle">{bins[i]}</text>')
        bars.append(f'<text class="axis" x="{x}" y="158">{i * width:.3g}</text>')
    said = "; ".join(
        f"{i * width:.3g} to {(i + 1) * width:.3g} points: {bins[i]}" for i in range(N_BINS) if bins[i]
    )
    label = html.escape(f"Submissions by points. {said}")
    return (
        f'<svg viewBox="0 0 640 180" role="img" aria-label="{label}">{"".join(bars)}'
        f'<text class="axis" x="590" y="158">{most:.3g}</text>'
        '<text class="axis" x="10" y="176">points, and how many submissions have them</text></svg>'
    )


def _bars(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """For each question, the shares of those who passed, tried, and did not try."""
    rows = []
    for at, name in enumerate(titles):
        counts, x = _of(results, name), 50.0
        n = counts.total() or 1
        shares = {
            "passed": counts["passed"] + counts["marked"],
            "none": sum(counts[s] for s in NOT_TRIED),
        }
        shares["failed"] = counts.total() - sum(shares.values())
        rows.append(f'<text x="40" y="{26 * at + 17}" text-anchor="end">{html.escape(name)}</text>')
        for kind in ("passed", "failed", "none"):
            width = 560 * shares[kind] / n
            place = f'x="{x:.1f}" y="{26 * at + 4}" width="{width:.1f}" height="18"'
            rows.append(f'<rect class="{kind}" {place}/>')
            x += width
    height = 26 * len(titles) + 30
    key, x = [], 50
    for kind, text in (("passed", "passed"), ("failed", "not yet"), ("none", "not tried, or marked by hand")):
        key.append(f'<rect class="{kind}" x="{x}" y="{height - 16}" width="12" height="12"/>')
        key.append(f'<text class="axis" x="{x + 18}" y="{height - 5}">{text}</text>')
        x += 40 + 8 * len(text)
    label = "Shares of submissions that passed each question; the table says the same in numbers."
    return f'<svg viewBox="0 0 640 {height}" role="img" aria-label="{label}">{"".join(rows + key)}</svg>'
