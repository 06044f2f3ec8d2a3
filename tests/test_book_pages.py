"""book/_ext and the pages it makes: what a page says of a lesson or a module is what the source says.

Read from the sources where that is enough; built pages are looked at where `make book` has been run since.
"""

from __future__ import annotations

import ast
import doctest
import html
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from docutils import nodes

import book_api
import book_cover
import book_images
import book_labs
import book_lessons
import book_math
import book_site
import book_terms
import lesson_guards as guards
import site_pages
from test_architecture import LEVELS, MODULES, siblings
from test_figures import browser  # noqa: F401  (a fixture)

ROOT = guards.ROOT
BOOK = ROOT / "book"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
FILES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
LESSONS = [Path(file).name for file in FILES if file.startswith("notebooks/")]
each_lesson = pytest.mark.parametrize("stem", LESSONS)


def application():
    """What book_lessons asks of Sphinx."""
    parts = [
        SimpleNamespace(caption=part["caption"], items=[chapter["file"] for chapter in part["chapters"]])
        for part in TOC["parts"]
    ]
    site = SimpleNamespace(root=SimpleNamespace(subtrees=parts))
    return SimpleNamespace(srcdir=str(ROOT), config=SimpleNamespace(external_site_map=site))


def about(stem):
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).metadata.teachkit


@pytest.fixture(scope="module")
def page():
    """From a name to the article as it was built. Skips where the book is older than its sources."""
    site_pages.skip_or_fail()

    def read(name):
        text = (site_pages.SITE / f"{name}.html").read_text(encoding="utf-8")
        return text.split('<article class="bd-article">', 1)[1].split("</article>")[0]

    return read


def words(article):
    """The text of an article, without tags and with the quotation marks of a keyboard."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", article)).translate(str.maketrans("‘’“”", "''\"\""))
    return re.sub(r" (?=[,.;:])", "", re.sub(r"\s+", " ", text))  # a link's end is no word's


@pytest.mark.parametrize(
    "extension",
    [book_lessons, book_api, book_cover, book_images, book_math, book_site, book_terms],
    ids=lambda module: module.__name__,
)
def test_examples_in_the_extensions(extension):
    done = doctest.testmod(extension)
    assert (done.failed, done.attempted > 0) == (0, True)


# The table of contents


def test_every_lesson_is_in_the_table_of_contents_once():
    assert sorted(LESSONS) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def test_every_page_is_in_the_table_of_contents():
    assert {f"book/{path.stem}" for path in BOOK.glob("*.md")} == {
        TOC["root"],
        *(file for file in FILES if file.startswith("book/")),
    }


def test_lessons_come_in_its_order_with_their_own_titles():
    found = book_lessons.lessons(application())
    assert [lesson.about["stem"] for lesson in found] == LESSONS
    assert [lesson.number for lesson in found] == list(range(1, len(LESSONS) + 1))
    for lesson in found:
        assert f"# # {lesson.title}\n" in lesson.path.with_suffix(".py").read_text(encoding="utf-8")


# What a page says of itself


def document(*paragraphs):
    made = nodes.document("", "")
    made += [nodes.paragraph("", "", *parts) for parts in paragraphs]
    return made


def test_a_description_has_no_formula():
    tex = nodes.math("", r"2 \cdot 7")
    puzzle = nodes.Text("An A100 can do 312 TFLOP/s, says its sheet. A token takes ")
    first = [puzzle, tex, nodes.Text(" operations. So what does it wait for?")]
    assert book_site.describe(document(first)) == "An A100 can do 312 TFLOP/s, says its sheet."
    late = [nodes.Text("A paragraph with words and nothing else, long enough.")]
    assert book_site.describe(document([tex, nodes.Text(" is first, with a long text after it. " * 2)], late))
    assert book_site.describe(document([tex.deepcopy()], late)) == late[0].astext()


def test_tables_take_no_minutes():
    cell = nodes.entry("", nodes.paragraph(text="word " * 440))
    table = nodes.table("", nodes.tgroup("", nodes.tbody("", nodes.row("", cell))))
    made = document([nodes.Text("word " * 660)])
    made += table
    assert book_site.minutes_to_read(made) == 3


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("book/intro.md", "book/intro.md"),
        ("notebooks/roofline.ipynb", "notebooks/roofline.py"),
        ("labs/roofline/roofline.ipynb", "labs/roofline/source.py"),
    ],
)
def test_a_page_is_edited_where_it_is_written(name, source):
    assert book_site.edited(ROOT / name) == ROOT / source


@pytest.mark.parametrize("said", [("True", True), (True, True), ("false", False), (None, False)])
def test_a_page_for_lookup_says_so(said):
    env = SimpleNamespace(metadata={"book/x": {} if said[0] is None else {"lookup": said[0]}})
    assert book_terms.for_lookup(env, "book/x") is said[1]


# Facts


@each_lesson
def test_facts_are_those_of_the_metadata(stem):
    lesson = next(one for one in book_lessons.lessons(application()) if one.about["stem"] == stem)
    recorded, said = about(stem), book_lessons.facts(lesson)
    run = recorded.last_run
    assert said.startswith(f"{recorded.minutes} minutes.")
    seconds, gigabytes = map(float, re.search(r": ([\d.]+) s and ([\d.]+) GB of memory", said).groups())
    assert seconds == pytest.approx(run.seconds, abs=0.51)
    assert gigabytes == pytest.approx(run.peak_memory_bytes / 1e9, abs=0.051)
    assert run.date[:4] in said
    assert run.device in said
    assert f"{run.threads} thread" in said
    for version in run.versions.values():
        assert ".".join(version.split(".")[:2]) in said


@each_lesson
def test_facts_stand_under_the_title(stem):
    lesson = next(one for one in book_lessons.lessons(application()) if one.about["stem"] == stem)
    page = nodes.document("", "")
    page += nodes.section("", nodes.title(text=lesson.title), nodes.paragraph(text="First."))
    app = application()
    app.env = SimpleNamespace(docname=lesson.docname)
    app.config.html_theme_options = {"repository_url": "https://github.com/a/b", "repository_branch": "x"}
    book_lessons.add_facts(app, page)
    title, box, first = page[0].children
    assert (title.astext(), first.astext()) == (lesson.title, "First.")
    assert book_lessons.facts(lesson) in box.astext()
    files = [link["reftarget"] for link in box.findall() if link.tagname == "download_reference"]
    assert files == [f"/notebooks/{stem}.ipynb", f"/notebooks/{stem}.py"]
    places = {link.astext(): link["refuri"] for link in box.findall(nodes.reference) if "refuri" in link}
    assert list(places) == ["Colab", "Binder"]
    assert places["Colab"] == f"https://colab.research.google.com/github/a/b/blob/x/notebooks/{stem}.ipynb"


def test_other_pages_get_no_facts():
    page = nodes.document("", "")
    page += nodes.section("", nodes.title(text="Notation"))
    app = application()
    app.env = SimpleNamespace(docname="book/notation")
    book_lessons.add_facts(app, page)
    assert len(page[0].children) == 1


@pytest.mark.parametrize(
    "address", ["", "https://gitlab.com/a/b", "git@github.com:a/b", "https://github.com/a"]
)
def test_no_place_to_run_without_an_address_on_github(address):
    assert book_lessons.places_to_run(address, "main", "notebooks/x", "https://hub.edu") == {}


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (45, "45 minutes"),
        (120, "about two hours"),
        (150, "about two and a half hours"),
        (240, "about four hours"),
    ],
)
def test_durations_in_words(minutes, said):
    assert book_lessons.duration(minutes) == said


def test_a_notebook_without_teachkit_metadata_is_no_lesson(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Other")])
    nbformat.write(notebook, tmp_path / "other.ipynb")
    assert book_lessons.read_lesson(tmp_path / "other.ipynb") is None


# Built pages


@pytest.mark.slow
@each_lesson
def test_built_lesson_shows_its_facts(stem, page):
    lesson = next(one for one in book_lessons.lessons(application()) if one.about["stem"] == stem)
    assert words(page(f"notebooks/{stem}")).count(book_lessons.facts(lesson)) == 1


@pytest.mark.slow
def test_built_intro_lists_the_lessons_of_the_table_of_contents(page):
    text = words(page("book/intro"))
    places = [
        text.index(f"{n}. {lesson.title} · {lesson.about['minutes']} minutes {lesson.about['objectives'][0]}")
        for n, lesson in enumerate(book_lessons.lessons(application()), 1)
    ]
    assert places == sorted(places)
    total = sum(about(stem).minutes for stem in LESSONS)
    assert f"{book_lessons.duration(total)}, exercises not counted" in text


@pytest.mark.slow
def test_built_times_are_never_empty(page):
    text = words(page("book/execution_times"))
    for n, lesson in enumerate(book_lessons.lessons(application()), 1):
        assert f"{n}. {lesson.title} {book_lessons.seconds(lesson.run['seconds'])}" in text


@pytest.mark.slow
def test_built_reference_has_every_public_name(page):
    ids = set(re.findall(r'id="(teachkit[\w-]*)"', page("book/api")))
    for name, source in book_api.modules(ROOT / "src" / "teachkit").items():
        dotted = f"teachkit.{name}".strip(".")
        tree = ast.parse(source.read_text(encoding="utf-8"))
        public = [dotted, *(f"{dotted}.{node.name}" for node in tree.body if is_public(node))]
        assert {name.replace(".", "-") for name in public} <= ids, dotted


@pytest.mark.slow
def test_the_card_says_what_the_first_page_shows(page):
    """Its picture is drawn of this figure; one that changed asks for `make card` and new words here."""
    shown = words(re.search(r'<figure class="one-token">.*?</figure>', page("book/intro"), re.S)[0])
    rate = re.search(r"```\{one-token\} ([\d.]+)", (BOOK / "intro.md").read_text(encoding="utf-8"))[1]
    said = book_cover.in_words("Memory Bound", float(rate))
    assert said.endswith(": arithmetic 0.043 ms, reading the weights 6.6 ms, measured 9.5 ms.")
    for part in ("arithmetic 0.043 ms", "reading the weights 6.6 ms", "measured 9.5 ms"):
        assert part in shown


@pytest.mark.slow
def test_built_claims_lead_to_sections_that_are_there(page):
    found = re.findall(r'href="\.\./notebooks/(\w+)\.html#([\w-]+)"', page("book/claims"))
    assert {stem for stem, _ in found} > {"kv_cache", "roofline", "cost_model", "latency_throughput"}
    for stem, section in set(found):
        assert f'<section id="{section}"' in page(f"notebooks/{stem}"), f"{stem}#{section}"


def is_public(node):
    return isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", [TOC["root"], *FILES])
def test_built_page_fits_a_phone_and_asks_no_network(name, page, browser):  # noqa: F811
    page(name)
    address = (site_pages.SITE / f"{name}.html").as_uri()
    for width in (360, 1280):
        context = browser.new_context(viewport={"width": width, "height": 800})
        tab, asked, errors = context.new_page(), [], []
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        tab.goto(address)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert errors == []
        context.close()


# The reference of the package


def test_reference_names_every_module_and_reads_from_below():
    content = re.search(r"```\{api\}\n(.*?)```", (BOOK / "api.md").read_text(encoding="utf-8"), re.S)[1]
    found = set(book_api.modules(ROOT / "src" / "teachkit")) - {""}
    order = book_api.reading_order(content.split(), found)
    assert set(order) == found, "name the new module in book/api.md, after those that it imports"
    inside = {name: name if name in MODULES else f"{name}.__init__" for name in order}
    for place, name in enumerate(order):
        before = {inside[other] for other in order[:place]}
        assert siblings(inside[name]) <= before, f"{name} stands before a module that it imports"
    models = [LEVELS[inside[name]] for name in order if not name.startswith("figures")]
    assert models == sorted(models), "the levels of the architecture test, from below"


def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="nothere"):
        book_api.reading_order(["model", "nothere"], {"model"})


def every_docstring():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.stem}.{getattr(node, 'name', '')}", text


@pytest.mark.parametrize(("where", "text"), [pytest.param(w, t, id=w) for w, t in every_docstring()])
def test_docstrings_come_out_whole(where, text):
    """Every word is kept, no aligned table is run together, no markup is left over."""
    made = nodes.container("", *book_api.docstring(text, "teachkit"))
    shown = made.astext()
    plain = re.sub(r":\w+:(?=`)", "", text)
    assert re.findall(r"\w+", shown) == re.findall(r"\w+", plain)
    for paragraph in made.findall(nodes.paragraph):
        assert not re.search(r"\S {2,}\S", paragraph.astext()), paragraph.astext()
        assert "`" not in paragraph.astext(), "a code span that was not recognised"
    for label in ("Raises", "Cost", "Why", "Source", "Note"):
        rows = len(re.findall(rf"^{label} {{2,}}", inspect.cleandoc(text), flags=re.M))
        assert sum(term.astext() == label for term in made.findall(nodes.term)) == rows


def test_docstring_of_the_house_form():
    made = book_api.docstring(
        """Write ``T`` tokens, see :func:`visible`.

        k, v    rotated already;
                in the cache's dtype
        Raises  ValueError: too long
                CacheFull: no room
        Source  arXiv:1911.02150

        >>> 1 + 1
        2
        """,
        "teachkit.cache",
    )
    paragraph, entries, example = made
    assert paragraph.astext() == "Write T tokens, see visible."
    terms = [term.astext() for term in entries.findall(nodes.term)]
    assert terms == ["k, v", "Raises", "Source"]
    texts = [[p.astext() for p in d.findall(nodes.paragraph)] for d in entries.findall(nodes.definition)]
    assert texts[0] == ["rotated already; in the cache's dtype"]
    assert texts[1] == ["ValueError: too long", "CacheFull: no room"]
    assert next(entries.findall(nodes.reference))["refuri"] == "https://arxiv.org/abs/1911.02150"
    assert (example["language"], example.astext()) == ("pycon", ">>> 1 + 1\n2")
    link = next(node for node in paragraph.findall() if node.tagname == "pending_xref")
    assert (link["reftarget"], link["py:module"]) == ("visible", "teachkit.cache")


def test_signatures_keep_shapes():
    source = (ROOT / "src" / "teachkit" / "attention.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in book_api.public(ast.parse(source).body)}
    shown = book_api.signature(functions["scaled_dot_product_attention"])
    assert '    q: Float[Tensor, "B H T D"],\n' in shown
    assert "    causal: bool = False,\n" in shown
    assert shown.endswith('\n) -> Float[Tensor, "B H T Dv"]')


# Glossary


def test_everyday_words_are_terms():
    """One that is none would be in the list and hold nothing back."""
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    assert set(book_terms.glossary(text)) >= book_terms.EVERYDAY


def linked(text, docname, terms):
    """What a paragraph of a page with these terms links."""
    known, pattern = terms
    paragraph = nodes.paragraph("", "", nodes.Text(text))
    book_terms._link_in(paragraph[0], docname, docname, known, pattern, set())
    return [link.astext() for link in paragraph.findall() if link.tagname == "pending_xref"]


def test_a_term_is_found_however_its_hyphens_are_written():
    path = BOOK / "glossary.md"
    terms = book_terms._read(path, path.stat().st_mtime_ns)
    for text in ("grouped-query attention", "grouped query attention", "Grouped query\nattention"):
        assert linked(f"Use {text}.", "book/intro", terms) == [text]
    assert linked("its position, positions, a step", "overhead", terms) == []
    assert linked("its position, a second position", "model", terms) == ["position"]


def glossary():
    """{term: stem of the chapter that introduces it}"""
    body = re.search(r"```\{glossary\}\n(.*?)```", (BOOK / "glossary.md").read_text(encoding="utf-8"), re.S)[
        1
    ]
    entries = re.findall(r"^(\S.*)\n((?:  .*\n?)+)", re.sub(r"^:.*\n", "", body, flags=re.M), flags=re.M)
    return {term: re.findall(r"\{lesson\}`(\w+)`", text) for term, text in entries}


def forms(term):
    """How a lesson may write it: `top-k, top-p` as either, `grouped-query attention (GQA)` long or short."""
    long, short = re.fullmatch(r"(.*?)(?: \((.+)\))?", term).groups()
    found = [*long.split(", "), *([short] if short else [])]
    return [re.sub(r"[\s-]+", r"[\\s-]+", form.removesuffix("s")) for form in found]


TERMS = glossary()


@pytest.mark.parametrize("term", TERMS)
def test_glossary_term_is_used_in_its_chapter(term):
    [stem] = TERMS[term]
    lesson = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in lesson.cells) + "\n".join(
        out for _, cell in guards.code_cells(lesson) for o in cell.outputs for out in guards.data(o).values()
    )
    assert any(re.search(rf"\b{form}(?:s|es)?\b", text, flags=re.I) for form in forms(term))


def test_glossary_has_the_terms_of_the_course():
    named = " ".join(TERMS).lower()
    for term in (
        "token",
        "logit",
        "residual stream",
        "kv cache",
        "prefill",
        "decode",
        "ttft",
        "tpot",
        "rope",
        "entropy",
        "roofline",
        "arithmetic intensity",
        "ridge",
        "residual",
        "critical batch",
        "mbu",
        "mfu",
        "tensor parallelism",
        "throughput",
    ):
        assert term in named


# What pages of prose claim


def test_greek_letters_of_the_lessons_stand_on_the_notation_page():
    greek = re.compile(
        r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|sigma|tau|phi|varphi|omega)(?![a-z])"
    )
    notation = (BOOK / "notation.md").read_text(encoding="utf-8")
    for stem in LESSONS:
        lesson = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
        prose = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
        assert set(greek.findall(prose)) <= set(greek.findall(notation)), stem


def test_pages_name_the_versions_of_python_and_the_targets_that_there_are():
    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r"Python :: 3\.(\d+)", project)
    for text in (readme, *(path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md")))):
        for named in re.findall(r"Python 3\.\d+ (?:to|or) [\d.]*\w", text):
            assert named == f"Python 3.{versions[0]} to 3.{versions[-1]}"
        named = re.findall(r"^make (\w+)|`make (\w+)", text, flags=re.M)
        assert {a or b for a, b in named} <= set(re.findall(r"^(\w+):", makefile, flags=re.M))
    assert "python -m jupyter lab notebooks" in readme, "the intro promises commands for those without make"


# Sources

PAGES = sorted((BOOK / "_ext").glob("claims_*.py"))  # texts that pages show
ARXIV = re.compile(r"arxiv(?:\.org/abs/|:)(\d{4}\.\d{4,5})", re.I)


def test_bibliography_has_every_paper_that_is_named():
    known = set(ARXIV.findall((BOOK / "references.bib").read_text(encoding="utf-8")))
    places = [*MODULES.values(), *(ROOT / "notebooks").glob("*.py"), *BOOK.glob("*.md"), *PAGES]
    missing = {
        path.name: sorted(lost)
        for path in places
        if (lost := set(ARXIV.findall(path.read_text(encoding="utf-8"))) - known)
    }
    assert not missing, "add them to book/references.bib"


def test_every_entry_of_the_bibliography_is_cited_or_linked():
    text = (BOOK / "references.bib").read_text(encoding="utf-8")
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "notebooks").glob("*.py"), *BOOK.glob("*.md")]
    places += [*(ROOT / "src").rglob("*.md"), *(ROOT / "benchmarks").glob("*.py"), *PAGES]
    named = "\n".join(path.read_text(encoding="utf-8") for path in places)
    for entry in re.split(r"^(?=@)", text, flags=re.M)[1:]:
        key = re.match(r"@\w+\{([^,]+),", entry)[1]
        address = re.search(r"url = \{(.+?)\}", entry)[1].removeprefix("https://").rstrip("/")
        traces = [key, address, *ARXIV.findall(entry)]
        assert any(trace in named for trace in traces), f"{key} is named nowhere"


def test_bibliography_keys_are_unique():
    text = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", text, flags=re.M)
    assert len(keys) == len(set(keys))


LABS = [Path(file).name for file in FILES if file.startswith("labs/")]


@pytest.mark.parametrize("stem", LABS)
def test_a_lab_is_a_page_of_the_book(stem, page):
    """The student's notebook, with its facts, its file to download, a link to its lesson and one back."""
    about = nbformat.read(ROOT / "labs" / stem / f"{stem}.ipynb", as_version=4).metadata.teachgrade
    html = page(f"labs/{stem}/{stem}")
    assert words(html).count(book_labs.facts(about)) == 1
    assert re.search(rf'href="[^"]*_downloads/[^"]*/{stem}\.ipynb"', html)
    assert f'href="../../notebooks/{stem}.html"' in html
    assert f'href="../labs/{stem}/{stem}.html"' in page(f"notebooks/{stem}")
    assert "NotImplementedError" in html
    assert "BEGIN SOLUTION" not in html
    assert f'href="../labs/{stem}/{stem}.html"' in page("book/student_guide")


def test_every_lab_is_in_the_book():
    assert sorted(LABS) == sorted(path.parent.name for path in (ROOT / "labs").glob("*/lab.toml"))
