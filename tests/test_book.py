"""tools/build_book.py: what is executed again, what fails the build, and that buttons need an address.

The books here are made in a temporary folder: two pages, one of them a notebook.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
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


def run_build(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "build_book.py"), "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
        "html": {"use_repository_button": True, "favicon": "f"},
    }
    derived = build_book.derive_config(config, tmp_path, tmp_path / "cache")
    assert derived["launch_buttons"] == {}
    assert derived["repository"]["url"] == ""
    assert derived["html"] == {
        "favicon": "f",
        "use_repository_button": False,
        "use_edit_page_button": False,
        "use_issues_button": False,
    }
