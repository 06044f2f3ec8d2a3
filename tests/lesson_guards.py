"""What must hold for every committed lesson, as functions that return what is wrong, a line each.

nbval passes in silence where it compares nothing: in a cell that was not executed, that is tagged, that
prints nothing. jupytext trusts file times, which a clone resets. So these look at the contents.
tests/test_notebooks.py applies them to the lessons, and shows for each that it fails on a bad one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import notebooks as tool  # tools/notebooks.py

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORE = "nbval-ignore-output"
MIN_COMPARED = 5
MAX_SECONDS = 60
MAX_MEMORY_BYTES = 2e9

# Not preceded by a letter, a dot or a slash: an address such as https://host/home/page is none of these.
MACHINE_PATH = re.compile(r"(?:(?<![\w./-])|file://)/(?:home|root|work|tmp|Users)\b|\b[A-Za-z]:\\+Users\b")
MARKER = re.compile(
    r"^\s*#+\s*(?:NBVAL_|PYTEST_VALIDATE_)(?:IGNORE_OUTPUT|CHECK_OUTPUT|RAISES_EXCEPTION|SKIP)\s*$", re.M
)
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]*")
PICTURE = re.compile(r"<(?:svg|img|canvas|figure|video)\b|tk-figure")
TIME = re.compile(r"\d\s?(?:s|ms|µs|us|ns)\b|\d\s?(?:tokens|[KMGT]i?B|[KMGT]?FLOP|bytes)(?:/s| per second)")
# The provenance line of a measured table: memory, say, depends on the machine as a time does.
MEASURED = re.compile(r"^\*measured\b.*\d{4}-\d\d-\d\d", re.M)
CLOCK = re.compile(
    r"\b(?:perf_counter|time_calls?|timeit|tk\.measure|measure\.\w+|time\.\w+|provenance)\b|%%?time"
)
# As nbval has it: these are not compared, so a cell that shows nothing else is not compared at all.
NOT_COMPARED = ("image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json")


def code_cells(notebook: Any) -> Iterator[tuple[int, Any]]:
    return ((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")


def prose_cells(notebook: Any) -> Iterator[tuple[int, Any]]:
    return ((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown")


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def data(output: Any) -> dict[str, str]:
    """What one output shows, by MIME type; a stream under its name. Lists of lines are joined."""
    shown = {output.name: output.text} if output.output_type == "stream" else output.get("data", {})
    return {
        k: "".join(v) if isinstance(v, list) else v if isinstance(v, str) else json.dumps(v)
        for k, v in shown.items()
    }


def compared_cells(notebook: Any) -> list[int]:
    """The code cells, counted from 0 as nbval counts them, that nbval compares something of."""
    return [
        number
        for number, (_, cell) in enumerate(code_cells(notebook))
        if cell.execution_count is not None
        and IGNORE not in tags(cell)
        and any(key not in NOT_COMPARED and text for out in cell.outputs for key, text in data(out).items())
    ]


# Pairs


def pair_problems(folder: Path, address: str) -> list[str]:
    """Every .py has its .ipynb and the other way round; the two agree in every cell's source and metadata."""
    sources, lessons = ({path.stem for path in folder.glob(f"*.{end}")} for end in ("py", "ipynb"))
    problems = [f"{stem}.ipynb: missing, {stem}.py is there" for stem in sorted(sources - lessons)]
    problems += [f"{stem}.py: missing, {stem}.ipynb is there" for stem in sorted(lessons - sources)]
    for stem in sorted(sources & lessons):
        source = folder / f"{stem}.py"
        problems += tool.differences(source, address)
        problems += [f"{stem}: {line}" for line in _cell_metadata_problems(source, address)]
    return problems


def _cell_metadata_problems(source: Path, address: str) -> Iterator[str]:
    ours = tool.read_lesson(source, address)
    theirs = tool.nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for number, (a, b) in enumerate(zip(ours.cells, theirs.cells, strict=False)):
        if dict(a.metadata) != dict(b.metadata):
            yield f"cell {number}: metadata differs: {dict(a.metadata)}, in the .ipynb {dict(b.metadata)}"


# Execution


def run_problems(notebook: Any) -> list[str]:
    """Executed once, from the top, with no error or warning, and silent about the machine's folders."""
    problems = []
    if "allow_errors" in json.dumps([notebook.metadata, *(cell.metadata for cell in notebook.cells)]):
        problems.append("allow_errors: a lesson that fails must not pass")
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        problems.append(
            f"execution counts {counts}: expected 1 to {len(counts)} in order, nbval skips a cell without one"
        )
    for i, cell in enumerate(notebook.cells):
        if MACHINE_PATH.search(cell.source):
            problems.append(f"cell {i}: the source names a machine's folder")
    for i, cell in code_cells(notebook):
        problems += [f"cell {i}: {line}" for line in _cell_run_problems(cell)]
    return problems


def _cell_run_problems(cell: Any) -> Iterator[str]:
    for tag in tags(cell):
        if tag == "raises-exception" or (tag.startswith("nbval") and tag != IGNORE):
            yield f"tag {tag!r}: only {IGNORE!r} is allowed"
    if match := MARKER.search(cell.source):
        yield f"comment {match[0].strip()!r}: nbval is steered by tags only, where they can be seen"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"an error is stored: {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text.strip()[:80]!r}"
        for kind, text in data(output).items():
            if not kind.startswith("image/") and (match := MACHINE_PATH.search(DATA_URI.sub("", text))):
                yield f"the output names a machine's folder: {match[0]!r}"


# Comparison


def ignore_problems(notebook: Any) -> list[str]:
    """Only cells that show a measurement or a picture may be left uncompared; at least five are compared."""
    problems = []
    for i, cell in code_cells(notebook):
        shown = [(kind, text) for output in cell.outputs for kind, text in data(output).items()]
        if IGNORE in tags(cell):
            picture = any(
                k.startswith(("image/", "application/vnd.jupyter.widget")) or PICTURE.search(t)
                for k, t in shown
            )
            time = CLOCK.search(cell.source) or any(
                TIME.search(text) or MEASURED.search(text) for _, text in shown
            )
            if not picture and not time:
                problems.append(
                    f"cell {i}: tagged {IGNORE!r}, but it shows neither a measurement nor a picture"
                )
        elif any(kind == "text/html" and "data:image/" in text for kind, text in shown):
            problems.append(f"cell {i}: a bitmap differs from machine to machine; tag the cell {IGNORE!r}")
    if (count := len(compared_cells(notebook))) < MIN_COMPARED:
        problems.append(
            f"{count} code cells have an output that is compared; at least {MIN_COMPARED} are expected"
        )
    return problems


# Metadata


def metadata_problems(notebook: Any, stem: str, root: Path = ROOT) -> list[str]:
    """metadata.teachkit is complete and true: it is all that a page says about itself."""
    about = dict(notebook.metadata.get("teachkit", {}))
    expected = tool.HEADER | {"last_run"}
    if set(about) != expected:
        return [f"teachkit has {sorted(about)}, expected {sorted(expected)}"]
    problems = []
    if about["stem"] != stem:
        problems.append(f"stem is {about['stem']!r}, expected {stem!r}")
    if not about["modules"]:
        problems.append("modules: none is named")
    for module in about["modules"]:
        if not (root / "src" / "teachkit" / f"{module}.py").is_file():
            problems.append(f"modules: there is no src/teachkit/{module}.py")
        elif not (root / "tests" / f"test_{module}.py").is_file():
            problems.append(f"modules: there is no tests/test_{module}.py")
    objectives = about["objectives"]
    if not objectives or not all(isinstance(line, str) and line.strip() for line in objectives):
        problems.append("objectives: expected a list of sentences")
    if not isinstance(about["minutes"], int) or about["minutes"] <= 0:
        problems.append(f"minutes: expected a whole number above 0, got {about['minutes']!r}")
    if about["lab"] and not (root / "labs" / str(about["lab"])).is_dir():
        problems.append(f"lab: there is no labs/{about['lab']}/")
    return problems + [f"last_run: {line}" for line in _last_run_problems(dict(about["last_run"]))]


def _last_run_problems(run: dict[str, Any]) -> Iterator[str]:
    if set(run) != tool.LAST_RUN:
        yield f"has {sorted(run)}, expected {sorted(tool.LAST_RUN)}"
        return
    try:
        date.fromisoformat(run["date"])
    except (TypeError, ValueError):
        yield f"date {run['date']!r}: expected YYYY-MM-DD"
    if not run["device"]:
        yield "device is empty"
    if run["threads"] < 1:
        yield f"threads {run['threads']}: expected 1 or more"
    if not {"python", "torch"} <= set(run["versions"]):
        yield f"versions {dict(run['versions'])}: expected those of python and torch"
    if not 0 < run["seconds"] <= MAX_SECONDS:
        yield f"{run['seconds']} s: a lesson has {MAX_SECONDS} s"
    if not 0 < run["peak_memory_bytes"] <= MAX_MEMORY_BYTES:
        yield f"{run['peak_memory_bytes'] / 1e9:.2f} GB: a lesson has {MAX_MEMORY_BYTES / 1e9:.0f} GB"


# Rendering

FENCE = re.compile(r"^(`{3,}|~{3,})(?!\{).*?^\1`*~*\s*$", re.M | re.S)
# A code span; not a role's, which shows as it is typed.
CODE_SPAN = re.compile(r"(?<![}`])(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
DIRECTIVE = re.compile(r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{", re.M)
RAW = {
    "a colon fence": re.compile(r"^\s*:{3,}", re.M),
    "a role": re.compile(r"\{[a-z][\w:+.-]*\}`"),
    "a target": re.compile(r"^\([\w:.-]+\)=\s*$", re.M),
    "a substitution": re.compile(r"\{\{.*?\}\}"),
    "a MyST comment": re.compile(r"^%\s", re.M),
    "a block break": re.compile(r"^\+\+\+", re.M),
    "a footnote, which Jupyter shows as it is typed": re.compile(r"\[\^[\w-]+\]"),
    "an alert, which only GitHub renders": re.compile(r"^>\s*\[!\w+\]", re.M),
}
IMAGE = re.compile(r"!\[([^\]]*)\]")
HEADING = re.compile(r"^(#{1,6})\s", re.M)
PACKED_SUMMARY = re.compile(r"</summary>[ \t]*\n(?![ \t]*\n)")


def rendering_problems(notebook: Any) -> list[str]:
    """Prose reads alike in Jupyter, Colab, GitHub and the book; every picture can be read out."""
    problems, levels = [], []
    for i, cell in prose_cells(notebook):
        problems += [f"cell {i}: {line}" for line in markdown_problems(cell.source)]
        levels += [len(mark) for mark in HEADING.findall(FENCE.sub("", cell.source))]
    for i, cell in code_cells(notebook):
        for output in cell.outputs:
            problems += [f"cell {i}: {line}" for line in _output_problems(cell, output)]
    if levels[:1] != [1] or levels.count(1) != 1:
        problems.append(f"headings of levels {levels}: expected one title, and first")
    if any(b > a + 1 for a, b in itertools.pairwise(levels)):
        problems.append(f"headings of levels {levels}: a level is left out")
    return problems


def markdown_problems(text: str) -> list[str]:
    """Raw directives, pictures without alternative text, unbalanced <details>, in one piece of Markdown."""
    prose = FENCE.sub("", text)
    without_code = CODE_SPAN.sub("` `", prose)
    problems = ["a fenced directive shows"] if DIRECTIVE.search(prose) else []
    problems += [f"{name} shows" for name, pattern in RAW.items() if pattern.search(without_code)]
    problems += [
        "a picture has no alternative text" for alt in IMAGE.findall(without_code) if not alt.strip()
    ]
    if PACKED_SUMMARY.search(prose):
        problems.append("</summary> needs an empty line after it, or the Markdown below it is not rendered")
    return problems + html_problems(without_code)


def _output_problems(cell: Any, output: Any) -> list[str]:
    shown = data(output)
    silent = [kind for kind in shown if kind.startswith("image/") and not _alt(cell, output, kind)]
    problems = [f"{kind} without alt; teachkit.figures.static(draw, alt=...) gives it one" for kind in silent]
    problems += markdown_problems(shown.get("text/markdown", ""))
    return problems + html_problems(shown.get("text/html", ""))


def _alt(cell: Any, output: Any, kind: str) -> str:
    """Alternative text from the output's metadata, or from the cell's as MyST-NB reads it."""
    metadata = output.get("metadata", {})
    image = cell.metadata.get("mystnb", {}).get("image", {})
    return str(metadata.get(kind, {}).get("alt") or metadata.get("alt") or image.get("alt") or "").strip()


def html_problems(text: str) -> list[str]:
    page = _Html()
    page.feed(text)
    page.close()
    return page.problems + (["<details> is not closed"] if page.details else [])


class _Html(HTMLParser):
    """Looks for alternative text, and for <details> that open and close. The text of scripts is not HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.details = 0
        self.summaries = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img" and not (given.get("alt") or "").strip():
            self.problems.append("<img> without alternative text")
        if (
            tag == "svg"
            and given.get("aria-hidden") != "true"
            and not (given.get("aria-label") or "").strip()
        ):
            self.problems.append("<svg> without aria-label")
        self.details += tag == "details"
        self.summaries += tag == "summary"

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self.details -= 1
            if self.details < 0:
                self.problems.append("</details> without <details>")
                self.details = 0
            elif not self.summaries:
                self.problems.append("<details> without <summary>")
            self.summaries = max(0, self.summaries - 1)
