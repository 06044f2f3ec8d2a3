"""tools/notebooks.py: a lesson's .ipynb is its .py, executed; every way of not being that is reported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import notebooks

ROOT = Path(__file__).resolve().parent.parent
LESSON = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: teachkit
#   teachkit:
#     stem: tiny
#     modules: [attention]
#     objectives: [add]
#     minutes: 1
#     lab: null
# ---

# %% [markdown]
# # Tiny

# %% tags=["setup"]
ADDRESS = "replaced"
import os
print(ADDRESS or "no address")

# %%
print(os.getcwd())

# %%
from teachkit import figures
figures.live(lambda n: None, figures.Figure("<p>twin</p>", "A twin."), n=(1, 9))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A folder with one lesson, written and executed by the tool."""
    root = tmp_path_factory.mktemp("course")
    (root / "notebooks").mkdir()
    (root / "notebooks" / "tiny.py").write_text(LESSON)
    (root / "_config.yml").write_text("repository:\n  url: https://example.org/course\n")
    command = [sys.executable, ROOT / "tools" / "notebooks.py", "--root", root]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return root


@pytest.mark.slow
def test_error_of_a_live_figure_stops_the_tool_and_is_shown(tmp_path):
    (tmp_path / "notebooks").mkdir()
    live = 'figures.live(lambda n: 1 // n, figures.Figure("<p>twin</p>", "A twin."), n=[0, 1])'
    (tmp_path / "notebooks" / "tiny.py").write_text(LESSON + f"\n# %%\n{live}\n")
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/course\n")
    command = [sys.executable, ROOT / "tools" / "notebooks.py", "--root", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "ZeroDivisionError" in result.stderr.rstrip().splitlines()[-1]


@pytest.fixture
def lesson(executed, tmp_path):
    """A copy of it to spoil: the notebook, and a function that stores it and returns what the check says."""
    root = tmp_path / "course"
    shutil.copytree(executed, root)
    path = root / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)

    def check(capsys):
        nbformat.write(notebook, path)
        status = notebooks.main(["--check", "--root", str(root)])
        return status, capsys.readouterr().err

    return notebook, check


@pytest.mark.slow
def test_executed_lesson_agrees(lesson, capsys):
    notebook, check = lesson
    assert check(capsys) == (0, "")
    first, second, third = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.outputs[0].text == "https://example.org/course\n"
    assert second.outputs[0].text == "./notebooks\n", "the machine's path is replaced"
    assert [cell.execution_count for cell in (first, second, third)] == [1, 2, 3]
    assert third.outputs[0].data == {"text/html": "<p>twin</p>", "text/plain": "A twin."}
    assert "widgets" not in notebook.metadata
    run = notebook.metadata.teachkit.last_run
    assert set(run) == notebooks.LAST_RUN
    assert set(run.versions) == {"python", "torch"}
    assert 10e6 < run.peak_memory_bytes < 10e9
    assert run.threads >= 1


@pytest.mark.slow
def test_peak_memory_is_the_lessons_own_and_not_that_of_the_process_that_starts_it(tmp_path):
    held = bytearray(b"x") * 1_500_000_000
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell('used = len(bytearray(b"x") * 500_000_000)')]
    )
    notebooks.execute(notebook, tmp_path, tmp_path)
    assert 0.5e9 < notebook.metadata["teachkit"]["last_run"]["peak_memory_bytes"] < len(held)


def change_source(notebook):
    notebook.cells[2].source += "  # edited"


def drop_count(notebook):
    notebook.cells[2].execution_count = None


def add_error(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]


def show_path(notebook):
    notebook.cells[2].outputs[0].text = "/home/someone/course\n"


def drop_cell(notebook):
    notebook.cells.pop()


def tag_cell(notebook):
    notebook.cells[2].metadata["tags"] = ["nbval-ignore-output"]


def drop_last_run(notebook):
    del notebook.metadata.teachkit["last_run"]


def change_header(notebook):
    notebook.metadata.teachkit["minutes"] = 99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change_source, "cell 2: source differs"),
        (drop_count, "cell 2: execution count None, expected 2"),
        (add_error, "cell 2: an error is among the outputs"),
        (show_path, "cell 2: an output shows a path of the machine"),
        (drop_cell, "4 cells in the .py, 3 in the .ipynb"),
        (tag_cell, "cell 2: tags differ"),
        (drop_last_run, "last_run has []"),
        (change_header, "teachkit metadata differs"),
    ],
)
def test_difference_is_reported(lesson, capsys, spoil, says):
    notebook, check = lesson
    spoil(notebook)
    status, message = check(capsys)
    assert status == 1
    assert f"tiny.ipynb: {says}" in message


def test_half_a_pair_is_reported(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "alone.py").write_text(LESSON)
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notebooks" / "orphan.ipynb")
    assert notebooks.main(["--check", "--root", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "alone.ipynb: missing" in message
    assert "orphan.ipynb: has no orphan.py" in message


def test_unknown_lesson_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(SystemExit, match="2"):
        notebooks.main(["nowhere", "--root", str(tmp_path)])
    assert "no such lesson: nowhere" in capsys.readouterr().err
