"""The shape of the grader: what lies in the sandbox knows little, a student's check needs few packages,
files stay small.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from at_hand import ROOT
from teachgrade.bubblewrap import INSIDE

SRC = ROOT / "src" / "teachgrade"
MODULES = {path.stem: path for path in sorted(SRC.glob("*.py"))}
# A module imports only from a lower level.
LEVELS = {
    **dict.fromkeys(
        [
            "__init__",
            "values",
            "cells",
            "withheld",
            "source",
            "mounts",
            "seccomp",
            "kit",
            "late",
            "processes",
        ],
        0,
    ),
    **dict.fromkeys(["operations", "submission", "bubblewrap", "export", "spawn"], 1),
    **dict.fromkeys(["scenario", "worker", "collect", "sandbox"], 2),
    **dict.fromkeys(["compare", "lab", "forkserver"], 3),
    **dict.fromkeys(["judge", "forked"], 4),
    **dict.fromkeys(["talk", "visible_part", "sandboxed"], 5),
    **dict.fromkeys(["ratio", "doctor", "release", "self_check"], 6),
    "grade": 7,
    "result": 8,
    **dict.fromkeys(["batch", "pages"], 9),
    **dict.fromkeys(["cluster", "progress", "class_report"], 10),
    "commands": 11,
    "cli": 12,
}
BASE = {"torch", "numpy", "rich"}
EXTRA = {
    "jupytext": {"release", "lab"},
    "nbformat": {"release"},
    "packaging": {"mounts"},
    "tomli": {"lab"},
    "distributed": {"cluster"},
}
MODULE_LINES, FUNCTION_LINES = 250, 60
each_module = pytest.mark.parametrize("name", MODULES)


def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imported(name):
    """(package, module or None) of each import, wherever it stands."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for one in dotted:
            package, *rest = one.split(".")
            yield package, rest[0] if rest else None


def siblings(name):
    return {module for package, module in imported(name) if package == "teachgrade" and module in MODULES}


def test_every_module_has_a_level():
    assert set(MODULES) == set(LEVELS)


@each_module
def test_imports_run_downward(name):
    too_high = {other for other in siblings(name) if LEVELS[other] >= LEVELS[name]}
    assert name == "__init__" or not too_high


def test_what_lies_in_the_sandbox_needs_nothing_else():
    inside = {Path(file).stem for file in INSIDE}
    for name in inside - {"__init__"}:
        assert siblings(name) <= inside, name
        packages = {package for package, _ in imported(name)} - sys.stdlib_module_names
        assert packages <= {"torch", "teachgrade", "numpy"}, name


@each_module
def test_only_declared_packages(name):
    packages = {package for package, _ in imported(name)} - sys.stdlib_module_names - {"teachgrade"}
    allowed = BASE | {package for package, where in EXTRA.items() if name in where}
    assert packages <= allowed, packages - allowed


@each_module
def test_small(name):
    lines = [line for line in MODULES[name].read_text(encoding="utf-8").split("\n") if line.strip()]
    code = [line for line in lines if not line.lstrip().startswith("#")]
    assert len(code) <= MODULE_LINES
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


@each_module
def test_public_names_have_docstrings(name):
    for node in tree_of(name).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_a_students_check_needs_only_the_base_packages():
    """In Colab the package is installed without extras."""
    code = (
        "import sys\n"
        "for name in ('jupytext', 'nbformat', 'packaging', 'distributed', 'teachkit'):\n"
        "    sys.modules[name] = None\n"
        "from teachgrade import check\n"
        "import torch\n"
        "def softmax(x):\n"
        "    e = (x - x.amax(-1, keepdim=True)).exp()\n"
        "    return e / e.sum(-1, keepdim=True)\n"
        "print(check('attention.q1', softmax))\n"
        "import teachgrade.cli\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("attention.q1: as it should be")
