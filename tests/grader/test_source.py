"""Markers, cells and files: what is taken out, what is left out, what cannot be read."""

from __future__ import annotations

import json
import zipfile

import pytest

from teachgrade.cells import is_shown_only, python_of, run_cell
from teachgrade.collect import find
from teachgrade.source import SourceError, regions, solution_lines, without_markers, without_solutions
from teachgrade.submission import Unreadable, load, parse

CODE = '''def f(x):
    """Twice."""
    ### BEGIN SOLUTION
    y = x + x
    return y
    ### END SOLUTION


class A:
    def g(self):
        ### BEGIN SOLUTION
        return self.hidden_thing
        ### END SOLUTION
'''


def test_students_get_a_line_that_says_that_it_is_missing():
    blank = without_solutions(CODE, "q1")
    assert "x + x" not in blank
    assert blank.count('raise NotImplementedError("q1")') == 2
    names = {}
    exec(blank, names)
    with pytest.raises(NotImplementedError, match="q1"):
        names["f"](2)


def test_instructors_get_the_solutions_without_markers():
    names = {}
    exec(without_markers(CODE), names)
    assert names["f"](4) == 8
    assert "###" not in without_markers(CODE)


def test_telling_lines():
    assert solution_lines(CODE) == {"y = x + x", "return y", "return self.hidden_thing"}
    assert [(r.first, r.last, r.indent) for r in regions(CODE)] == [(3, 6, "    "), (11, 13, "        ")]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("### BEGIN SOLUTION\nx", "line 1.*without an"),
        ("x\n### END SOLUTION", "line 2.*without a"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "inside the one of line 1"),
    ],
)
def test_markers_that_do_not_pair(code, says):
    with pytest.raises(SourceError, match=says):
        without_solutions(code)


@pytest.mark.parametrize(
    ("cell", "python", "left_out"),
    [
        ("x = 1", "x = 1", []),
        ("%matplotlib inline\nx = 1", "pass\nx = 1", ["%matplotlib inline"]),
        ("if 1:\n    !ls\n    x = 1", "if 1:\n    pass\n    x = 1", ["!ls"]),
        ("files = !ls\ny = 2", "pass\ny = 2", ["files = !ls"]),
        ("print?\nx = 1", "pass\nx = 1", ["print?"]),
        ("%%time\nx = 1", "\nx = 1", ["%%time"]),
        ("%%bash\nrm -rf /", "", ["%%bash"]),
        ("x = '''\n%not a magic\n'''", "x = '''\n%not a magic\n'''", []),
        ("x = 7 %\\\n 3", "x = 7 %\\\n 3", []),
    ],
)
def test_what_only_ipython_understands_is_left_out(cell, python, left_out):
    assert python_of(cell) == (python, left_out)


def test_an_error_ends_its_cell_only():
    names = {}
    error, _ = run_cell("a = 1\nb = 1 / 0\nc = 1", "code cell 3", names)
    assert error == "line 2: ZeroDivisionError: division by zero"
    assert names["a"] == 1
    assert "c" not in names
    assert run_cell("d = a + 1", "code cell 4", names) == ("", [])
    assert run_cell("def (", "code cell 5", names)[0].startswith("SyntaxError")
    assert run_cell("raise SystemExit(3)", "code cell 6", names)[0] == "line 1: SystemExit: 3"


def test_cells_that_only_show():
    assert is_shown_only("# teachgrade: show\nprint(1)")
    assert not is_shown_only("print(1)\n# teachgrade: show")


def notebook(*cells):
    return json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}).encode()


def test_code_cells_in_order_whatever_their_metadata():
    content = notebook(("code", "a"), ("markdown", "b"), ("code", ["c\n", "d"]), ("raw", "e"), ("code", "  "))
    assert [(cell.place, cell.source) for cell in parse("x", content).cells] == [(1, "a"), (2, "c\nd")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<html>", "HTML"),
        (b'{"cells": [', "cut off"),
        (b"[]", "no notebook"),
        (b'{"metadata": {}}', "no cells"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"[" * 100_000, "nested"),
        (notebook(("code", {"a": 1})), "not text"),
        (notebook(*[("code", "x")] * 2_001), "more than"),
    ],
)
def test_unreadable(content, says):
    with pytest.raises(Unreadable, match=says):
        parse("x", content)


def test_links_and_large_files(tmp_path):
    (tmp_path / "a.ipynb").write_bytes(notebook(("code", "x")))
    (tmp_path / "b.ipynb").symlink_to(tmp_path / "a.ipynb")
    with pytest.raises(Unreadable, match="plain file"):
        load(tmp_path / "b.ipynb")
    with (tmp_path / "c.ipynb").open("wb") as file:
        file.truncate(60 * 2**20)
    with pytest.raises(Unreadable, match="60 MiB"):
        load(tmp_path / "c.ipynb")


def test_who_handed_in_what(tmp_path):
    good = notebook(("code", "x"))
    names = (
        "ada.ipynb bob/kv_cache.ipynb cy/kv_cache.ipynb cy/draft.ipynb di/one.ipynb di/two.ipynb notes.txt"
        " .ipynb_checkpoints/ada.ipynb eve/.ipynb_checkpoints/x.ipynb eve/mine.IPYNB"
    )
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(good)
    found = {entry.student: entry for entry in find([tmp_path], "kv_cache")}
    assert {name: entry.file for name, entry in found.items()} == {
        "ada": "ada.ipynb",
        "bob": "bob/kv_cache.ipynb",
        "cy": "cy/kv_cache.ipynb",
        "di": "di/one.ipynb, di/two.ipynb",
        "eve": "eve/mine.IPYNB",
    }
    with pytest.raises(Unreadable, match="2 notebooks"):
        found["di"].read()
    assert len(found["ada"].read().cells) == 1


def test_a_zip_is_read_in_place(tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ada.ipynb", notebook(("code", "x")))
        archive.writestr("../../bob.ipynb", notebook(("code", "y")))
        archive.writestr("/cy/lab.ipynb", notebook(("code", "z")))
        archive.writestr("__MACOSX/._ada.ipynb", b"x")
        archive.writestr("big.ipynb", b" " * (51 * 2**20), compress_type=zipfile.ZIP_DEFLATED)
    found = {entry.student: entry for entry in find([path], "lab")}
    assert set(found) == {"ada", "bob", "cy", "big"}
    assert found["bob"].read().cells[0].source == "y"
    with pytest.raises(Unreadable, match="MiB"):
        found["big"].read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.zip"]


def test_nothing_handed_in(tmp_path):
    with pytest.raises(ValueError, match="no notebook"):
        find([tmp_path], "lab")
    with pytest.raises(ValueError, match="expected a file or folder"):
        find([tmp_path / "gone"], "lab")
