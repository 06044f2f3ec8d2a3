"""book_teaching.py: objectives, plans and citation say what their sources say, and the plans hold."""

from __future__ import annotations

import copy
import doctest
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml

import book_labs
import book_lessons
import book_teaching
import lesson_guards as guards
from book_teaching import Week, plan, wrong

ROOT = guards.ROOT
BOOK = ROOT / "book"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PLANS = (6, 12)
# Read off the lessons' first cells by hand; the extension reads them by itself.
BUILDS_ON = {
    "attention": set(),
    "model": {"attention"},
    "generation": {"attention", "model"},
    "kv_cache": {"attention", "model", "generation"},
    "roofline": {"attention", "model", "generation", "kv_cache"},
    "cost_model": {"model", "kv_cache", "roofline"},
    "latency_throughput": {"generation", "kv_cache", "roofline", "cost_model"},
    "gqa": {"attention", "kv_cache", "roofline"},
    "sliding_window": {"attention", "model", "kv_cache"},
    "quantization": {"model", "kv_cache", "roofline"},
    "overhead": {"model", "kv_cache", "roofline", "cost_model"},
    "paged_cache": {"attention", "generation", "kv_cache"},
    "continuous_batching": {"generation", "kv_cache", "latency_throughput", "paged_cache"},
}


def application():
    """What the extensions ask of Sphinx."""
    parts = [
        SimpleNamespace(caption=part["caption"], items=[chapter["file"] for chapter in part["chapters"]])
        for part in TOC["parts"]
    ]
    site = SimpleNamespace(root=SimpleNamespace(subtrees=parts))
    return SimpleNamespace(srcdir=str(ROOT), config=SimpleNamespace(external_site_map=site))


LESSONS = book_lessons.lessons(application())
LABS = book_labs.labs(application())


def builds_on() -> dict[str, set[str]]:
    return {
        lesson.about["stem"]: {one.about["stem"] for one in book_teaching.needs(lesson, LESSONS)}
        for lesson in LESSONS
    }


def lab_of() -> dict[str, str]:
    return {lesson.about["lab"]: lesson.about["stem"] for lesson in LESSONS if lesson.about["lab"]}


def test_examples():
    done = doctest.testmod(book_teaching)
    assert (done.failed, done.attempted > 0) == (0, True)


# What builds on what


def test_lessons_build_on_those_that_they_name():
    found = builds_on()
    assert {stem: found[stem] for stem in BUILDS_ON} == BUILDS_ON


def test_every_lesson_but_the_first_builds_on_another():
    found = builds_on()
    assert [stem for stem, before in found.items() if not before] == [LESSONS[0].about["stem"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "**You need** the lessons on attention\nand on the KV\ncache. The model is small.",
            {"attention", "kv_cache"},
        ),
        ("**You need** the lesson on latency and throughput. No GPU.", {"latency_throughput"}),
        ("**You need** the lessons on attention (`a.b`, as in the model). Then more.", {"attention"}),
        ("**You need** Python, and attention to detail. The lessons on attention are elsewhere.", set()),
        ("No such paragraph about lessons on attention.", set()),
    ],
)
def test_named_lessons(text, expected):
    titles = {stem: stem for stem in ("attention", "model", "kv_cache", "latency_throughput")}
    assert book_teaching.named(text, titles) == expected


# The plans


@pytest.mark.parametrize("weeks", PLANS)
def test_plan_has_every_lesson_and_lab_once_and_in_order(weeks):
    assert list(wrong(plan(BOOK / "syllabus.toml", weeks), builds_on(), lab_of())) == []
    assert set(lab_of()) == {lab.stem for lab in LABS}


@pytest.mark.parametrize("weeks", PLANS)
def test_plan_keeps_the_order_of_the_book_and_spreads_the_work(weeks):
    found = plan(BOOK / "syllabus.toml", weeks)
    order = [lesson.about["stem"] for lesson in LESSONS]
    assert [stem for week in found for stem in week.lessons] == order
    minutes = {one.about["stem"]: one.about["minutes"] for one in LESSONS}
    labs = {lab.stem: book_teaching.lab_minutes(lab) for lab in LABS}
    loads = [sum(minutes[s] for s in week.lessons) + sum(labs[s] for s in week.labs) for week in found]
    assert sum(loads) == sum(minutes.values()) + sum(labs.values())
    assert max(loads) <= 1.6 * sum(loads) / weeks, f"too much in one week: {loads}"


NEEDS = {"a": set(), "b": {"a"}, "c": {"a"}}
OF = {"x": "b", "y": "c"}
GOOD = [Week(("a",), (), ""), Week(("b",), (), ""), Week(("c",), ("x", "y"), "")]


def changed(number, **fields):
    weeks = copy.copy(GOOD)
    weeks[number] = Week(**(vars(weeks[number]) | fields))
    return weeks


@pytest.mark.parametrize(
    ("weeks", "said"),
    [
        (GOOD, []),
        (changed(1, labs=("x",))[:2], ["lesson c stands 0 times", "lab y stands 0 times"]),
        (changed(0, lessons=("a", "b")), ["lesson b stands 2 times"]),
        (changed(0, lessons=("a", "nothere")), ["lesson nothere stands 1 times, expected 0"]),
        (changed(0, lessons=("b", "a"))[:1] + changed(1, lessons=())[1:], ["b comes before a"]),
        (changed(0, labs=("x",))[:2] + changed(2, labs=("y",))[2:], ["lab x comes before its lesson"]),
        (changed(2, labs=("x", "y", "x")), ["lab x stands 2 times"]),
    ],
)
def test_what_is_wrong_with_a_plan_is_told(weeks, said):
    found = list(wrong(weeks, NEEDS, OF))
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True)), found


def test_a_plan_must_be_there_and_have_its_weeks(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of \[6, 12\] weeks, got 7"):
        plan(BOOK / "syllabus.toml", 7)
    short = tmp_path / "syllabus.toml"
    short.write_text("[[plan]]\nweeks = 2\n[[plan.week]]\nlessons = []\n", encoding="utf-8")
    with pytest.raises(ValueError, match="plan of 2 weeks has 1"):
        plan(short, 2)


@pytest.mark.parametrize(
    ("weeks", "said"),
    [
        ([Week(("nothere",), (), "")], "the lesson nothere stands 1 times, expected 0"),
        ([Week(("model", "attention"), (), "")], "model comes before attention"),
    ],
)
def test_a_page_with_a_wrong_plan_warns(weeks, said, tmp_path):
    """Also with a lesson that there is not, of which no link can be made."""
    lines = ["[[plan]]", f"weeks = {len(weeks)}"]
    for week in weeks:
        lines += ["[[plan.week]]", f"lessons = {list(week.lessons)}"]
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "syllabus.toml").write_text("\n".join(lines), encoding="utf-8")
    noted = []
    env = SimpleNamespace(
        app=SimpleNamespace(srcdir=str(tmp_path)), docname="book/x", note_dependency=noted.append
    )
    directive = book_teaching.Syllabus.__new__(book_teaching.Syllabus)
    directive.arguments = [str(len(weeks))]
    directive.state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))
    directive.lessons, directive.labs = lambda: LESSONS[:2], list
    directive.directive_error = lambda level, message: ValueError(f"{level} {message}")
    with pytest.raises(ValueError, match=rf"2 syllabus 1: .*{said}"):
        directive.run()


def test_the_guide_is_read_again_when_a_lab_has_changed():
    noted = []
    app = application()
    env = SimpleNamespace(app=app, docname="book/x", note_dependency=noted.append)
    app.confdir = str(ROOT)
    directive = book_teaching.Objectives.__new__(book_teaching.Objectives)
    directive.state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))
    directive.run()
    assert {str(lab.path) for lab in LABS} < set(noted)


# The citation

CFF = {
    "title": "Bytes & bits: a 100 % course",
    "authors": [{"family-names": "Lovelace", "given-names": "Ada"}, {"name": "The rest"}],
    "version": "1.2",
    "date-released": "2031-02-03",
}


def test_citation_as_bibtex():
    assert book_teaching.bibtex(CFF) == (
        "@software{bytesbits2031,\n"
        "  author = {Lovelace, Ada and {The rest}},\n"
        "  title = {{Bytes \\& bits: a 100 \\% course}},\n"
        "  year = {2031},\n"
        "  version = {1.2},\n"
        "}"
    )


def test_citation_in_a_sentence():
    said = "Lovelace, Ada and The rest (2031). Bytes & bits: a 100 % course. Version 1.2."
    assert book_teaching.sentence(CFF) == said
    assert book_teaching.sentence(CFF, "https://example.org/a") == f"{said} https://example.org/a"


def test_an_address_in_the_file_comes_before_that_of_the_book():
    own = CFF | {"repository-code": "https://example.org/own"}
    for form in (book_teaching.bibtex, book_teaching.sentence):
        assert "example.org/own" in form(own, "https://example.org/book")
        assert "example.org/book" in form(CFF, "https://example.org/book")


def test_citation_of_the_course():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    entry = book_teaching.bibtex(cff)
    assert entry.startswith("@software{memorybound")
    assert f"{{{cff['title']}}}" in entry
    version = (ROOT / "src" / "teachkit" / "__init__.py").read_text(encoding="utf-8")
    assert f'"{cff["version"]}"' in version, "CITATION.cff has another version than the package"


# The pages, built alone


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The guides of teaching, with lessons and labs as they are, their code not run."""
    root = tmp_path_factory.mktemp("guides")
    for name in (
        "book/_ext",
        "book/_static",
        "notebooks",
        "labs",
        "book/references.bib",
        "book/syllabus.toml",
    ):
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copied(ROOT / name, root / name)
    for name in ("CITATION.cff", "CHANGELOG.md", "book/how_to_cite.md", "book/changelog.md"):
        shutil.copy(ROOT / name, root / name)
    guide = (BOOK / "instructor_guide.md").read_text(encoding="utf-8")
    # Pages that are not built here.
    guide = re.sub(r"\[([^\]]+)\]\([\w]+\.md(?:#[\w-]+)?\)", r"\1", guide)
    (root / "book" / "instructor_guide.md").write_text(guide, encoding="utf-8")
    pages = ["book/instructor_guide", "book/how_to_cite", "book/changelog"]
    notebooks = [part for part in TOC["parts"] if "notebooks/" in str(part) or "labs/" in str(part)]
    for part in notebooks:
        part["chapters"] = [c for c in part["chapters"] if not c["file"].startswith("book/")]
    toc = {
        "format": "jb-book",
        "root": pages[0],
        "parts": [*notebooks, {"chapters": [{"file": p} for p in pages[1:]]}],
    }
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    (root / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    extensions = [
        "sphinx.ext.mathjax",
        "myst_nb",
        "sphinx_external_toc",
        "book_lessons",
        "book_labs",
        "book_teaching",
    ]
    conf = {
        "extensions": extensions,
        "nb_execution_mode": "off",
        "myst_enable_extensions": config["parse"]["myst_enable_extensions"],
        "external_toc_path": str(root / "_toc.yml"),
        "exclude_patterns": ["**/*.py", "_build"],
        # Lessons refer to pages and to kinds of output that are not of interest here.
        "suppress_warnings": ["myst.xref_missing", "mystnb.unknown_mime_type", "misc.highlighting_failure"],
    }
    lines = [f"{name} = {value!r}" for name, value in conf.items()]
    path = f"import sys\nsys.path.insert(0, {str(root / 'book' / '_ext')!r})\n"
    (root / "conf.py").write_text(path + "\n".join(lines) + "\n", encoding="utf-8")
    words = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(root), str(root / "_build")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mine = [
        line
        for line in done.stderr.splitlines()
        if re.search(r"instructor_guide|how_to_cite|changelog", line)
    ]
    assert mine == []
    return root / "_build"


def words_of(page: Path) -> str:
    text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", text.translate(str.maketrans("‘’“”", "''\"\"")))


@pytest.mark.slow
def test_built_guide_lists_every_objective_and_both_plans(built):
    text = words_of(built / "book" / "instructor_guide.html")
    for lesson in LESSONS:
        assert f"{lesson.number}. {lesson.title}" in text
    minutes = [sum(one.about["minutes"] for one in LESSONS), sum(map(book_teaching.lab_minutes, LABS))]
    row = " ".join(map(book_teaching.hours, (*minutes, sum(minutes))))
    assert text.count(f"all {row}") == len(PLANS)
    objectives = nbformat.read(ROOT / "notebooks" / "gqa.ipynb", as_version=4).metadata.teachkit.objectives
    assert " ".join(objectives).replace("'", "") in text.replace("'", "")
    assert "Builds on chapters 1 , 4 and 5 . Lab: Fewer keys and values , 75 minutes." in text


@pytest.mark.slow
def test_built_citation_and_changelog(built):
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f"Version {cff['version']}." in words_of(built / "book" / "how_to_cite.html")
    page = (built / "book" / "changelog.html").read_text(encoding="utf-8")
    levels = [
        int(level) for level in re.findall(r"<h(\d)", page.split('role="main"')[1].split("sphinxsidebar")[0])
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
