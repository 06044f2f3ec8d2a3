"""Every committed lesson passes the guards of lesson_guards.py, and every guard fails on a bad notebook.

Nothing is executed here; tests/test_lessons.py runs the lessons.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

import lesson_faults
import lesson_guards as guards
import notebooks as tool

ROOT = guards.ROOT
lessons = pytest.mark.parametrize("path", guards.LESSONS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


# The committed lessons


def test_there_is_a_first_lesson():
    assert "attention" in {path.stem for path in guards.LESSONS}


def test_pairs_agree():
    assert guards.pair_problems(ROOT / "notebooks", tool.repository_address(ROOT)) == []


@lessons
def test_lesson_is_executed_in_order_without_noise(path):
    assert guards.run_problems(read(path)) == []


@lessons
def test_lesson_compares_what_carries_its_idea(path):
    assert guards.ignore_problems(read(path)) == []


@lessons
def test_lesson_says_what_it_is_and_keeps_its_budget(path):
    assert guards.metadata_problems(read(path), path.stem) == []


@lessons
def test_lesson_reads_well_everywhere(path):
    assert guards.rendering_problems(read(path)) == []


@lessons
def test_lesson_has_two_faults_for_each_taught_module(path):
    listed = lesson_faults.FOLDER / f"{path.stem}.toml"
    assert listed.is_file(), f"{listed.relative_to(ROOT)} is missing"
    modules = read(path).metadata.teachkit.modules
    assert lesson_faults.problems(lesson_faults.read(listed), modules, ROOT / "src") == []


def test_every_list_of_faults_has_its_lesson():
    assert {p.stem for p in lesson_faults.FOLDER.glob("*.toml")} <= {p.stem for p in guards.LESSONS}


# A small lesson that passes all guards, and what each guard says of a worse one

HEADER = """\
---
jupyter:
  teachkit:
    stem: {stem}
    modules: [attention]
    objectives: [Say what one is]
    minutes: 10
    lab: null
---

"""
LAST_RUN = {
    "date": "2030-01-31",
    "device": "A processor",
    "threads": 2,
    "versions": {"python": "3.11.4", "torch": "2.13.0"},
    "seconds": 7.5,
    "peak_memory_bytes": 600_000_000,
}
PICTURE = "# A picture of it\npicture()"
CELLS = ["one = 1\nprint(one)", "one + one", "print('three')", "import math", "math.floor(4.5)", "5 * one"]
OUTPUTS = ["1\n", 2, "three\n", None, 4, 5]


def as_percent(cells: list[str], stem: str = "tiny") -> str:
    """The .py of a lesson: commented header, a title, then the code cells; one cell is a picture."""
    header = "".join(
        f"# {line}\n".replace("# \n", "#\n") for line in HEADER.format(stem=stem).rstrip().splitlines()
    )
    body = "".join(f"# %%\n{cell}\n\n" for cell in cells)
    title = "# %% [markdown]\n# # Tiny\n#\n# One and one.\n"
    return f'{header}\n{title}\n{body}# %% tags=["nbval-ignore-output"]\n{PICTURE}\n'


def tiny(folder: Path) -> Path:
    """A folder with a lesson's pair, its outputs written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "tiny.py"
    source.write_text(as_percent(CELLS), encoding="utf-8")
    lesson = tool.read_lesson(source, "")
    png = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    png.metadata["image/png"] = {"alt": "A bar"}
    shown = [*(_output(value) for value in OUTPUTS), [png]]
    for count, ((_, cell), outputs) in enumerate(zip(guards.code_cells(lesson), shown, strict=True), start=1):
        cell.execution_count, cell.outputs = count, outputs
    lesson.metadata.teachkit["last_run"] = copy.deepcopy(LAST_RUN)
    nbformat.write(lesson, source.with_suffix(".ipynb"))
    return folder


def _output(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return [nbformat.v4.new_output("stream", text=value)]
    return [nbformat.v4.new_output("execute_result", {"text/plain": repr(value)})]


@pytest.fixture
def lesson(tmp_path) -> Any:
    return read(tiny(tmp_path / "notebooks") / "tiny.ipynb")


def code(lesson: Any, number: int) -> Any:
    return list(guards.code_cells(lesson))[number][1]


def put(lesson: Any, number: int, output_type: str, *args: Any, **fields: Any) -> None:
    code(lesson, number).outputs.append(nbformat.v4.new_output(output_type, *args, **fields))


def test_good_lesson_passes_every_guard(tmp_path, lesson):
    assert guards.pair_problems(tmp_path / "notebooks", "") == []
    assert guards.run_problems(lesson) == []
    assert guards.ignore_problems(lesson) == []
    assert guards.metadata_problems(lesson, "tiny") == []
    assert guards.rendering_problems(lesson) == []
    assert guards.compared_cells(lesson) == [0, 1, 2, 4, 5]


def edit_source(folder: Path) -> None:
    path = folder / "tiny.py"
    path.write_text(path.read_text().replace("one + one", "one + 1"))


def edit_notebook(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lesson = read(folder / "tiny.ipynb")
        change(lesson)
        nbformat.write(lesson, folder / "tiny.ipynb")

    return edit


PAIRS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no .ipynb": (lambda folder: (folder / "tiny.ipynb").unlink(), "tiny.ipynb: missing"),
    "no .py": (lambda folder: (folder / "tiny.py").unlink(), "tiny.py: missing"),
    ".py edited": (edit_source, "source differs"),
    ".ipynb edited": (edit_notebook(lambda n: n.cells[1].update(source="1")), "source differs"),
    "cell added": (edit_notebook(lambda n: n.cells.append(nbformat.v4.new_code_cell("1"))), "cells in the"),
    "kind changed": (
        edit_notebook(lambda n: n.cells.__setitem__(0, nbformat.v4.new_raw_cell(n.cells[0].source))),
        "cell_type differs",
    ),
    "tag added": (edit_notebook(lambda n: n.cells[1].metadata.update(tags=["x"])), "tags differ"),
    "metadata added": (edit_notebook(lambda n: n.cells[1].metadata.update(mystnb={})), "metadata differs"),
    "header changed": (
        edit_notebook(lambda n: n.metadata.teachkit.update(minutes=11)),
        "differs from the .py's header",
    ),
}


@pytest.mark.parametrize(("change", "complaint"), PAIRS.values(), ids=PAIRS)
def test_pair_guard_fails(tmp_path, change, complaint):
    folder = tiny(tmp_path)
    change(folder)
    assert complaint in "\n".join(guards.pair_problems(folder, ""))


def test_pair_guard_does_not_look_at_file_times(tmp_path):
    folder = tiny(tmp_path)
    for older, newer in (("tiny.py", "tiny.ipynb"), ("tiny.ipynb", "tiny.py")):
        os.utime(folder / older, (1e9, 1e9))
        os.utime(folder / newer, (1.5e9, 1.5e9))
        assert guards.pair_problems(folder, "") == []


RUNS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "not executed": (lambda n: code(n, 2).update(execution_count=None, outputs=[]), "execution counts"),
    "executed twice": (lambda n: code(n, 2).update(execution_count=9), "execution counts"),
    "error stored": (
        lambda n: put(n, 0, "error", ename="ValueError", evalue="bad", traceback=[]),
        "an error is stored: ValueError",
    ),
    "warning": (lambda n: put(n, 0, "stream", name="stderr", text="UserWarning: x"), "writes to stderr"),
    "raises-exception": (lambda n: code(n, 0).metadata.update(tags=["raises-exception"]), "raises-exception"),
    "nbval-skip": (lambda n: code(n, 0).metadata.update(tags=["nbval-skip"]), "nbval-skip"),
    "marker comment": (
        lambda n: code(n, 0).update(source="# NBVAL_IGNORE_OUTPUT\n1"),
        "# NBVAL_IGNORE_OUTPUT",
    ),
    "allow_errors": (lambda n: n.metadata.update(execution={"allow_errors": True}), "allow_errors"),
    "path in output": (
        lambda n: put(n, 0, "stream", text="loaded /home/ada/model"),
        "the output names a machine's folder",
    ),
    "path in HTML": (
        lambda n: put(n, 0, "display_data", {"text/html": '<a href="file:///tmp/x">x</a>'}),
        "the output names a machine's folder",
    ),
    "path on Windows": (
        lambda n: put(n, 0, "execute_result", {"text/plain": r"'C:\\Users\\ada'"}),
        "the output names a machine's folder",
    ),
    "path in prose": (
        lambda n: n.cells[0].update(source="# T\n\nOpen /home/x."),
        "the source names a machine's folder",
    ),
}


@pytest.mark.parametrize(("change", "complaint"), RUNS.values(), ids=RUNS)
def test_run_guard_fails(lesson, change, complaint):
    change(lesson)
    assert complaint in "\n".join(guards.run_problems(lesson))


@pytest.mark.parametrize(
    "text",
    ["https://example.org/home/page", "src/tmp/x", "data:image/png;base64,AA/tmp/AA==", "attention/work"],
)
def test_run_guard_lets_addresses_and_pictures_pass(lesson, text):
    put(lesson, 0, "display_data", {"text/html": f"<p>{text}</p>"})
    assert guards.run_problems(lesson) == []


IGNORED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "result is ignored": (
        lambda n: code(n, 1).metadata.update(tags=[guards.IGNORE]),
        "neither a measurement nor a picture",
    ),
    "simulation is ignored": (
        lambda n: (
            code(n, 1).metadata.update(tags=[guards.IGNORE]),
            put(n, 1, "stream", text="4.0\n*simulated, 2030-01-31*"),
        ),
        "neither a measurement nor a picture",
    ),
    "bitmap is compared": (
        lambda n: put(n, 0, "display_data", {"text/html": '<img alt="x" src="data:image/png;base64,AA==">'}),
        "a bitmap differs",
    ),
    "too few": (lambda n: code(n, 1).update(outputs=[]), "4 code cells have an output that is compared"),
    "only a picture": (
        lambda n: code(n, 1).update(outputs=[nbformat.v4.new_output("display_data", {"image/png": "AA=="})]),
        "4 code cells have an output that is compared",
    ),
    "not executed": (lambda n: code(n, 1).update(execution_count=None), "4 code cells"),
}


@pytest.mark.parametrize(("change", "complaint"), IGNORED.values(), ids=IGNORED)
def test_comparison_guard_fails(lesson, change, complaint):
    change(lesson)
    assert complaint in "\n".join(guards.ignore_problems(lesson))


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("tk.measure.time_call(step)", {"text/plain": "Timing"}),
        ("report()", {"text/markdown": "A step took 4.2 ms here."}),
        ("report()", {"text/plain": "31.5 GB/s"}),
        ("report()", {"text/plain": "120 tokens/s"}),
        ("report()", {"text/markdown": "| 3 MB |\n\n*measured: A CPU, 2 threads, 2030-01-31*"}),
        ("show()", {"text/html": '<div class="tk-figure"></div>'}),
    ],
)
def test_times_and_pictures_may_be_ignored(lesson, source, output):
    lesson.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": [guards.IGNORE]}))
    lesson.cells[-1].outputs = [nbformat.v4.new_output("display_data", output)]
    assert guards.ignore_problems(lesson) == []


def about(**fields: Any) -> Callable[[Any], Any]:
    return lambda n: n.metadata.teachkit.update(fields)


def last_run(**fields: Any) -> Callable[[Any], Any]:
    return lambda n: n.metadata.teachkit.last_run.update(fields)


METADATA: dict[str, tuple[Callable[[Any], Any], str]] = {
    "none": (lambda n: n.metadata.pop("teachkit"), "teachkit has []"),
    "field missing": (lambda n: n.metadata.teachkit.pop("lab"), "expected"),
    "other stem": (about(stem="other"), "stem is 'other'"),
    "no module": (about(modules=[]), "none is named"),
    "unknown module": (about(modules=["attentoin"]), "there is no src/teachkit/attentoin.py"),
    "no objectives": (about(objectives=[]), "objectives"),
    "empty objective": (about(objectives=[" "]), "objectives"),
    "minutes as text": (about(minutes="ten"), "minutes"),
    "no such lab": (about(lab="nowhere"), "there is no labs/nowhere/"),
    "run without a field": (lambda n: n.metadata.teachkit.last_run.pop("device"), "last_run: has"),
    "bad date": (last_run(date="31 January"), "expected YYYY-MM-DD"),
    "no device": (last_run(device=""), "device is empty"),
    "no threads": (last_run(threads=0), "threads 0"),
    "no torch version": (last_run(versions={"python": "3.11"}), "versions"),
    "too slow": (last_run(seconds=61.0), "a lesson has 60 s"),
    "no time": (last_run(seconds=0), "a lesson has 60 s"),
    "too large": (last_run(peak_memory_bytes=2_100_000_000), "a lesson has 2 GB"),
}


@pytest.mark.parametrize(("change", "complaint"), METADATA.values(), ids=METADATA)
def test_metadata_guard_fails(lesson, change, complaint):
    change(lesson)
    assert complaint in "\n".join(guards.metadata_problems(lesson, "tiny"))


RENDERING = [
    ("a fenced directive", "```{note}\nx\n```"),
    ("a fenced directive", "~~~{note}\nx\n~~~"),
    ("a colon fence", ":::{tip}\nx\n:::"),
    ("a role", "See {ref}`here`."),
    ("a role", "See {cite:p}`vaswani2017`."),
    ("a target", "(here)=\n## Here"),
    ("a substitution", "{{ name }}"),
    ("a MyST comment", "% not shown"),
    ("a block break", "+++\nx"),
    ("a footnote", "A claim[^one]."),
    ("an alert", "> [!NOTE]\n> x"),
    ("a picture has no alternative text", "![](x.png)"),
    ("<img> without alternative text", '<img src="x.png">'),
    ("<img> without alternative text", '<img src="x.png" alt=" ">'),
    ("<svg> without aria-label", "<svg></svg>"),
    ("<details> is not closed", "<details><summary>Why?</summary>\n\nx"),
    ("</details> without <details>", "x\n\n</details>"),
    ("<details> without <summary>", "<details>\n\nx\n\n</details>"),
    ("</summary> needs an empty line", "<details><summary>Why?</summary>\n**x**\n\n</details>"),
]


@pytest.mark.parametrize(("complaint", "text"), RENDERING)
def test_rendering_guard_fails(lesson, complaint, text):
    lesson.cells.append(nbformat.v4.new_markdown_cell(text))
    assert complaint in "\n".join(guards.rendering_problems(lesson))
    del lesson.cells[-1]
    assert guards.rendering_problems(lesson) == []
    put(
        lesson, 0, "display_data", {"text/markdown": text}
    )  # what a cell shows as Markdown is held to the same
    assert complaint in "\n".join(guards.rendering_problems(lesson))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda n: put(n, 0, "display_data", {"image/png": "AA=="}), "image/png without alt"),
        (lambda n: put(n, 0, "display_data", {"text/html": "<img src=x>"}), "<img> without alternative text"),
        (lambda n: n.cells.pop(0), "expected one title"),
        (lambda n: n.cells.append(nbformat.v4.new_markdown_cell("# Another title")), "expected one title"),
        (lambda n: n.cells.append(nbformat.v4.new_markdown_cell("### Deep")), "a level is left out"),
    ],
)
def test_rendering_guard_fails_on_outputs_and_headings(lesson, change, complaint):
    change(lesson)
    assert complaint in "\n".join(guards.rendering_problems(lesson))


@pytest.mark.parametrize(
    "text",
    [
        "Code in a fence is no prose:\n\n```python\n# %% comment\nx = {'a': 1}\n```",
        "A span `{ref}` and a set $\\{a, b\\}$ and `{{ x }}`.",
        "![A heat map](x.png)",
        "<details><summary>Why?</summary>\n\n**Because.**\n\n</details>",
        'Text <img alt="A bar" src="x.png"> and [a link](https://example.org).',
        "At 50 % of the peak.",
    ],
)
def test_rendering_guard_lets_plain_markdown_pass(lesson, text):
    lesson.cells.append(nbformat.v4.new_markdown_cell(text))
    assert guards.rendering_problems(lesson) == []


def test_rendering_guard_reads_no_html_in_scripts(lesson):
    html = "<details><summary>Table</summary>x</details><script>s = '<img>' + '<details>'</script>"
    put(lesson, 0, "display_data", {"text/html": html})
    assert guards.rendering_problems(lesson) == []


# Lists of faults

FAULT = lesson_faults.Fault("wrong sign", "teachkit/attention.py", "key <= query", "key >= query", "masks")
OTHER = lesson_faults.Fault("wrong end", "teachkit/attention.py", "n_keys - n_queries", "n_queries", "masks")


def test_good_faults_pass():
    assert lesson_faults.problems([FAULT, OTHER], ["attention"], ROOT / "src") == []


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ([FAULT], "attention: at least 2 faults"),
        ([FAULT, FAULT], "two faults are named 'wrong sign'"),
        (
            [FAULT, lesson_faults.Fault("x", "teachkit/none.py", "a", "b", "c")],
            "there is no teachkit/none.py",
        ),
        ([FAULT, lesson_faults.Fault("x", FAULT.module, "not there", "b", "c")], "stands 0 times"),
        ([FAULT, lesson_faults.Fault("x", FAULT.module, "import", "b", "c")], "expected once"),
        (
            [FAULT, lesson_faults.Fault("x", FAULT.module, FAULT.old, FAULT.old, "c")],
            "old and new are the same",
        ),
        ([FAULT, lesson_faults.Fault("x", FAULT.module, FAULT.old, "key <=", "c")], "not Python any more"),
    ],
)
def test_fault_guard_fails(faults, complaint):
    assert complaint in "\n".join(lesson_faults.problems(faults, ["attention"], ROOT / "src"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[fault]]\nname = "x"', "fault 1 has"),
        ('[[fault]]\nname=""\nmodule="m"\nold="o"\nnew="n"\nwhy="w"', "empty name"),
        ('[[fault]]\nname="x"\nmodule="m"\nold="o"\nnew="n"\nwhy="w"\nkind="k"', "fault 1 has"),
    ],
)
def test_unreadable_fault_is_an_error(tmp_path, text, complaint):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        lesson_faults.read(tmp_path / "x.toml")


def test_copy_has_the_fault_and_nothing_else_changes(tmp_path):
    lesson_faults.copy_package(tmp_path, FAULT)
    for path in sorted((ROOT / "src" / "teachkit").glob("*.py")):
        ours, theirs = path.read_text(), (tmp_path / "teachkit" / path.name).read_text()
        assert (ours != theirs) == (path.name == "attention.py"), path.name
    assert not list(tmp_path.rglob("__pycache__"))
