"""tools/new.py: what it makes is well formed and works at once, and what is left to write is found.

Skeletons are made in a copy of the few files that this needs; of the checkout only the marks are looked for.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_lab_mutants as mutants
import test_labs as banks
import yaml

import at_hand
import hostile
import lesson_faults
import lesson_guards as guards
import new
import notebooks
import test_prose
import test_questions
from teachgrade.lab import load
from teachgrade.release import make
from teachgrade.source import without_solutions

ROOT = guards.ROOT
STEM, LAB = "lesson_of_a_test", "lab_of_a_test"  # nobody takes these names
TITLE = 'Attention "in tiles": a sum that is never whole'
COPIED = ("_toc.yml", "_config.yml", "pyproject.toml", "notebooks/ruff.toml")


def course(root: Path) -> Path:
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


def call(root: Path, *words: str) -> int:
    return new.main(["--root", str(root), *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A copy with a new lesson and a new lab."""
    root = course(tmp_path_factory.mktemp("course"))
    assert call(root, "lesson", STEM, "--title", TITLE, "--after", "overhead") == 0
    assert call(root, "lab", LAB, "--title", TITLE) == 0
    return root


def tree(root: Path) -> dict[str, str]:
    return {str(path): path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def new_files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and STEM in str(p))


# The command


def test_examples():
    done = doctest.testmod(new)
    assert (done.failed, done.attempted > 0) == (0, True)


def test_table_of_contents_has_two_lines_more_and_is_otherwise_the_same(made):
    before, after = ((root / "_toc.yml").read_text(encoding="utf-8").splitlines() for root in (ROOT, made))
    assert [line for line in after if line not in before] == [
        f"      - file: notebooks/{STEM}",
        f"      - file: labs/{LAB}/{LAB}",
    ]
    assert [line for line in after if line in before] == before
    toc = yaml.safe_load("\n".join(after))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert files[files.index(f"notebooks/{STEM}") - 1] == "notebooks/overhead"
    labs = [file for file in files if file.startswith("labs/")]
    assert labs[-1] == f"labs/{LAB}/{LAB}"


def test_a_chapter_with_sections_keeps_them():
    toc = "chapters:\n  - file: a\n    sections:\n      - file: b\n\n  - file: c\n"
    assert new.with_entry(toc, "d", "a").splitlines()[3:5] == ["      - file: b", "  - file: d"]
    assert new.with_entry(toc, "d", "c").splitlines()[-1] == "  - file: d"
    assert new.with_entry(toc, "d", "b").splitlines()[4] == "      - file: d"


def test_a_lab_may_come_after_another(tmp_path):
    assert call(course(tmp_path), "lab", LAB, "--title", "A lab", "--after", "kv_cache") == 0
    lines = (tmp_path / "_toc.yml").read_text(encoding="utf-8").splitlines()
    place = lines.index(f"      - file: labs/{LAB}/{LAB}")
    assert lines[place - 1].endswith("labs/kv_cache/kv_cache")


@pytest.mark.parametrize("kind", ["lesson", "lab"])
def test_five_lines_say_what_comes_next(kind, tmp_path, capsys):
    assert call(course(tmp_path), kind, STEM, "--title", "A title", "--after", "kv_cache") == 0
    listed, _, hints = capsys.readouterr().out.partition("\n\n")
    assert [line[:2] for line in hints.splitlines()] == ["1.", "2.", "3.", "4.", "5."]
    assert sorted(listed.splitlines()) == new_files(tmp_path)
    assert STEM in hints
    assert "$" not in hints


def test_nothing_is_overwritten(made, capsys):
    before = tree(made)
    for words in (["lesson", STEM, "--title", "T", "--after", "gqa"], ["lab", LAB, "--title", "T"]):
        with pytest.raises(SystemExit) as stopped:
            call(made, *words)
        assert stopped.value.code == 2
        assert words[1] in capsys.readouterr().err
    assert tree(made) == before


@pytest.mark.parametrize(
    "taken", [f"tests/faults/{STEM}.toml", f"notebooks/{STEM}.ipynb", f"notebooks/{STEM}.py"]
)
def test_one_file_that_is_there_stops_all(taken, tmp_path):
    path = course(tmp_path) / taken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=STEM):
        new.make(tmp_path, "lesson", STEM, "T", "gqa")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("stem", ["", "Flash", "flash-attention", "2d", "class", "a/b", "../up", "é", "a.b"])
def test_a_stem_is_an_identifier_in_lower_case(stem, tmp_path):
    before = tree(course(tmp_path))
    for kind in ("lesson", "lab"):
        with pytest.raises(ValueError, match="stem: expected"):
            new.make(tmp_path, kind, stem, "T", "gqa")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("title", ["", "  ", "two\nlines"])
def test_a_title_is_one_line(title, tmp_path):
    with pytest.raises(ValueError, match="--title: expected"):
        new.make(course(tmp_path), "lesson", STEM, title, "gqa")


def test_the_lesson_before_must_be_there(tmp_path):
    before = tree(course(tmp_path))
    with pytest.raises(ValueError, match=r"has no notebooks/nothere; it has .*notebooks/gqa"):
        new.make(tmp_path, "lesson", STEM, "T", "nothere")
    assert tree(tmp_path) == before


def test_the_first_lab_has_no_place_yet(tmp_path):
    (tmp_path / "_toc.yml").write_text("chapters:\n  - file: a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no lab"):
        new.make(tmp_path, "lab", LAB, "T", None)


# The mark


def test_nothing_is_left_to_write():
    """No lesson and no lab of the course is a skeleton any more."""
    assert list(new.left(ROOT)) == []


def test_what_is_left_is_found_in_every_part(made, capsys):
    found = {line.split(":")[0] for line in new.left(made)}
    assert set(new_files(made)) < found
    lab = f"labs/{LAB}"
    assert {
        f"{lab}/{name}" for name in ("source.py", "lab.toml", "marking.md", "visible.py", "hidden.py")
    } < found
    assert call(made, "left") == 1
    assert f"notebooks/{STEM}.py:" in capsys.readouterr().out


def test_a_mark_is_told_with_its_line(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    lesson = tmp_path / "notebooks" / "a.py"
    lesson.write_text(f"# %% [markdown]\n# {new.MARK} why\n", encoding="utf-8")
    assert list(new.left(tmp_path)) == [f"notebooks/a.py:2: {new.MARK} why"]
    lesson.write_text("# %% [markdown]\n# Because.\n", encoding="utf-8")
    assert call(tmp_path, "left") == 0
    assert "nothing is left" in capsys.readouterr().out


# A made lesson


@pytest.fixture(scope="module")
def lesson(made):
    return notebooks.read_lesson(made / "notebooks" / f"{STEM}.py", "https://example.org/course")


def test_lint_finds_nothing_in_what_is_made(made):
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "notebooks", "labs"]
        done = subprocess.run(ruff, cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_made_lesson_lacks_only_its_twin(made, lesson):
    about = lesson.metadata.teachkit
    assert set(about) == notebooks.HEADER
    assert about.stem == STEM
    assert notebooks.differences(made / "notebooks" / f"{STEM}.py", "") == [f"{STEM}.ipynb: missing"]
    assert guards.pair_problems(made / "notebooks", "") == [f"{STEM}.ipynb: missing, {STEM}.py is there"]
    assert lesson.cells[0].source.startswith(f"# {TITLE}\n")


def test_made_lesson_lacks_only_its_module_and_its_run(lesson):
    lesson = nbformat.from_dict(lesson)
    lesson.metadata.teachkit.last_run = {}
    run = (
        "last_run: has [], expected ['date', 'device', 'peak_memory_bytes', 'seconds', 'threads', 'versions']"
    )
    assert guards.metadata_problems(lesson, STEM) == [f"modules: there is no src/teachkit/{STEM}.py", run]


def test_made_lesson_reads_well_and_types_no_figure(lesson):
    assert guards.rendering_problems(lesson) == []
    for _, cell in guards.prose_cells(lesson):
        assert test_prose.typed_figures(cell.source) == []


def test_made_lesson_has_the_parts_of_all_others(lesson):
    text = "\n".join(cell.source for _, cell in guards.prose_cells(lesson))
    for part in (
        "**Afterwards you can**",
        "**You need**",
        "**Predict.**",
        "**Explain.**",
        "Not covered here",
    ):
        assert part in text
    parts = ("What real systems do", "What the sources claim, checked", "Exercises", "Check yourself")
    theirs = guards.ROOT / "notebooks" / "attention.py"
    ordered = [at for at in headings(theirs.read_text(encoding="utf-8")) if at in parts]
    assert [at for at in headings(text) if at in parts] == ordered


def headings(text: str) -> list[str]:
    """Of level 2, in a lesson's script or in its Markdown."""
    return re.findall(r"^(?:# )?## (.+)$", text, flags=re.M)


@pytest.mark.parametrize("kind", ["lesson", "lab"])
def test_set_up_cells_are_those_of_the_course(kind, made):
    """Word for word: test_colab_setup.py runs those."""

    def setup_cell(path: Path) -> str:
        cells = notebooks.read_lesson(path, "").cells
        [found] = [cell.source for cell in cells if "setup" in cell.metadata.get("tags", [])]
        return found

    if kind == "lesson":
        ours, theirs = f"notebooks/{STEM}.py", "notebooks/attention.py"
    else:
        ours, theirs = f"labs/{LAB}/source.py", "labs/attention/source.py"
    assert setup_cell(made / ours) == setup_cell(ROOT / theirs)


def test_faults_lack_only_their_module(made):
    faults = lesson_faults.read(made / "tests" / "faults" / f"{STEM}.toml")
    lacking = lesson_faults.problems(faults, [STEM], ROOT / "src")
    assert lacking == [f"{fault.name}: there is no teachkit/{STEM}.py" for fault in faults]
    assert len(faults) == lesson_faults.PER_MODULE


def test_questions_have_the_form_of_all_others_and_their_numbers_are_computed(made, monkeypatch):
    folder = made / "src" / "teachkit" / "questions"
    monkeypatch.setattr(test_questions, "FOLDER", folder)
    monkeypatch.setattr(test_questions, "ROOT", made)
    test_questions.test_a_lesson_asks_four_to_six_questions_two_of_them_numbers(STEM)
    test_questions.test_a_lesson_shows_its_questions_once_under_its_own_name(STEM)
    for question in json.loads((folder / f"{STEM}.json").read_text(encoding="utf-8"))["questions"]:
        test_questions.test_words_are_whole_sentences_without_markup(STEM, question)
        if question["kind"] == "number":
            test_questions.test_every_number_comes_from_its_expression(STEM, question)
        else:
            test_questions.test_figures_of_a_choice_hold(STEM, question)


@pytest.mark.slow
def test_made_lesson_runs_and_compares_enough(made, lesson, tmp_path, monkeypatch):
    source = lesson_faults.copy_package(tmp_path)
    asked = f"teachkit/questions/{STEM}.json"
    shutil.copy(made / "src" / asked, source / asked)
    monkeypatch.setenv("PYTHONPATH", str(source))
    lesson = nbformat.from_dict(lesson)
    notebooks.execute(lesson, made / "notebooks", made)
    assert guards.run_problems(lesson) == []
    assert guards.ignore_problems(lesson) == []
    assert guards.rendering_problems(lesson) == []
    assert guards.metadata_problems(lesson, STEM) == [f"modules: there is no src/teachkit/{STEM}.py"]


# A made lab


@pytest.fixture
def lab(made, monkeypatch):
    """The made lab, where the tests of the course's own labs look for theirs."""
    monkeypatch.setattr(at_hand, "ROOT", made)
    return load(made / "labs" / LAB)


def test_made_lab_has_its_title_and_a_place_for_words(lab):
    assert lab.title == TITLE
    assert {question.kind for question in lab.questions} == {"code", "words"}
    for name in (question.id for question in lab.questions if question.kind == "words"):
        assert name in (lab.folder / "marking.md").read_text(encoding="utf-8")


def test_made_lab_passes_what_every_lab_has_to(lab):
    for kind, test in (
        ("wrong", banks.test_wrong_solution_is_told_what_is_wrong),
        ("right", banks.test_other_right_solution_passes),
    ):
        for number in range(len(lab.bank(kind))):
            test(LAB, number)
    banks.test_banks_are_large_enough(LAB)
    banks.test_messages_are_sentences_and_differ(LAB)
    banks.test_every_code_question_has_visible_and_hidden_scenarios(LAB)
    banks.test_untouched_notebook_is_not_implemented_everywhere(LAB)
    banks.test_release_holds_no_line_of_a_solution_and_no_hidden_scenario(LAB)
    banks.test_instructors_notebook_has_no_marker(LAB)
    banks.test_same_seed_same_inputs(LAB)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_small_changes_of_the_made_lab_are_noticed(lab):
    found = mutants.mutants(LAB)
    assert len(found) > 5
    assert mutants.survivors(LAB, found) == []


def test_student_notebook_of_the_made_lab(lab):
    student = nbformat.reads(make(lab, "https://example.org/course").student, as_version=4)
    text = "\n".join(cell.source for cell in student.cells)
    assert 'raise NotImplementedError("q1")' in text
    assert 'ADDRESS = "https://example.org/course"' in text
    assert guards.rendering_problems(student) == []


@at_hand.needs_sandbox
@pytest.mark.slow
def test_made_lab_grades_at_once(lab, tmp_path):
    """Full marks for the reference, none for the untouched notebook, and a wrong one is told its mistake."""
    [wrong] = [one for one in lab.bank("wrong") if one.name == "keys_only"]
    mistaken = lab.source.replace("numbers = 2 * n_layers", "numbers = n_layers")
    handed_in = {"right": hostile.solved(lab), "wrong": mistaken, "blank": without_solutions(lab.source)}
    (tmp_path / "in").mkdir()
    for name, source in handed_in.items():
        (tmp_path / "in" / f"{name}.ipynb").write_bytes(hostile.notebook(source))
    out = tmp_path / "results"
    at_hand.teachgrade("grade", lab.folder, tmp_path / "in", "--out", out, "--workers", 1)
    asked = {name: result["questions"][0] for name, result in at_hand.results_in(out).items()}
    points = {name: question["points"] for name, question in asked.items()}
    assert points == {"right": lab.question("q1").points, "wrong": 0, "blank": 0}
    assert wrong.message in str(asked["wrong"])
    assert "not implemented yet" in str(asked["blank"]).lower()
