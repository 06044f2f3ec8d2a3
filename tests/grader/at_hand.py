"""What the grader's tests share: labs, keys, and a sandbox where there is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from teachgrade.batch import Graders
from teachgrade.bubblewrap import Limits, available
from teachgrade.cli import main
from teachgrade.judge import Key
from teachgrade.lab import Lab, load
from teachgrade.sandbox import Worker
from teachgrade.sandboxed import Starter

ROOT = Path(__file__).resolve().parents[2]
LABS = sorted(path.parent.name for path in (ROOT / "labs").glob("*/lab.toml"))

STARTERS: list[Starter] = []

needs_sandbox = pytest.mark.skipif(
    not available(), reason="no bubblewrap; on Debian and Ubuntu: apt-get install bubblewrap"
)


@cache
def lab_named(stem: str) -> Lab:
    return load(ROOT / "labs" / stem)


@cache
def key_of(stem: str, seed: str = "tests") -> Key:
    return Key(lab_named(stem), seed)


@cache
def start(stem: str, limits: Limits | None = None) -> Callable[[int], Worker]:
    """Makes sandboxed workers for a lab; closed when all tests are done."""
    lab = lab_named(stem)
    STARTERS.append(Starter(lab.packages, lab.modules, limits=limits))
    return STARTERS[-1]


def graders(stem: str, limits: Limits | None = None) -> Graders:
    return Graders(key_of(stem), start(stem, limits))


def teachgrade(*words: object, expect: int = 0) -> None:
    """A command, as in a shell."""
    assert main([str(word) for word in words]) == expect


def results_in(folder: Path) -> dict[str, Any]:
    """Results by student."""
    return {
        path.stem.split("-")[0]: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
