"""A process and what descends from it, as Linux shows them: which, and how much memory they take."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_COUNTED = re.compile(r"^(VmRSS|VmPTE|VmSwap):\s+(\d+) kB$", re.MULTILINE)


def children(pid: int) -> list[int]:
    """What a process has started, and is still there."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):  # a thread that has just ended
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
    """Memory of some processes together: what is resident, and the tables that say where."""
    return sum(map(_memory_bytes, processes))


def _memory_bytes(process: int) -> int:
    # Each thread tells the same, but one that has ended, even the first, tells nothing.
    found = 0
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process}/task/{task}/status").read_text(
                    encoding="utf-8", errors="replace"
                )
                kib = [int(n) for _, n in _COUNTED.findall(lines)]
                found = max(found, 1024 * sum(kib))
            if found:
                break
    return found
