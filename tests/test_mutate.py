"""tools/mutate.py: it finds what tests leave open, and says nothing when they leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mutate

ROOT = Path(__file__).resolve().parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
MODULE = '''
def clamp(x: int, top: int = 7) -> int:
    """x, at most top."""
    if x < 0:
        raise ValueError(f"x: expected >= 0, got {x - 0}")
    return min(x, top)
'''
STRONG = """
import pytest
from tiny.clamp import clamp
def test_clamp():
    assert (clamp(0), clamp(5), clamp(7), clamp(9), clamp(2, top=1)) == (0, 5, 7, 7, 1)
    with pytest.raises(ValueError): clamp(-1)
"""
WEAK = "from tiny.clamp import clamp\ndef test_clamp():\n    assert clamp(5) == 5\n"


def test_mutants_are_one_change_each_and_leave_messages_and_annotations_alone():
    found = [(mutant.line, mutant.what) for mutant in mutate.mutants(MODULE)]
    assert sorted(found) == [
        (2, "7 -> 8"),
        (4, "0 -> 1"),
        (4, "Lt -> LtE"),
        (4, "condition negated"),
        (6, "return None"),
    ]
    assert all(mutant.source != MODULE for mutant in mutate.mutants(MODULE))


def test_line_with_a_reason_is_left_alone():
    protected = MODULE.replace("if x < 0:", "if x < 0:  # no mutate: equivalent")
    assert {mutant.line for mutant in mutate.mutants(protected)} == {2, 6}


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(
    ("tests", "status", "line"),
    [(STRONG, 0, "5 of 5 mutants killed"), (WEAK, 1, "clamp.py:4: survived: Lt -> LtE")],
    ids=["strong", "weak"],
)
def test_survivors_fail_the_run(tmp_path, tests, status, line):
    package = tmp_path / "src" / "tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "clamp.py").write_text(MODULE)
    (tmp_path / "test_clamp.py").write_text(tests)
    command = [sys.executable, ROOT / "tools" / "mutate.py", package / "clamp.py", "--package", package]
    command += ["--tests", tmp_path / "test_clamp.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert line in result.stdout, result.stderr
    assert result.returncode == status


def mutate_module(stem: str, *options: str) -> None:
    """Run the tool on a module of teachkit; what survived is in the test's output."""
    module = ROOT / "src" / "teachkit" / f"{stem}.py"
    command = [sys.executable, ROOT / "tools" / "mutate.py", module, *options]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == 0


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("stem", ["attention", "cache"])
def test_a_sample_of_mutants_is_killed(stem):
    mutate_module(stem, "--sample", "8", "--seed", "0", "--at-least", "0.85")  # one of the eight may survive


@needs_fork
@pytest.mark.stress
@pytest.mark.parametrize("stem", ["attention", "cache"])
def test_nine_in_ten_mutants_are_killed(stem):
    mutate_module(stem, "--at-least", "0.90")
