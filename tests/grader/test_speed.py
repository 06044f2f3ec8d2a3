"""Questions of speed: a ratio, timed from outside, that a submission cannot talk its way around."""

from __future__ import annotations

import pytest

from at_hand import needs_sandbox
from hostile import notebook
from teachgrade.batch import Graders
from teachgrade.judge import Key
from teachgrade.lab import LabError, load
from teachgrade.ratio import Timed
from teachgrade.sandboxed import Starter
from teachgrade.submission import parse

LAB = """schema = 1
stem = "tiny"
title = "Tiny"
minutes = 1

[[question]]
id = "q1"
title = "Squares"
points = 1
names = ["squares"]
at_most = 0.5
"""
RIGHT = "def squares(n):\n    return n * (n + 1) * (2 * n + 1) // 6\n"
SLOW = "def squares(n):\n    return sum(i * i for i in range(n + 1))\n"
MARKED = RIGHT.replace("    return", "    ### BEGIN SOLUTION\n    return") + "    ### END SOLUTION\n"
SCENARIO = """
from teachgrade.scenario import hidden


@hidden("q1", times=9)
def large(s, draw):
    s.see("the sum", s.squares(draw.integer(300_000, 400_000)))
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tiny"
    (made / "slow").mkdir(parents=True)
    (made / "lab.toml").write_text(LAB, encoding="utf-8")
    (made / "source.py").write_text(f"# %% [markdown]\n# # Tiny\n\n# %%\n{MARKED}", encoding="utf-8")
    (made / "hidden.py").write_text(SCENARIO, encoding="utf-8")
    (made / "slow" / "q1_loop.py").write_text(SLOW, encoding="utf-8")
    return made


def graded(folder, *codes):
    lab = load(folder)
    start = Starter(lab.packages, lab.modules)
    graders = Graders(Key(lab, "s"), start)
    try:
        return [graders(parse("x", notebook("# %%\n" + code))).questions[0] for code in codes]
    finally:
        graders.close()
        start.close()


@needs_sandbox
@pytest.mark.slow
def test_fast_passes_slow_fails_and_wrong_is_wrong_first(folder):
    # While the slow version is timed, a submission is paused: it cannot make that slower.
    spins = "import threading\ndef spin():\n    while True:\n        pass\n"
    spins += "for _ in range(8):\n    threading.Thread(target=spin, daemon=True).start()\n"
    right, slow, wrong, spinning = graded(
        folder, RIGHT, SLOW, "def squares(n):\n    return 0\n", spins + SLOW
    )
    assert (right.status, right.points) == ("passed", 1)
    for one in (slow, spinning):
        assert (one.status, one.points) == ("failed", 0)
        assert "more than 0.5 times as long" in one.message
    assert "the number differs" in wrong.message


@needs_sandbox
@pytest.mark.slow
def test_a_slow_version_that_fails_is_nobodys_mark(folder):
    (folder / "slow" / "q1_loop.py").write_text("import os\n\ndef squares(n):\n    os._exit(1)\n", "utf-8")
    (one,) = graded(folder, RIGHT)
    assert one.status == "sandbox_error"
    assert "the slow version" in one.message


def test_there_is_one_slow_version(folder):
    lab = load(folder)
    assert lab.slow("q1") == SLOW
    (folder / "slow" / "q1_other.py").write_text(SLOW, encoding="utf-8")
    with pytest.raises(LabError, match="got 2"):
        lab.slow("q1")


def test_the_shortest_of_turns_and_not_the_first():
    times = Timed()
    for submission_s, baseline_s in ((0.1, 9), (2, 8), (1, 4), (50, 5)):
        times.add(submission_s, baseline_s)
    assert times.ratio == 1 / 4


@needs_sandbox
@pytest.mark.slow
def test_a_disturbed_turn_is_made_up_for(folder):
    """What is slow at first, as on a busy machine, and then fast, passes; the same cases count."""
    disturbed = "import time\n\n" + RIGHT.replace("    return", "    wait()\n    return")
    wait = "calls = 0\n\n\ndef wait():\n    global calls\n    calls += 1\n"
    wait += "    time.sleep(1 if calls < 6 else 0)\n"
    one, other = graded(folder, disturbed + wait, RIGHT)
    assert one.status == other.status == "passed"
    assert len(one.verdicts) == len(other.verdicts) == 3


REMEMBERS = """
kept = {}


def squares(n):
    if n not in kept:
        kept[n] = sum(i * i for i in range(n + 1))
    return kept[n]
"""


@needs_sandbox
@pytest.mark.slow
def test_nothing_can_be_remembered_from_turn_to_turn(folder):
    (one,) = graded(folder, REMEMBERS)
    assert one.status == "failed"
