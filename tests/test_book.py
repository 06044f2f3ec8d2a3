"""tools/build_book.py: what is executed again, what fails the build, and that buttons need an address.

The books here are made in a temporary folder: two pages, one of them a notebook.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import nbformat
import pytest
import yaml

import build_book

ROOT = Path(__file__).resolve().parent.parent
CONFIG = {"title": "Tiny", "author": "", "logo": "", "execute": {"execute_notebooks": "cache"}}
TOC = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": "notebooks/lesson"}]}


def tiny_book(root: Path, cell: str) -> Path:
    """A book whose notebook has one code cell, and a src/ that the cell reads."""
    for folder in ("book", "notebooks", "src/teachkit"):
        (root / folder).mkdir(parents=True)
    (root / "_config.yml").write_text(yaml.safe_dump(CONFIG))
    (root / "_toc.yml").write_text(yaml.safe_dump(TOC))
    (root / "constraints.txt").write_text("torch==2.13.0\n")
    (root / "src" / "teachkit" / "value.txt").write_text("first reading")
    (root / "book" / "intro.md").write_text("# Tiny\n\nA book.\n")
    markdown = nbformat.v4.new_markdown_cell("# Lesson\n\nOne cell.")
    notebook = nbformat.v4.new_notebook(cells=[markdown, nbformat.v4.new_code_cell(cell)])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, root / "notebooks" / "lesson.ipynb")
    return root


def run_build(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "build_book.py"), "--root", str(root)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_failing_cell_fails_the_build_and_keeps_failing(tmp_path):
    root = tiny_book(tmp_path, "raise RuntimeError('planted')")
    for _ in range(2):  # a second build must not pass because the page is not read again
        result = run_build(root)
        assert result.returncode != 0
        assert "planted" in result.stdout + result.stderr


@pytest.mark.slow
def test_broken_reference_fails_the_build_and_keeps_failing(tmp_path):
    root = tiny_book(tmp_path, "1 + 1")
    (root / "book" / "intro.md").write_text("# Tiny\n\nSee {ref}`nowhere`.\n")
    for _ in range(2):
        result = run_build(root)
        assert result.returncode != 0
        assert "nowhere" in result.stderr


@pytest.mark.slow
def test_change_in_src_executes_the_lesson_again(tmp_path):
    root = tiny_book(tmp_path, "print(open('../src/teachkit/value.txt').read())")
    page = root / "_build" / "html" / "notebooks" / "lesson.html"
    for folder in (
        ".pytest_cache",
        ".venv/lib",
        "build",
    ):  # what tools leave beside the book is not part of it
        (root / folder).mkdir(parents=True)
        (root / folder / "README.md").write_text("See [nowhere](nowhere.md).\n")
    first = run_build(root)
    assert first.returncode == 0, first.stderr
    assert str(root / "_build" / "html" / "index.html") in first.stdout
    assert "cold" in first.stdout
    assert "first reading" in page.read_text()

    assert "warm" in run_build(root).stdout
    (root / "src" / "teachkit" / "value.txt").write_text("second reading")
    assert "cold" in run_build(root).stdout
    assert "second reading" in page.read_text()

    html = page.read_text() + (root / "_build" / "html" / "index.html").read_text()
    for button in ("btn-launch", "btn-source-repository-button", "github.com/executablebooks/jupyter-book"):
        assert button not in html, f"{button}: no repository address is set"


@pytest.mark.slow
def test_page_shows_the_twin_of_a_live_figure_and_no_widget(tmp_path):
    cell = (
        "from teachkit import figures\n"
        "figures.live(lambda n: None, figures.Figure('<p>planted twin</p>', 'A twin.'), n=(1, 9))"
    )
    root = tiny_book(tmp_path, cell)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    wanted = {key: config[key] for key in ("nb_mime_priority_overrides", "nb_ipywidgets_js")}
    (root / "_config.yml").write_text(yaml.safe_dump({**CONFIG, "sphinx": {"config": wanted}}))
    done = run_build(root)
    assert done.returncode == 0, done.stderr
    html = (root / "_build" / "html" / "notebooks" / "lesson.html").read_text(encoding="utf-8")
    assert "<p>planted twin</p>" in html
    assert "jupyter.widget" not in html


# With the book's own theme

HOSTILE = 'A <b & "c" > d </title>'


@pytest.fixture(scope="module")
def themed(tmp_path_factory) -> Path:
    """A book of three pages with this theme, published from a repository whose address ends in .git."""
    root = tiny_book(tmp_path_factory.mktemp("themed"), "1 + 1")
    (root / "notebooks" / "lesson.py").write_text("# %% [markdown]\n# # Lesson\n")
    pages = {
        "intro": "# Tiny\n\n```{one-token} 104.9\n```\n\nA book with & and a first paragraph long enough.\n",
        "two": "# Two\n\nA page whose name will change.\n",
        "three": f"# `{HOSTILE}`\n\nA page with a title that is hostile.\n",
    }
    for name, text in pages.items():
        (root / "book" / f"{name}.md").write_text(text)
    names = ["notebooks/lesson", "book/two", "book/three"]
    (root / "_toc.yml").write_text(yaml.safe_dump({**TOC, "chapters": [{"file": name} for name in names]}))
    mine = ["book_site", "book_cover"]
    sphinx = {
        "recursive_update": True,
        "local_extensions": {name: str(ROOT / "book" / "_ext") for name in mine},
        "config": {
            "language": "de",
            "html_theme": "memory_bound",
            "html_title": "Tiny & Sons",
            "extensions": ["myst_nb", "jupyter_book", "sphinx_external_toc", *mine],
        },
    }
    config = {**CONFIG, "sphinx": sphinx, "repository": {"url": "https://github.com/a/b.git", "branch": "x"}}
    (root / "_config.yml").write_text(yaml.safe_dump(config))
    done = run_build(root, BOOK_BASEURL="https://example.org/book/")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def built_page(root: Path, name: str) -> str:
    return (root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_title_is_text_wherever_it_stands(themed):
    page = built_page(themed, "book/three")
    [title] = re.findall(r"<title>(.*?)</title>", page)
    assert unescape(title) == f"{HOSTILE} · Tiny & Sons"
    assert "</title>" not in title
    assert page.count("</title>") == 1
    assert "Tiny & Sons" not in page


@pytest.mark.slow
def test_the_address_that_people_share_has_a_card(themed):
    index = built_page(themed, "index")
    assert '<html lang="de">' in index
    assert "<title>Tiny</title>" in index
    assert '<a href="book/intro.html">' in index
    assert '<link rel="canonical" href="https://example.org/book/book/intro.html">' in index
    said = {
        name: unescape(content)
        for name, content in re.findall(r'<meta (?:property|name)="([\w:]+)" content="([^"]*)">', index)
    }
    assert said["og:image"] == "https://example.org/book/_static/card.png"
    assert said["description"] == "A book with & and a first paragraph long enough."
    assert said["og:image:alt"] == (
        "Tiny & Sons. One token of Llama 2 7B on an A100: "
        "arithmetic 0.043 ms, reading the weights 6.6 ms, measured 9.5 ms."
    )


@pytest.mark.slow
def test_links_to_the_repository(themed):
    for name, source in (("book/two", "book/two.md"), ("notebooks/lesson", "notebooks/lesson.py")):
        page = built_page(themed, name)
        assert f'href="https://github.com/a/b/edit/x/{source}"' in page
        assert 'href="https://github.com/a/b/issues/new?title=' in page


@pytest.mark.slow
def test_a_changed_title_changes_every_page(themed):
    """Each names all chapters, and its neighbours."""
    (themed / "book" / "two.md").write_text("# Two renamed\n\nA page whose name has changed.\n")
    done = run_build(themed, BOOK_BASEURL="https://example.org/book/")
    assert "warm" in done.stdout, done.stdout + done.stderr
    for name in ("book/intro", "notebooks/lesson", "book/three"):
        page = built_page(themed, name)
        assert "Two renamed" in page, name
        assert not re.search(r"\bTwo<", page), name


@pytest.mark.parametrize("changed", ["src/teachkit/value.txt", "src/teachkit/new.py", "constraints.txt"])
def test_salt_changes_with_what_lessons_run_on(tmp_path, changed):
    root = tiny_book(tmp_path, "1 + 1")
    before = build_book.salt(root)
    (root / changed).write_text("changed")
    assert build_book.salt(root) != before


def test_salt_depends_on_contents_not_on_times_or_bytecode(tmp_path):
    (tmp_path / "original").mkdir()
    root = tiny_book(tmp_path / "original", "1 + 1")
    before = build_book.salt(root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "src" / "__pycache__").mkdir()
    (copy / "src" / "__pycache__" / "value.pyc").write_bytes(b"0")
    (copy / "_build").mkdir()
    assert build_book.salt(copy) == before


def test_launch_buttons_appear_with_an_address(tmp_path):
    config = {
        "repository": {"url": "https://example.org/a/b", "branch": "main"},
        "launch_buttons": {"colab_url": "c"},
    }
    derived = build_book.derive_config(config, tmp_path, tmp_path / "cache")
    assert derived["repository"] == config["repository"]
    assert derived["launch_buttons"] == config["launch_buttons"]


def test_the_address_of_the_published_book_comes_from_who_publishes(tmp_path, monkeypatch):
    assert "baseurl" not in build_book.derive_config({}, tmp_path, tmp_path).get("html", {})
    monkeypatch.setenv("BOOK_BASEURL", "https://example.org/book/")
    html = build_book.derive_config({"html": {"favicon": "f"}}, tmp_path, tmp_path)["html"]
    assert (html["baseurl"], html["favicon"]) == ("https://example.org/book/", "f")


def test_launch_buttons_are_absent_without_an_address(tmp_path):
    config = {
        "repository": {"url": ""},
        "launch_buttons": {"colab_url": "c"},
        "html": {"favicon": "f"},
    }
    derived = build_book.derive_config(config, tmp_path, tmp_path / "cache")
    assert derived["launch_buttons"] == {}
    assert derived["repository"]["url"] == ""
    assert derived["html"] == {"favicon": "f"}
