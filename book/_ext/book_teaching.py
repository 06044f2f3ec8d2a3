"""What the instructor guide says about lessons and labs, and how to cite the book: nothing is typed twice.

- the directive `objectives`: of each lesson its objectives, what it builds on, and its lab;
- the directive `syllabus`: a plan of book/syllabus.toml as a table, with the minutes of each week;
- the directive `citation`: CITATION.cff as BibTeX (`bibtex`) or in a sentence (`text`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import book_labs
import book_lessons
from book_labs import Lab
from book_lessons import Lesson

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PARENTHESES = re.compile(r"\([^()]*\)")
NEEDS = re.compile(r"\*\*You need\*\*(.+?)\.(?:\s|$)", re.S)


# What a lesson builds on


def needs(lesson: Lesson, among: Sequence[Lesson]) -> list[Lesson]:
    """The lessons that the first sentence of its paragraph "You need" names, in the book's order."""
    notebook = json.loads(lesson.path.read_text(encoding="utf-8"))
    prose = ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    titles = {one.about["stem"]: one.title for one in among if one.number < lesson.number}
    stems = named("\n".join(prose), titles)
    return [one for one in among if one.about["stem"] in stems]


def named(text: str, titles: dict[str, str]) -> set[str]:
    """The stems that a paragraph "You need" names: in words, `cost_model` as "the cost model", or by title.

    titles  {stem: title}; of a title what stands before its colon

    >>> titles = {"model": "A decoder", "cost_model": "Estimates", "gqa": "Grouped queries: once", "x": "X"}
    >>> sorted(named("**You need** the lessons on the cost model (no model) and grouped queries. X.", titles))
    ['cost_model', 'gqa']
    """
    found = NEEDS.search(PARENTHESES.sub("", text))
    stems, stated = set(), found[1] if found else ""
    if not re.search(r"\blessons?\b", stated):
        return stems
    for stem in sorted(titles, key=len, reverse=True):  # the cost model before the model
        in_words = r"\s+(?:and\s+)?".join(map(re.escape, stem.split("_")))
        title = re.escape(titles[stem].split(":")[0])
        stated, times = re.subn(rf"\b(?:{in_words}|{title})\b", "", stated, flags=re.I)
        stems |= {stem} if times else set()
    return stems


# The plans


@dataclass(frozen=True)
class Week:
    """One week of a plan; lessons and labs by their stems."""

    lessons: tuple[str, ...]
    labs: tuple[str, ...]
    note: str


def plan(path: Path, weeks: int) -> list[Week]:
    """The plan of so many weeks. Raises ValueError: there is none, or it has another number of weeks."""
    plans = tomllib.loads(path.read_text(encoding="utf-8"))["plan"]
    found = next((one["week"] for one in plans if one["weeks"] == weeks), None)
    if found is None:
        raise ValueError(f"{path.name}: expected one of {[one['weeks'] for one in plans]} weeks, got {weeks}")
    if len(found) != weeks:
        raise ValueError(f"{path.name}: the plan of {weeks} weeks has {len(found)}")
    return [Week(tuple(w.get("lessons", ())), tuple(w.get("labs", ())), w.get("note", "")) for w in found]


def wrong(weeks: Sequence[Week], builds_on: dict[str, set[str]], lab_of: dict[str, str]) -> Iterator[str]:
    """What is wrong with a plan, a line each.

    builds_on  {lesson: the lessons that it needs}, of every lesson of the book
    lab_of     {lab: its lesson}, of every lab
    """
    taught = [stem for week in weeks for stem in week.lessons]
    given = [stem for week in weeks for stem in week.labs]
    for kind, listed, there in (("lesson", taught, builds_on), ("lab", given, lab_of)):
        for stem in sorted({*listed, *there}):
            if listed.count(stem) != (stem in there):
                yield f"the {kind} {stem} stands {listed.count(stem)} times, expected {int(stem in there)}"
    for stem in taught:
        later = builds_on.get(stem, set()) - set(taught[: taught.index(stem)])
        yield from (f"{stem} comes before {other}, on which it builds" for other in sorted(later))
    known: set[str] = set()
    for week in weeks:
        known |= set(week.lessons)
        yield from (
            f"the lab {lab} comes before its lesson" for lab in week.labs if lab_of.get(lab) not in known
        )


def hours(minutes: float) -> str:
    """Minutes as a table of hours has them.

    >>> hours(215), hours(60), hours(0), hours(5)
    ('3 h 35', '1 h 00', '0 h 00', '0 h 05')
    """
    return f"{minutes // 60:.0f} h {minutes % 60:02.0f}"


def lab_minutes(lab: Lab) -> int:
    return int(lab.about["minutes"])


# On the page


class TeachingDirective(book_lessons.LessonDirective):
    """Shared by both: the page is read again when a lab has changed, too."""

    def labs(self) -> list[Lab]:
        found = book_labs.labs(self.env.app)
        for lab in found:
            self.env.note_dependency(str(lab.path))
        return found


class Objectives(TeachingDirective):
    """Each lesson with what it is for, what it builds on, and its lab."""

    def run(self) -> list[nodes.Node]:
        found, all_labs = self.lessons(), self.labs()
        made: list[nodes.Node] = []
        for lesson in found:
            link = book_lessons.link_to(lesson, self.env.docname, f"{lesson.number}. {lesson.title}")
            made.append(nodes.paragraph("", "", link, classes=["lesson-part"]))
            goals = (nodes.paragraph(text=goal) for goal in lesson.about["objectives"])
            made.append(nodes.bullet_list("", *(nodes.list_item("", goal) for goal in goals)))
            if facts := list(self.facts(lesson, found, all_labs)):
                made.append(nodes.paragraph("", "", *facts))
        return made

    def facts(self, lesson: Lesson, among: Sequence[Lesson], all_labs: Sequence[Lab]) -> Iterator[nodes.Node]:
        """A sentence on what it builds on, and one on its lab, as far as there is something to say."""
        before = needs(lesson, among)
        for at, one in enumerate(before):
            lead = f"Builds on chapter{'s' * (len(before) > 1)} " if at == 0 else ", "
            yield nodes.Text(" and " if 0 < at == len(before) - 1 else lead)
            yield book_lessons.link_to(one, self.env.docname, str(one.number))
        yield nodes.Text(". " if before else "")
        for lab in (one for one in all_labs if one.stem == lesson.about["lab"]):
            yield nodes.Text("Lab: ")
            yield book_labs.link_to(lab.docname, self.env.docname, lab.title)
            yield nodes.Text(f", {lab_minutes(lab)} minutes.")


class Syllabus(TeachingDirective):
    """A plan as a table: {syllabus} 6. One with something wrong is a warning, so that it fails the build."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.app.srcdir) / "book" / "syllabus.toml"
        self.env.note_dependency(str(path))
        self.by_stem = {one.about["stem"]: one for one in self.lessons()}
        self.labs_by_stem = {one.stem: one for one in self.labs()}
        weeks = self.weeks(path)
        notes = any(week.note for week in weeks)
        rows, sums = [], [0, 0]
        for number, week in enumerate(weeks, 1):
            reading = sum(self.by_stem[stem].about["minutes"] for stem in week.lessons)
            doing = sum(lab_minutes(self.labs_by_stem[stem]) for stem in week.labs)
            sums = [sums[0] + reading, sums[1] + doing]
            cells = [str(number), self.links(week.lessons), self.lab_links(week.labs)]
            cells += [hours(reading), hours(doing) if doing else "", hours(reading + doing)]
            rows.append(cells + [week.note] * notes)
        rows.append(["all", "", "", *map(hours, (*sums, sum(sums))), *[""] * notes])
        header = ["week", "lessons", "labs given out", "lessons take", "labs take", "together"]
        table = book_lessons.make_table(header + ["besides"] * notes, rows)
        table["classes"].append("syllabus")
        return [table]

    def weeks(self, path: Path) -> list[Week]:
        """The plan, once nothing is wrong with it."""
        found = list(self.by_stem.values())
        builds_on = {
            one.about["stem"]: {before.about["stem"] for before in needs(one, found)} for one in found
        }
        lab_of = {
            one.about["lab"]: one.about["stem"] for one in found if one.about["lab"] in self.labs_by_stem
        }
        try:
            weeks = plan(path, int(self.arguments[0]))
            problems = list(wrong(weeks, builds_on, lab_of))
        except ValueError as error:
            problems, weeks = [str(error)], []
        if problems:
            raise self.warning(f"syllabus {self.arguments[0]}: {'; '.join(problems)}")
        return weeks

    def links(self, stems: Sequence[str]) -> nodes.Element:
        """By number and the head of the title: seven columns leave no room for what comes after a colon."""
        found = ((self.by_stem[stem], self.by_stem[stem].title.split(":")[0]) for stem in stems)
        return _joined(
            book_lessons.link_to(one, self.env.docname, f"{one.number}. {head}") for one, head in found
        )

    def lab_links(self, stems: Sequence[str]) -> nodes.Element:
        labs = (self.labs_by_stem[stem] for stem in stems)
        return _joined(book_labs.link_to(lab.docname, self.env.docname, lab.title) for lab in labs)


def _joined(links: Iterator[nodes.Element]) -> nodes.Element:
    """Links with semicolons between them: titles have commas of their own."""
    made = nodes.inline()
    for at, link in enumerate(links):
        made += [nodes.Text("; "), link] if at else [link]
    return made


# How to cite


def authors(cff: dict[str, Any]) -> list[str]:
    """As BibTeX has them: "Last, First", and in braces the name of a group.

    >>> authors({"authors": [{"family-names": "Lovelace", "given-names": "Ada"}, {"name": "The authors"}]})
    ['Lovelace, Ada', '{The authors}']
    >>> authors({"authors": [{"given-names": "Suharto"}, {"alias": "_why"}]})  # no name is required
    ['Suharto', '{_why}']
    """
    return [_author(one) for one in cff["authors"]]


def _author(one: dict[str, str]) -> str:
    names = [one[key] for key in ("family-names", "given-names") if one.get(key)]
    if names:
        return ", ".join(names)
    return f"{{{one.get('name') or one['alias']}}}"


def bibtex(cff: dict[str, Any], address: str = "") -> str:
    """A CITATION.cff as an entry for BibTeX. address: of the repository, if the file itself has none."""
    title = re.sub(r"([&%$#_])", r"\\\1", cff["title"])
    year = str(cff["date-released"])[:4]
    fields = {
        "author": " and ".join(authors(cff)),
        "title": f"{{{title}}}",
        "year": year,
        "version": cff["version"],
        "url": cff.get("repository-code") or cff.get("url") or address,
    }
    key = re.sub(r"\W+", "", cff["title"].split(":")[0].lower())
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@software{{{key}{year},", *lines, "}"])


def sentence(cff: dict[str, Any], address: str = "") -> str:
    """The same in plain text."""
    names = " and ".join(name.strip("{}") for name in authors(cff))
    place = cff.get("repository-code") or cff.get("url") or address
    said = f"{names} ({str(cff['date-released'])[:4]}). {cff['title']}. Version {cff['version']}."
    return f"{said} {place}" if place else said


class Citation(SphinxDirective):
    """{citation} bibtex, or {citation} text."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        form = {"bibtex": bibtex, "text": sentence}.get(self.arguments[0])
        if form is None:
            raise self.error(f"citation: expected bibtex or text, got {self.arguments[0]!r}")
        path = Path(self.env.app.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        address = self.env.app.config.html_theme_options.get("repository_url", "")
        text = form(yaml.safe_load(path.read_text(encoding="utf-8")), address)
        if form is sentence:  # a quotation wraps; an entry is copied as it stands
            return [nodes.block_quote("", nodes.paragraph(text=text))]
        block = nodes.literal_block(text, text)
        block["language"] = "bibtex"
        return [block]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("objectives", Objectives)
    app.add_directive("syllabus", Syllabus)
    app.add_directive("citation", Citation)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
