"""A submission: the code cells of a file that a stranger has sent. It is read as text; nothing in it is run.

Cell types, names, tags and stored outputs are the stranger's, too: nothing is inferred from them. All code
cells count, in their order; what a question asks for is found by name after all have run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

MOST_BYTES = 50 * 2**20
MOST_CELLS, MOST_SOURCE = 2_000, 2 * 2**20


class Unreadable(ValueError):
    """A file that is no notebook; the message says why, for the student."""


@dataclass(frozen=True)
class Cell:
    """One code cell: its place among the code cells, from 1, and its source."""

    place: int
    source: str

    @property
    def file(self) -> str:
        """The name under which it is compiled, and which an exception's traceback shows."""
        return f"code cell {self.place}"


@dataclass(frozen=True)
class Submission:
    """name: of the file, as it came; key: of its content."""

    name: str
    key: str
    cells: tuple[Cell, ...]


def load(path: Path) -> Submission:
    """Read a file. Raises Unreadable."""
    try:
        if path.is_symlink() or not path.is_file():
            raise Unreadable("it is not a plain file")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise Unreadable(f"it has {size / 2**20:,.0f} MiB; at most {MOST_BYTES // 2**20} are read")
        return parse(path.name, path.read_bytes())
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from None


def key_of(content: bytes) -> str:
    """A digest: the same for the same bytes, and for no others."""
    return sha256(content).hexdigest()


def parse(name: str, content: bytes) -> Submission:
    """The submission in a notebook's bytes. Raises Unreadable."""
    if not content.strip():
        raise Unreadable("the file is empty")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8 text; download the notebook again as .ipynb") from None
    except RecursionError:
        raise Unreadable("its JSON is nested too deeply") from None
    except ValueError as error:
        looks_like = "an HTML page" if content.lstrip()[:1] == b"<" else "not JSON, or cut off"
        raise Unreadable(f"it is {looks_like}: {error}; download the notebook again as .ipynb") from None
    sources = _sources(document)
    cells = tuple(Cell(place, source) for place, source in enumerate(sources, 1) if source.strip())
    return Submission(name, key_of(content), cells)


def lab_of(path: Path) -> str:
    """Which lab a notebook of one's own says that it is, or else its name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["metadata"]["teachgrade"]["lab"]
    except (OSError, ValueError, KeyError, TypeError):
        return path.stem
    return found if isinstance(found, str) else path.stem


def _sources(document: Any) -> list[str]:
    if not isinstance(document, dict):
        raise Unreadable("it is JSON, but no notebook")
    sheets = document.get("worksheets")
    if isinstance(sheets, list):  # nbformat 3
        of_sheets = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        of_sheets = [cells for cells in of_sheets if isinstance(cells, list)]
        cells: Any = [cell for found in of_sheets for cell in found or ()] if of_sheets else None
    else:
        cells = document.get("cells")
    if not isinstance(cells, list):
        raise Unreadable("it is JSON, but no notebook: it has no cells")
    found = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise Unreadable("a code cell's source is not text")
        found.append(source)
    if len(found) > MOST_CELLS or sum(map(len, found)) > MOST_SOURCE:
        raise Unreadable(f"it has more than {MOST_CELLS:,} cells or {MOST_SOURCE:,} characters of code")
    return found
