"""Every lab: its wrong solutions fail with their own message, other right ones pass, nothing leaks."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from at_hand import LABS, ROOT, key_of, lab_named
from teachgrade.compare import NOT_YET
from teachgrade.lab import seen_by
from teachgrade.release import Leak, make, require_no_leak
from teachgrade.source import regions, without_markers, without_solutions

LEAST_WRONG, LEAST_RIGHT = 4, 2
all_labs = pytest.mark.parametrize("stem", LABS)


def bank(kind: str) -> list:
    return [
        pytest.param(stem, number, id=f"{stem}-{solution.question}-{solution.name}")
        for stem in LABS
        for number, solution in enumerate(lab_named(stem).bank(kind))
    ]


def wrong_places(stem, solution):
    key = key_of(stem)
    seen = {at: seen_by(solution.names, key.recorded[at]) for at in key.places(solution.question)}
    return {at: values for at, values in seen.items() if key.verdict(at, values).message}


def test_there_are_labs():
    assert LABS


@pytest.mark.parametrize(("stem", "number"), bank("wrong"))
def test_wrong_solution_is_told_what_is_wrong(stem, number):
    solution = lab_named(stem).bank("wrong")[number]
    wrong = wrong_places(stem, solution)
    assert wrong, "it passes"
    votes = Counter(number for at, seen in wrong.items() for number in key_of(stem).same_mistakes(at, seen))
    assert key_of(stem).misconception(votes, len(wrong)) == solution.message


@pytest.mark.parametrize(("stem", "number"), bank("right"))
def test_other_right_solution_passes(stem, number):
    solution = lab_named(stem).bank("right")[number]
    wrong = wrong_places(stem, solution)
    assert {at: key_of(stem).verdict(at, seen).message for at, seen in wrong.items()} == {}


@all_labs
def test_banks_are_large_enough(stem):
    lab = lab_named(stem)
    code = [q.id for q in lab.questions if q.kind == "code"]
    wrong, right = (Counter(one.question for one in lab.bank(kind)) for kind in ("wrong", "right"))
    assert {q: wrong[q] for q in code if wrong[q] < LEAST_WRONG} == {}
    assert {q: right[q] for q in code if right[q] < LEAST_RIGHT} == {}


@all_labs
def test_messages_are_sentences_and_differ(stem):
    messages = [(one.question, one.message) for one in lab_named(stem).bank("wrong")]
    assert len(set(messages)) == len(messages)
    assert all(message.endswith(".") and len(message) > 20 for _, message in messages)


@all_labs
def test_every_code_question_has_visible_and_hidden_scenarios(stem):
    key = key_of(stem)
    for question in key.lab.questions:
        if question.kind == "code":
            hidden = [key.recorded[at].hidden for at in key.places(question.id)]
            assert True in hidden, question.id
            assert False in hidden, question.id


@all_labs
def test_untouched_notebook_is_not_implemented_everywhere(stem):
    from teachgrade.lab import _run, code_cells

    key, names = key_of(stem), {"__name__": "__main__"}
    for code in code_cells(without_solutions(key.lab.source)):
        _run(code, "blank", names)
    for at, recorded in enumerate(key.recorded):
        assert key.verdict(at, seen_by(names, recorded)).message == NOT_YET, recorded.name


@all_labs
def test_release_holds_no_line_of_a_solution_and_no_hidden_scenario(stem):
    lab = lab_named(stem)
    made = make(lab)
    text = "\n".join("".join(cell["source"]) for cell in json.loads(made.student)["cells"])
    for region in regions(lab.source):
        longest = max((line.strip() for line in region.lines), key=len)
        assert longest not in text
    with pytest.raises(Leak):
        require_no_leak(lab, made.instructor)
    with pytest.raises(Leak):
        require_no_leak(lab, (lab.folder / "hidden.py").read_text(encoding="utf-8"))


@all_labs
def test_committed_files_are_what_the_source_makes(stem):
    made = make(lab_named(stem))
    assert (ROOT / "labs" / stem / f"{stem}.ipynb").read_text(encoding="utf-8") == made.student
    visible = ROOT / "src" / "teachgrade" / "visible" / f"{stem}.json"
    assert visible.read_text(encoding="utf-8") == made.visible


@all_labs
def test_instructors_notebook_has_no_marker(stem):
    assert "### " not in "\n".join(
        line for line in without_markers(lab_named(stem).source).split("\n") if not line.startswith("#")
    )


@all_labs
def test_same_seed_same_inputs(stem):
    lab = lab_named(stem)
    one, same, other = (lab.record(seed) for seed in ("a", "a", "b"))
    assert [str(r.ops) for r in one] == [str(r.ops) for r in same]
    hidden = [(str(a.ops), str(b.ops)) for a, b in zip(one, other, strict=True) if a.hidden]
    assert sum(a != b for a, b in hidden) > len(hidden) / 2
