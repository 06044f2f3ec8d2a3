"""A lab's source: a notebook in py:percent form, in which solutions stand between two markers.

    def softmax(x):
        \"\"\"...\"\"\"
        ### BEGIN SOLUTION
        x = x - x.max()
        ...
        ### END SOLUTION

The markers are those of nbgrader. A student gets ``raise NotImplementedError("q1")`` in place of what is
between them; everything else is the same, so that what is asked and what is answered cannot drift apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_MARK = re.compile(r"^([ \t]*)### (BEGIN|END) SOLUTION[ \t]*$", re.MULTILINE)


class SourceError(ValueError):
    """Markers that do not pair."""


@dataclass(frozen=True)
class Region:
    """Lines of one solution; ``first`` and ``last`` are the lines of its markers, counted from 1."""

    first: int
    last: int
    indent: str
    lines: tuple[str, ...]


def regions(code: str) -> list[Region]:
    """The solutions in a piece of source. Raises SourceError."""
    found: list[Region] = []
    opened: tuple[int, str] | None = None
    lines = code.split("\n")
    for number, line in enumerate(lines, 1):
        mark = _MARK.match(line)
        if not mark:
            continue
        if mark[2] == "BEGIN":
            if opened is not None:
                raise SourceError(f"line {number}: {BEGIN} inside the one of line {opened[0]}")
            opened = number, mark[1]
        elif opened is None:
            raise SourceError(f"line {number}: {END} without a {BEGIN}")
        else:
            found.append(Region(opened[0], number, opened[1], tuple(lines[opened[0] : number - 1])))
            opened = None
    if opened is not None:
        raise SourceError(f"line {opened[0]}: {BEGIN} without an {END}")
    return found


def without_solutions(code: str, what: str = "this question") -> str:
    """What a student gets: every solution replaced by a line that says that it is missing."""
    lines = code.split("\n")
    for region in reversed(regions(code)):
        asks = f'{region.indent}raise NotImplementedError("{what}")  # your code goes here'
        lines[region.first - 1 : region.last] = [asks]
    return "\n".join(lines)


def without_markers(code: str) -> str:
    """What an instructor gets: the solutions, and no markers."""
    lines = code.split("\n")
    for region in reversed(regions(code)):
        lines[region.first - 1 : region.last] = list(region.lines)
    return "\n".join(lines)


def solution_lines(code: str) -> set[str]:
    """Lines of solutions that would give one away: those that say something and stand nowhere else."""
    inside = [line.strip() for region in regions(code) for line in region.lines]
    outside = {line.strip() for line in without_solutions(code).split("\n")}
    return {line for line in inside if len(line) > 3 and not line.startswith("#")} - outside
