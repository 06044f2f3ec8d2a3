"""Cells as a kernel would run them, without one: magics and shell lines are left out, an error ends its
cell only.

Lies in the sandbox; knows nothing of torch.
"""

from __future__ import annotations

import ast
import linecache
import re
import traceback
from collections.abc import Iterable
from typing import Any

_MAGIC = re.compile(r"^(\s*)(?:\w[\w, ]*=\s*)?[%!?]")
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)[^\n]*\n?")
SHOW = "# teachgrade: show"  # the first line of a cell that shows something and defines nothing
_RUNS_ITS_BODY = {"time", "timeit", "capture", "prun"}


def is_shown_only(source: str) -> bool:
    """Whether a cell says that it only shows something; it is not run for marks."""
    return source.lstrip().startswith(SHOW)


def python_of(source: str) -> tuple[str, list[str]]:
    """A cell without what only IPython understands, and what was left out. Lines keep their numbers.

    >>> python_of("!pip install torch\\nx = 1")
    ('pass\\nx = 1', ['!pip install torch'])
    """
    if _parses(source):
        return source, []
    left_out = []
    text = source
    lead = _CELL_MAGIC.match(text)
    if lead:
        left_out.append(f"%%{lead[1]}")
        text = "\n" + text[lead.end() :] if lead[1] in _RUNS_ITS_BODY else ""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        mark = _MAGIC.match(line)
        if mark or line.rstrip().endswith("?"):
            indent = mark[1] if mark else line[: len(line) - len(line.lstrip())]
            lines[at] = f"{indent}pass"
            left_out.append(line.strip()[:80])
    python = "\n".join(lines)
    return (python, left_out) if _parses(python) else (source, [])


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def run_cell(source: str, file: str, names: dict[str, Any]) -> tuple[str, list[str]]:
    """Run one cell in a namespace; the error that ended it, or "", and what was left out of it."""
    python, left_out = python_of(source)
    linecache.cache[file] = (len(python), None, python.splitlines(keepends=True), file)
    try:
        exec(compile(python, file, "exec"), names)
    except BaseException as error:  # SystemExit and KeyboardInterrupt end a cell, not the grading
        return _said(error, file), left_out
    return "", left_out


def _said(error: BaseException, file: str) -> str:
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    lines: Iterable[int | None] = (
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
    )
    line = next((f"line {number}: " for number in reversed(list(lines)) if number), "")
    return f"{line}{type(error).__name__}: {message}" if message else f"{line}{type(error).__name__}"
