"""A process and what descends from it, as Linux shows them: which, and how much memory they take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """What a process has started, and is still there."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they are still there."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        if Path(f"/proc/{one}").exists():
            found.append(one)
            left += children(one)
    return found


def resident_bytes(processes: list[int]) -> int:
    """Resident memory of some processes together."""
    pages = 0
    for one in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
