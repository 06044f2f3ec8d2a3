"""Scenarios become operations; operations are played the same everywhere."""

from __future__ import annotations

import pytest
import torch

from teachgrade.compare import difference
from teachgrade.operations import play
from teachgrade.scenario import Draw, Look, Recorder, hidden, scenarios_of, visible
from teachgrade.values import Raised


def seen(ask, names):
    recorder = Recorder()
    ask(recorder)
    return play(recorder._ops, names)


class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, n):
        self.value += n
        return self.value


NAMES = {"double": lambda x: 2 * x, "Counter": Counter, "pair": lambda a, *, b: (a, b)}


def test_calls_methods_attributes_and_results_as_arguments():
    def ask(s):
        c = s.Counter(start=3)
        s.see("first", c.add(4))
        s.see("attribute", s.get(c, "value"))
        s.see("of a result", s.double(c.add(1)))
        s.see("keywords", s.pair(1, b=[2, {"x": s.double(5)}]))

    assert seen(ask, NAMES) == [7, 7, 16, (1, [2, {"x": 10}])]


def test_what_was_seen_stays_as_it_was():
    def ask(s):
        x = s.value(torch.zeros(2))
        s.see("before", x)
        x.add_(1)
        s.see("after", x)

    before, after = seen(ask, {})
    assert (before.tolist(), after.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("missing", lambda s: s.nothing()),
        ("ZeroDivisionError", lambda s: s.divide(0)),
        ("SystemExit", lambda s: s.leave()),
    ],
)
def test_exceptions_are_seen_and_passed_on(name, call):
    names = {"divide": lambda x: 1 / x, "leave": exit, "double": lambda x: 2 * x}

    def ask(s):
        failed = call(s)
        s.see("itself", failed)
        s.see("what needs it", s.double(failed))
        s.see("something else", s.double(4))

    one, other, last = seen(ask, names)
    assert isinstance(one, Raised)
    assert one == other
    assert last == 8
    assert name in ("missing", *one.types)


def test_changed_arguments_are_noticed():
    def spoil(x, y=None):
        for value in (x, y):
            if isinstance(value, torch.Tensor):
                value.add_(1)
            elif isinstance(value, list):
                value.append(1)
        return 0

    for argument in (torch.zeros(2), [torch.zeros(2)], [1, 2], {"a": torch.zeros(3)}):
        found = seen(
            lambda s, a=argument: s.see("x", s.spoil(a)),
            {
                "spoil": lambda x: spoil(
                    x["a"]
                    if isinstance(x, dict)
                    else x[0]
                    if isinstance(x, list) and isinstance(x[0], torch.Tensor)
                    else x
                )
            },
        )
        assert found[0].types == ("changed",), argument
    named = seen(lambda s: s.see("x", s.spoil(s.value(torch.zeros(2)))), {"spoil": spoil})
    assert named == [0]


def test_inputs_are_fresh_for_every_player():
    recorder = Recorder()
    recorder.see("x", recorder.keep(torch.zeros(2)))
    kept = []
    play(recorder._ops, {"keep": kept.append})
    kept[0] += 5
    assert play(recorder._ops, {"keep": lambda x: x.sum()})[0] == 0


def test_same_words_same_numbers_other_words_others():
    one, same, other = (Draw("lab", "q1", n) for n in (1, 1, 2))
    assert torch.equal(one.normal(3, 5), same.normal(3, 5))
    assert not torch.equal(one.normal(3, 5), other.normal(3, 5))
    assert sorted(one.shuffled(range(9))) == list(range(9))
    assert len(set(one.primes(4, 7))) == 4
    assert {Draw(n).integer(2, 4) for n in range(50)} == {2, 3, 4}


def test_scenarios_are_found_and_recorded():
    @visible("q1")
    def shown(s, draw):
        s.see("x", s.f(draw.integer(0, 9)))

    @hidden("q2", times=3)
    def kept(s, draw):
        s.see("y", s.f(draw.integer(0, 10**9)))

    found = scenarios_of({"shown": shown, "kept": kept, "other": 3})
    assert [(one.question, one.name, one.hidden, one.times) for one in found] == [
        ("q1", "shown", False, 1),
        ("q2", "kept", True, 3),
    ]
    recorded = found[1].record("seed")
    assert len({r.ops[0]["args"] for r in recorded}) == 3


def test_a_scenario_that_looks_at_nothing_is_refused():
    @hidden("q1")
    def blind(s, draw):
        s.f(1)

    with pytest.raises(ValueError, match="see something"):
        scenarios_of({"blind": blind})[0].record("")


LOOK = Look("x")


@pytest.mark.parametrize(
    ("expected", "got", "says"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), None),
        (torch.ones(2, 3), torch.ones(2, 3) + 1e-6, None),
        (torch.ones(2, 3), torch.ones(2, 3) + 0.01, "6 of 6 numbers differ"),
        (torch.ones(2, 3), torch.ones(3, 2), "shape (2, 3), got (3, 2)"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "float32"),
        (torch.ones(2), torch.tensor([1.0, float("nan")]), "NaN where there should be none"),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), None),
        (torch.tensor([float("nan")]), torch.tensor([1.0]), "should be NaN"),
        (torch.tensor([float("inf")]), torch.tensor([float("inf")]), None),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "1 of 2"),
        (torch.tensor([True]), torch.tensor([False]), "differs"),
        (torch.zeros(0, 3), torch.zeros(0, 3), None),
        (torch.ones(2), None, "expected a tensor, got None"),
        (torch.ones(2), [1.0, 1.0], "expected a tensor, got a list"),
        (3, 3, None),
        (3, 3.0, None),
        (3, 4, "differs"),
        (3, True, "expected a number, got a bool"),
        (10**300, 1e300, None),
        (0.1 + 0.2, 0.3, None),
        (float("nan"), float("nan"), None),
        (True, 1, "expected a bool"),
        ("a", "b", "value differs"),
        (None, 0, "expected None"),
        ([1, 2], (1, 2), None),
        ([1, 2], [1, 3], "item 1"),
        ([1, 2], [1], "expected 2 items, got 1"),
        ({"a": 1}, {"a": 2}, "'a'"),
        ({"a": 1}, {"b": 1}, "keys differ"),
        ({1, 2}, {2, 1}, None),
        (3, Raised(("KeyError", "Exception"), "x"), "it raised KeyError: x"),
        (3, Raised(("NotImplementedError",), "q1"), "not implemented yet"),
        (Raised(("ValueError", "Exception")), Raised(("CacheFull", "ValueError", "Exception")), None),
        (Raised(("ValueError", "Exception")), Raised(("KeyError", "Exception")), "expected ValueError"),
        (Raised(("ValueError", "Exception")), 3, "expected ValueError to be raised"),
        (Raised(("ValueError", "Exception")), Raised(("NotImplementedError",)), "not implemented yet"),
    ],
)
def test_difference(expected, got, says):
    found = difference(expected, got, LOOK)
    assert (found is None) if says is None else (says in (found or ""))


def test_messages_give_no_value_away():
    secret = 0.123456789
    for got in (torch.zeros(1), None, [0.0], 3.0, "x", Raised(("A",), "b")):
        for expected in (torch.tensor([secret]), secret, [secret], {"k": secret}, str(secret)):
            assert "123456" not in (difference(expected, got, LOOK) or "")
