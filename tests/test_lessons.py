"""Every lesson gives its stored output again, on any CPU, and notices a fault in what it teaches.

nbval runs each lesson in a fresh kernel: as it is, on one thread, with the instructions of an older CPU, and
with each fault of tests/faults/<stem>.toml in a copy of the package. One run takes as long as the lesson,
so `make test` takes samples where lessons are many, always the same ones; `make stress` runs the rest.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbval.plugin import get_sanitize_patterns

import lesson_faults
import lesson_guards as guards
import nbval_run
from lesson_faults import Fault
from test_notebooks import tiny

# Variants run beside other tests, where several threads of a lesson would wait for those of the others.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
VARIANTS = {
    "one thread": ONE_THREAD,
    "avx2": ONE_THREAD | {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
# In make test. A run takes some 15 s, and the thirteen lessons of the course have eight minutes together.
VARIANT_RUNS = 6
FAULT_RUNS = 12
Case = TypeVar("Case")


def sampled(cases: list[tuple[str, Case]], n: int) -> list[Any]:
    """The cases as pytest parameters; all but n, drawn with a fixed seed, are marked stress."""
    chosen = set(random.Random("memory bound").sample(range(len(cases)), min(n, len(cases))))
    marks = [[] if i in chosen else [pytest.mark.stress] for i in range(len(cases))]
    return [pytest.param(case, id=name, marks=mark) for (name, case), mark in zip(cases, marks, strict=True)]


def listed_faults() -> list[tuple[str, tuple[Path, Fault]]]:
    """(name, (lesson, fault)) of every committed lesson that has a list."""
    cases = []
    for path in guards.LESSONS:
        listed = lesson_faults.FOLDER / f"{path.stem}.toml"
        if listed.is_file():
            cases += [(f"{path.stem}: {fault.name}", (path, fault)) for fault in lesson_faults.read(listed)]
    return cases


def require_passed(run: nbval_run.Run, path: Path) -> None:
    """Every code cell ran, and every cell that has something to compare was compared."""
    lesson = nbformat.read(path, as_version=4)
    assert run.status == 0, run.log
    assert run.failed == []
    assert run.broken == []
    assert run.executed == len(list(guards.code_cells(lesson)))
    assert run.compared == guards.compared_cells(lesson)
    assert len(run.compared) >= guards.MIN_COMPARED
    assert Path(run.kernel["prefix"]) == Path(sys.prefix), "the kernel is not this environment's"


def require_caught(run: nbval_run.Run, source: Path) -> None:
    """A cell gave another output or raised, in a kernel that had imported the faulty copy without trouble."""
    assert run.broken == [], run.log
    assert run.status in (0, 1), run.log
    assert imported_from(run, source), f"the kernel imported {run.kernel.get('teachkit')!r}"
    assert run.failed, f"the lesson did not notice; {len(run.compared)} cells were compared"


def imported_from(run: nbval_run.Run, source: Path) -> bool:
    return Path(run.kernel.get("teachkit") or "nowhere").resolve().is_relative_to(source.resolve())


# The committed lessons


@pytest.mark.slow
@pytest.mark.parametrize("path", guards.LESSONS, ids=lambda path: path.stem)
def test_stored_output_comes_again(path, tmp_path):
    """From an unchanged copy of the package: the route that the faults take, so this is their control.

    The code in the prose, such as the answers to exercises, runs in the same kernel afterwards.
    """
    source = lesson_faults.copy_package(tmp_path)
    run = nbval_run.run(path, source=source, examples=True)
    require_passed(run, path)
    assert [error for error in run.examples if error] == []
    assert imported_from(run, source), f"the kernel imported {run.kernel['teachkit']!r}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", sampled([(f"{p.stem}: {v}", (p, v)) for p in guards.LESSONS for v in VARIANTS], VARIANT_RUNS)
)
def test_output_does_not_depend_on_the_cpu(case, tmp_path):
    path, variant = case
    # A compiler's cache of its own: what was compiled for other instructions gives wrong numbers here.
    run = nbval_run.run(path, env=VARIANTS[variant] | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)})
    require_passed(run, path)
    assert run.kernel["threads"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", sampled(listed_faults(), FAULT_RUNS))
def test_lesson_notices_the_fault(case, tmp_path):
    path, fault = case
    source = lesson_faults.copy_package(tmp_path, fault)
    require_caught(nbval_run.run(path, source=source, first=True), source)


# The checks can fail


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """notebooks/ with a small lesson whose stored outputs are right, and a small teachkit that it uses."""
    root = tmp_path_factory.mktemp("small")
    package = root / "src" / "teachkit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from teachkit.attention import one\n")
    (package / "attention.py").write_text("def one():\n    return 1\n\n\ndef unused():\n    return 1\n")
    notebooks = tiny(root / "notebooks")
    change(
        notebooks / "tiny.ipynb",
        lambda lesson: lesson.cells.append(cell("import teachkit\nteachkit.one()", 1)),
    )
    return notebooks


def cell(source: str, value: object) -> Any:
    result = nbformat.v4.new_output("execute_result", {"text/plain": repr(value)})
    return nbformat.v4.new_code_cell(source, execution_count=8, outputs=[result])


def change(path: Path, edit: Any, to: Path | None = None) -> Path:
    lesson = nbformat.read(path, as_version=4)
    edit(lesson)
    # The picture is not what these tests are about, and no function draws it.
    lesson.cells = [c for c in lesson.cells if "picture()" not in c.source]
    nbformat.write(lesson, to or path)
    return to or path


def code(lesson: Any, number: int) -> Any:
    return list(guards.code_cells(lesson))[number][1]


@pytest.mark.slow
def test_small_lesson_passes_and_says_what_was_compared(folder, tmp_path):
    prose = "```python\nprint(one)\n```\n\n```python\nprint(two)\n```\n\n```text\nno Python\n```"
    path = change(
        folder / "tiny.ipynb",
        lambda lesson: lesson.cells.append(nbformat.v4.new_markdown_cell(prose)),
        tmp_path / "tiny.ipynb",
    )
    run = nbval_run.run(path, source=folder.parent / "src", examples=True)
    require_passed(run, path)
    assert run.compared == [0, 1, 2, 4, 5, 6]
    assert [error.split(",")[0] for error in run.examples] == ["", "NameError: name 'two' is not defined"]
    assert imported_from(run, folder.parent / "src")


@pytest.mark.slow
def test_planted_wrong_outputs_fail(folder, tmp_path):
    def edit(lesson: Any) -> None:
        code(lesson, 0).outputs[0].update(text="1.0\n")
        code(lesson, 1).outputs[0].data.update({"text/plain": "3"})
        code(lesson, 2).update(source="raise ValueError")
        code(lesson, 4).update(outputs=[])

    path = change(folder / "tiny.ipynb", edit, tmp_path / "wrong.ipynb")
    run = nbval_run.run(path, source=folder.parent / "src")
    assert run.status == 1, run.log
    differs, raised = "Cell outputs differ", "Cell execution caused an exception"
    assert run.failed == [(0, differs), (1, differs), (2, raised), (4, differs)]
    with pytest.raises(AssertionError):
        require_passed(run, path)


@pytest.mark.slow
def test_cells_that_nbval_skips_in_silence_are_not_counted(folder, tmp_path):
    """A wrong output in a tagged cell, a cell without count and output: nbval passes, we do not."""

    def edit(lesson: Any) -> None:
        code(lesson, 0).metadata["tags"] = [guards.IGNORE]
        code(lesson, 0).outputs[0].update(text="wrong\n")
        code(lesson, 1).update(execution_count=None, outputs=[])

    path = change(folder / "tiny.ipynb", edit, tmp_path / "skipped.ipynb")
    run = nbval_run.run(path, source=folder.parent / "src")
    assert run.status == 0, run.log
    assert run.compared == [2, 4, 5, 6]
    with pytest.raises(AssertionError):
        require_passed(run, path)


@pytest.mark.slow
@pytest.mark.parametrize("caught", [True, False], ids=["fault that shows", "fault that does not show"])
def test_fault_is_caught_only_where_the_lesson_looks(folder, tmp_path, caught):
    old = "def one():\n    return 1" if caught else "def unused():\n    return 1"
    fault = Fault("two", "teachkit/attention.py", old, old.replace("1", "2"), "")
    source = lesson_faults.copy_package(tmp_path, fault, folder.parent / "src")
    run = nbval_run.run(folder / "tiny.ipynb", source=source, first=True)
    assert imported_from(run, source)
    assert not imported_from(run, folder.parent / "src")
    if caught:
        require_caught(run, source)
    else:
        with pytest.raises(AssertionError, match="did not notice"):
            require_caught(run, source)


@pytest.mark.slow
def test_copy_that_cannot_be_imported_is_not_a_fault_that_is_caught(folder, tmp_path):
    source = lesson_faults.copy_package(tmp_path, source=folder.parent / "src")
    (source / "teachkit" / "__init__.py").write_text("raise ImportError\n")
    run = nbval_run.run(folder / "tiny.ipynb", source=source)
    assert run.failed
    with pytest.raises(AssertionError, match="the kernel imported"):
        require_caught(run, source)


def test_python3_is_this_environments_kernel():
    """The book and tools/notebooks.py start the kernel of that name; nbval is given this interpreter."""
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert Path(spec.resource_dir).is_relative_to(sys.prefix)
    assert spec.argv[0].startswith("python") or Path(spec.argv[0]).is_relative_to(sys.prefix)


@pytest.mark.parametrize(
    ("stored", "fresh", "same"),
    [
        ("<object at 0x7f3a12bc>", "<object at 0x55d0aa10>", True),
        ("run on 2030-01-31", "run on 2031-12-01", True),
        ("0.0312", "0.0313", False),
        ("shape (2, 3)", "shape (3, 2)", False),
        ("seed 0x1f", "seed 0x1e", False),
        ("20 tokens", "21 tokens", False),
    ],
)
def test_sanitiser_hides_addresses_and_dates_and_no_result(stored, fresh, same):
    for pattern, replacement in get_sanitize_patterns(nbval_run.SANITIZE.read_text()):
        stored, fresh = re.sub(pattern, replacement, stored), re.sub(pattern, replacement, fresh)
    assert (stored == fresh) == same


def test_samples_and_the_rest_make_all():
    cases = [(str(i), i) for i in range(30)]
    first, again = sampled(cases, 12), sampled(cases, 12)
    assert [p.values for p in first] == [(i,) for i in range(30)]
    assert sum(not p.marks for p in first) == 12
    assert [bool(p.marks) for p in first] == [bool(p.marks) for p in again]
