"""What the grader's tests share: labs, keys, and a sandbox where there is one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from teachgrade.judge import Key
from teachgrade.lab import Lab, load
from teachgrade.mounts import Mounts, mounts
from teachgrade.sandbox import Limits, Worker, available

ROOT = Path(__file__).resolve().parents[2]
LABS = sorted(path.parent.name for path in (ROOT / "labs").glob("*/lab.toml"))

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
def seen_in(packages: tuple[str, ...]) -> Mounts:
    return mounts(packages)


def worker(stem: str, slot: int = 0, limits: Limits | None = None) -> Worker:
    """A sandboxed worker for a lab."""
    return Worker(seen_in(lab_named(stem).packages), limits or Limits(), slot=slot)
