"""What the book says about its lessons, from the notebooks' own metadata: nothing here is typed twice.

A lesson is a notebook of the table of contents with `metadata.teachkit`. This adds

- under each lesson's title: how long it takes, its recorded run, its files, and where the repository is
  known places to open it in;
- the directive `lessons`: all lessons in order, by part, and how long they take together;
- the directive `execution-times`: a table of the recorded runs;
- the role `lesson`: {lesson}`attention` links to that lesson as "chapter 1".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


@dataclass(frozen=True)
class Lesson:
    """One lesson as its notebook describes itself; `number` is its place in the table of contents."""

    docname: str
    path: Path
    number: int
    part: str
    title: str
    about: dict[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        return dict(self.about["last_run"])


def lessons(app: Sphinx) -> list[Lesson]:
    """The lessons in the order of the table of contents."""
    found: list[Lesson] = []
    for part, docname in contents(app):
        path = Path(app.srcdir) / f"{docname}.ipynb"
        if path.is_file() and (read := read_lesson(path)):
            title, about = read
            found.append(Lesson(docname, path, len(found) + 1, part, title, about))
    return found


def read_lesson(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Title and `metadata.teachkit` of a notebook; None when it is no lesson."""
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, written: int) -> tuple[str, dict[str, Any]] | None:
    """Kept: the glossary alone asks for every lesson a hundred times, and each is a megabyte."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    about = notebook["metadata"].get("teachkit")
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    title = re.search(r"^# +(.+?)\s*$", text, flags=re.M)
    return (title[1], about) if about and title else None


def contents(app: Sphinx) -> Iterator[tuple[str, str]]:
    """(caption of its part, docname) of each page below the root."""
    for part in app.config.external_site_map.root.subtrees:
        for item in part.items:
            yield part.caption or "", str(item).removesuffix(".ipynb")


# In words


def duration(minutes: float) -> str:
    """
    >>> duration(75), duration(241), duration(60)
    ('75 minutes', 'about four hours', '60 minutes')
    """
    if minutes < 100:
        return f"{minutes:.0f} minutes"
    halves = round(minutes / 30)
    hours = NUMBERS[halves // 2] if halves // 2 < len(NUMBERS) else str(halves // 2)
    return f"about {hours}{' and a half' if halves % 2 else ''} hours"


def seconds(value: float) -> str:
    """
    >>> seconds(0.64), seconds(10.1)
    ('0.6 s', '10 s')
    """
    return f"{value:.0f} s" if value >= 9.5 else f"{value:.1f} s"


def memory(n_bytes: float) -> str:
    """
    >>> memory(1015623680), memory(640_000_000)
    ('1.0 GB', '0.6 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB"


def day(iso: str) -> str:
    """
    >>> day("2026-11-05")
    '5 November 2026'
    """
    when = date.fromisoformat(iso)
    return f"{when.day} {when:%B %Y}"


def machine(run: dict[str, Any]) -> str:
    """
    >>> machine({"device": "CPU", "threads": 2, "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"}})
    'CPU, 2 threads, Python 3.11, PyTorch 2.13'
    """
    short = {name: ".".join(version.split(".")[:2]) for name, version in run["versions"].items()}
    threads = f"{run['threads']} thread{'s' if run['threads'] != 1 else ''}"
    return f"{run['device']}, {threads}, Python {short['python']}, PyTorch {short['torch']}"


def facts(lesson: Lesson) -> str:
    """The sentences under a lesson's title."""
    run = lesson.run
    took = f"{seconds(run['seconds'])} and {memory(run['peak_memory_bytes'])} of memory"
    return f"{lesson.about['minutes']} minutes. Last run on {day(run['date'])}: {took} ({machine(run)})."


def repository(address: str) -> str:
    """The address of a repository as links are made of it.

    >>> repository("https://github.com/a/b/"), repository("https://github.com/a/b.git"), repository("")
    ('https://github.com/a/b', 'https://github.com/a/b', '')
    """
    return address.rstrip("/").removesuffix(".git")


def places_to_run(address: str, branch: str, docname: str, hub: str = "") -> dict[str, str]:
    """Where a notebook of a GitHub repository opens, by name; nothing without a repository.

    hub     address of a JupyterHub with nbgitpuller, such as a university's; "" for none

    >>> for name, address in places_to_run("https://github.com/a/b/", "", "notebooks/x", "https://hub.edu").items():
    ...     print(name, address)
    Colab https://colab.research.google.com/github/a/b/blob/main/notebooks/x.ipynb
    Binder https://mybinder.org/v2/gh/a/b/main?urlpath=lab%2Ftree%2Fnotebooks%2Fx.ipynb
    JupyterLab https://hub.edu/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fa%2Fb&branch=main&urlpath=lab%2Ftree%2Fb%2Fnotebooks%2Fx.ipynb
    >>> places_to_run("", "main", "notebooks/x")
    {}
    """
    place = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", repository(address))
    if not place:
        return {}
    owner, name = place.groups()
    branch, file = branch or "main", f"{docname}.ipynb"
    lab = quote(f"lab/tree/{file}", safe="")
    found = {
        "Colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/{branch}/{file}",
        "Binder": f"https://mybinder.org/v2/gh/{owner}/{name}/{branch}?urlpath={lab}",
    }
    if hub:
        asked = {
            "repo": f"https://github.com/{owner}/{name}",
            "branch": branch,
            "urlpath": f"lab/tree/{name}/{file}",
        }
        found["JupyterLab"] = f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{urlencode(asked)}"
    return found


def run_elsewhere(app: Sphinx, docname: str) -> list[nodes.Node]:
    """ ", or open it in Colab, Binder or JupyterLab", as far as there are such places."""
    theme = app.config.html_theme_options
    launch = theme.get("launch_buttons") or {}
    found = places_to_run(
        theme.get("repository_url", ""),
        theme.get("repository_branch", ""),
        docname,
        launch.get("jupyterhub_url", ""),
    )
    made: list[nodes.Node] = []
    for i, (name, address) in enumerate(found.items()):
        before = ", or open it in " if i == 0 else " or " if i == len(found) - 1 else ", "
        made += [nodes.Text(before), nodes.reference("", name, refuri=address)]
    return made


# On the pages


def add_facts(app: Sphinx, doctree: nodes.document) -> None:
    """Put the facts of a lesson under its title."""
    lesson = next((one for one in lessons(app) if one.docname == app.env.docname), None)
    title = next(iter(doctree.findall(nodes.title)), None)
    if lesson is None or title is None:
        return
    files = nodes.paragraph()
    files += nodes.Text("Download the ")
    files += _download(lesson.path, "notebook")
    source = lesson.path.with_suffix(".py")
    if source.is_file():
        files += nodes.Text(" or the ")
        files += _download(source, "Python script")
    files += run_elsewhere(app, lesson.docname)
    files += nodes.Text(".")
    box = nodes.container("", nodes.paragraph(text=facts(lesson)), files, classes=["lesson-facts"])
    title.parent.insert(title.parent.index(title) + 1, box)


def _download(path: Path, text: str) -> nodes.Element:
    link = addnodes.download_reference(reftarget=f"/notebooks/{path.name}")
    link += nodes.inline("", text)
    return link


def link_to(lesson: Lesson, docname: str, text: str) -> nodes.Element:
    """A link to a lesson's page."""
    link = addnodes.pending_xref(
        "",
        refdoc=docname,
        refdomain="std",
        reftype="doc",
        reftarget=f"/{lesson.docname}",
        refexplicit=True,
        refwarn=True,
    )
    link += nodes.inline("", text)
    return link


class LessonDirective(SphinxDirective):
    """Shared by both: the page is read again when a lesson or the table of contents has changed."""

    def lessons(self) -> list[Lesson]:
        found = lessons(self.env.app)
        for path in [Path(self.env.app.confdir) / "_toc.yml", *(lesson.path for lesson in found)]:
            self.env.note_dependency(str(path))
        if not found:
            raise self.warning("the table of contents has no lesson")
        return found


class LessonList(LessonDirective):
    """Each lesson with its first objective, and the time for all."""

    def run(self) -> list[nodes.Node]:
        found, made, part = self.lessons(), [], None
        for lesson in found:
            if lesson.part != part:
                part = lesson.part
                made.append(nodes.paragraph("", "", nodes.strong("", part), classes=["lesson-part"]))
                made.append(nodes.definition_list(classes=["lesson-list"]))
            term = nodes.term("", f"{lesson.number}. ", link_to(lesson, self.env.docname, lesson.title))
            term += nodes.Text(f" · {lesson.about['minutes']} minutes")
            goal = nodes.definition("", nodes.paragraph(text=f"{lesson.about['objectives'][0].rstrip('.')}."))
            made[-1] += nodes.definition_list_item("", term, goal)
        return [*made, nodes.paragraph(text=self.together(found))]

    @staticmethod
    def together(found: list[Lesson]) -> str:
        minutes = sum(lesson.about["minutes"] for lesson in found)
        count = NUMBERS[len(found)] if len(found) < len(NUMBERS) else str(len(found))
        what = f"All {count} together take" if len(found) > 1 else "It takes"
        return f"{what} {duration(minutes)}, exercises not counted."


class LessonRole(SphinxRole):
    """A lesson by its stem, as the number of its chapter."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        for lesson in lessons(self.env.app):
            if lesson.about["stem"] == self.text:
                return [link_to(lesson, self.env.docname, f"chapter {lesson.number}")], []
        problem = self.inliner.reporter.warning(f"no lesson has the stem {self.text!r}", line=self.lineno)
        return [], [problem]


class ExecutionTimes(LessonDirective):
    """The recorded run of each lesson; where and when stand in a sentence if they are the same for all."""

    def run(self) -> list[nodes.Node]:
        found = self.lessons()
        where = {lesson.docname: [day(lesson.run["date"]), machine(lesson.run)] for lesson in found}
        alike = len(set(map(tuple, where.values()))) == 1
        rows: list[list[nodes.Element | str]] = []
        for lesson in found:
            title = link_to(lesson, self.env.docname, f"{lesson.number}. {lesson.title}")
            took = [seconds(lesson.run["seconds"]), memory(lesson.run["peak_memory_bytes"])]
            rows.append([title, *took, *([] if alike else where[lesson.docname])])
        if len(found) > 1:
            total = seconds(sum(lesson.run["seconds"] for lesson in found))
            peak = memory(max(lesson.run["peak_memory_bytes"] for lesson in found))
            rows.append(["all, one after the other", total, peak, *([] if alike else ["", ""])])
        header = ["lesson", "time", "peak memory", *([] if alike else ["run on", "machine"])]
        table = make_table(header, rows)
        if not alike:
            return [table]
        date_, machine_ = where[found[0].docname]
        return [table, nodes.paragraph(text=f"Run on {date_}: {machine_}.")]


def make_table(header: list[str], rows: list[list[nodes.Element | str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    group += nodes.thead("", _row(list(header)))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group)


def _row(cells: list[Any]) -> nodes.row:
    # A figure and its unit stay on one line, however narrow the column.
    texts = [
        nodes.Text(re.sub(r"(?<=\d) (?=G?[Bs]$)", "\u00a0", cell)) if isinstance(cell, str) else cell
        for cell in cells
    ]
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", text)) for text in texts))


def add_progress(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Where lessons are listed by part, what this browser's reader has answered rightly of each."""
    listed = r'<p class="lesson-part">(?:(?!</p>).)*</p>\s*<dl class="[^"]*\blesson-list\b'
    if re.search(listed, context.get("body", ""), flags=re.S):
        app.add_js_file("progress.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", add_facts, priority=400)  # before Sphinx collects the downloads, at 500
    app.connect("html-page-context", add_progress)
    app.add_directive("lessons", LessonList)
    app.add_directive("execution-times", ExecutionTimes)
    app.add_role("lesson", LessonRole())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
