"""The pages of the book in reading order, as _toc.yml gives them, and where they lie when they are built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Part:
    """Consecutive pages under one caption; pages that stand under none, as the first, have caption ''.

    numbered: its chapters have numbers.
    """

    caption: str
    pages: tuple[str, ...]
    numbered: bool = False


def parts(root: Path = ROOT) -> list[Part]:
    """The table of contents of `root`/_toc.yml: pages as 'folder/name', without a suffix.

    Raises  FileNotFoundError: no such file; KeyError: it has no root page
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = [Part("", (toc["root"],))]
    for part in toc.get("parts") or [{"chapters": toc.get("chapters", [])}]:
        pages = tuple(_files(part.get("chapters", [])))
        if pages:
            found.append(Part(part.get("caption", ""), pages, bool(part.get("numbered"))))
    return found


def _files(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if "file" in entry:
            yield entry["file"]
        yield from _files(entry.get("sections", []))


def names(root: Path = ROOT) -> list[str]:
    """Every page, in order."""
    return [page for part in parts(root) for page in part.pages]


def built(root: Path = ROOT) -> Path:
    """The folder of the built book.

    Raises  SystemExit: the book, or one of its pages, is not built; it says what to run
    """
    html = root / "_build" / "html"
    missing = [name for name in names(root) if not (html / f"{name}.html").is_file()]
    if missing:
        raise SystemExit(f"{html / missing[0]}.html is not there: run `make book` first")
    return html
