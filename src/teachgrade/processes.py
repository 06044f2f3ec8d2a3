"""A process and what descends from it, as Linux shows them: which, and how much memory they take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they are still there."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                left += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
        except OSError:
            continue
        found.append(one)
    return found


def usage(pid: int) -> tuple[int, int]:
    """Resident bytes and number of a process and all that descend from it."""
    found = tree(pid)
    pages = 0
    for one in found:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(found)
