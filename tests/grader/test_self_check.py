"""check(): what a student reads."""

from __future__ import annotations

import pytest
import torch

from at_hand import LABS, lab_named
from teachgrade import check
from teachgrade.lab import load
from teachgrade.visible_part import load as visible


def softmax(x):
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def test_what_is_withheld_is_withheld_here_too_and_given_back():
    found = check("attention.q1", lambda x: x.softmax(-1))
    assert "is withheld in this question" in found.text
    assert torch.zeros(2).softmax(-1).tolist() == [0.5, 0.5]


def test_right_wrong_missing_and_unknown():
    assert repr(check("attention.q1", softmax)).endswith("More are tried when it is graded.")
    wrong = check("attention.q1", lambda x: softmax(x.mT).mT if x.dim() > 1 else softmax(x))
    assert not wrong
    lines = wrong.text.split("\n")
    assert lines[0].startswith("attention.q1: not yet. ")
    assert [line.split()[0] for line in lines[2:]] == ["expected", "got"]

    def later(x):
        raise NotImplementedError("q1")

    assert check("attention.q1", later).text == "attention.q1: not implemented yet."
    with pytest.raises(ValueError, match=r"expected one of attention\.q1"):
        check("attention.q99", later)
    with pytest.raises(ValueError, match="lab: expected one of attention"):
        check("nowhere.q1", later)
    with pytest.raises(ValueError, match=r"attention\.q1: expected softmax, got 2 solutions"):
        check("attention.q1", later, later)


def test_an_error_is_told_and_not_thrown():
    found = check("attention.q1", lambda x: x.no_such_method())
    assert not found
    assert "it raised AttributeError" in found.text
    assert "at line" in found.text.split("\n")[-1]


def test_it_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    check("attention.q1", lambda x: torch.rand(1))
    assert torch.equal(torch.rand(2), wanted)


@pytest.mark.parametrize("stem", LABS)
def test_the_visible_part_gives_no_code_away_and_passes_the_reference(stem):
    questions = visible(stem)
    reference = lab_named(stem).reference
    assert list(questions) == [q.id for q in lab_named(stem).questions]
    for name, one in questions.items():
        if one.names:
            assert check(f"{stem}.{name}", *(reference[n] for n in one.names)), name


X = 'schema = 1\nstem = "x"\ntitle = "X"\nminutes = 1\n'
Q = '[[question]]\nid = "q1"\ntitle = "Q"\npoints = 1\nnames = ["f"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "schema: expected 1"),
        ("schema = 1\nx = [", "lab.toml|Unclosed|Invalid"),
        ('schema = 1\nstem = "x"\n', "missing"),
        (X, "expected questions"),
        (X + Q.replace("points = 1", "points = 0"), "points above 0"),
        (X + Q.replace('names = ["f"]', ""), "names for code"),
        (X.replace('"x"', '"y"') + Q, "folder's name"),
        (X + "odd = 1\n" + Q, "odd"),
        (X + Q + Q, "different ids"),
    ],
)
def test_labs_that_are_none(tmp_path, text, says):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "lab.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        load(folder)
