"""The other end of the pipe, called here: what it answers, and what questions withhold."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F

from teachgrade import withheld, worker
from teachgrade.operations import Missing
from teachgrade.scenario import Recorder
from teachgrade.values import Raised, pack, read
from teachgrade.withheld import Withheld, stand_in
from teachgrade.withheld import withheld as withholding


def serve(monkeypatch, *requests):
    """All that a worker answers."""
    replies = io.BytesIO()
    pipes = io.BytesIO(b"".join(map(pack, requests))), replies
    monkeypatch.setattr(worker, "_own_pipes", lambda: pipes)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    import teachgrade

    monkeypatch.setattr(teachgrade, "check", None, raising=False)
    worker.main()
    replies.seek(0)
    found = []
    while replies.tell() < len(replies.getvalue()):
        found.append(read(replies))
    return found


def ops_of(ask):
    recorder = Recorder()
    ask(recorder)
    return recorder._ops


def test_cells_then_questions(monkeypatch):
    cells = [[1, "x = 1 / 0"], [2, "%time\ndef f(n):\n    return n + 1"], [3, "# teachgrade: show\nf = None"]]
    asked = [[0, ops_of(lambda s: s.see("f", s.f(1)))], [1, ops_of(lambda s: s.see("g", s.g()))]]
    ready, one, two, loaded, first, second = serve(
        monkeypatch, {"cells": cells, "withheld": []}, {"ask": asked, "withheld": []}
    )
    assert ready == {"ready": True}
    assert (one, two) == ({"cell": 1}, {"cell": 2})
    assert [(place, error.split(":")[1].strip(), left) for place, error, left in loaded["loaded"][:1]] == [
        (1, "ZeroDivisionError", [])
    ]
    assert loaded["loaded"][1][0] == 2
    assert first == {"id": 0, "seen": [2]}
    assert second["seen"][0].name == Missing.__name__


def test_every_recording_has_the_same_random_numbers(monkeypatch):
    cells = [[1, "import random\nimport torch\ndef f():\n    return [random.random(), torch.rand(2)]"]]
    ops = ops_of(lambda s: s.see("f", s.f()))
    *_, one, other = serve(
        monkeypatch, {"cells": cells, "withheld": []}, {"ask": [[0, ops], [1, ops]], "withheld": []}
    )
    assert str(one["seen"]) == str(other["seen"])


def test_an_answer_too_large_is_a_failure_and_not_the_end(monkeypatch):
    cells = [[1, "def f(n):\n    return [0] * n"]]
    asked = [[n, ops_of(lambda s, n=n: s.see("f", s.f(10**n)))] for n in (6, 1)]
    *_, large, small = serve(monkeypatch, {"cells": cells, "withheld": []}, {"ask": asked, "withheld": []})
    assert "too many parts" in large["failed"]
    assert small["seen"] == [[0] * 10]


@pytest.fixture
def original(monkeypatch):
    """Names are put back afterwards."""
    for owner, name in ((torch, "softmax"), (F, "softmax"), (torch.nn, "Softmax")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(withheld, "_active", set())


def test_a_name_is_withheld_while_it_is_asked_and_otherwise_there(original):
    kept = torch.softmax
    stand_in(["torch.softmax", "torch.nn.Softmax", "aten::_softmax"])
    x = torch.randn(3)
    assert torch.equal(torch.softmax(x, -1), kept(x, -1))
    assert isinstance(torch.nn.Softmax(-1), torch.nn.Module)
    with withholding(["torch.softmax", "torch.nn.Softmax"]):
        for call in (lambda: torch.softmax(x, -1), lambda: torch.nn.Softmax(-1)):
            with pytest.raises(Withheld, match="is withheld in this question"):
                call()
        assert torch.equal(x.softmax(-1), kept(x, -1))  # another name of the same: not withheld
    assert torch.equal(torch.softmax(x, -1), kept(x, -1))


def test_an_operation_is_withheld_by_whatever_name():
    x = torch.randn(3)
    with withholding(["aten::_softmax"]):
        for call in (x.softmax, F.softmax.__get__(x), lambda d: torch.ops.aten._softmax(x, d, False)):
            with pytest.raises(Withheld, match="aten::_softmax"):
                call(-1)
        assert torch.allclose(x.exp() / x.exp().sum(), x.double().exp().float() / x.exp().sum())
    assert x.softmax(-1).sum() == pytest.approx(1)


def test_withheld_names_that_are_none():
    with pytest.raises(AttributeError):
        stand_in(["torch.no_such_function"])
    with pytest.raises(AttributeError, match="expected a name of torch"):
        stand_in(["os.system"])


def test_what_is_withheld_reaches_the_student_as_a_message(monkeypatch):
    cells = [[1, "def f(x):\n    return x.softmax(-1)"]]
    ops = ops_of(lambda s: s.see("f", s.f(torch.zeros(2))))
    requests = (
        {"cells": cells, "withheld": ["aten::_softmax"]},
        {"ask": [[0, ops]], "withheld": ["aten::_softmax"]},
    )
    *_, answer = serve(monkeypatch, *requests)
    (seen,) = answer["seen"]
    assert isinstance(seen, Raised)
    assert "is withheld in this question" in seen.message
