"""Whose notebook is where: single files, a folder, or a zip as learning platforms export it.

    submissions/ada.ipynb              the student is "ada"
    submissions/ada/attention.ipynb    likewise; in a folder the notebook with the lab's name is taken
    submissions.zip                    the same inside; it is read in place, nothing is unpacked

Names come from strangers, too: they are labels, and never become a path that is written to.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from teachgrade.submission import MOST_BYTES, Submission, Unreadable, load, parse

MOST_STUDENT = 120


@dataclass(frozen=True)
class Entry:
    """One student's submission. read: gives it, or raises Unreadable."""

    student: str
    file: str
    read: Callable[[], Submission]


def find(paths: Sequence[Path], stem: str) -> list[Entry]:
    """All submissions below some paths, in order of their students. Raises ValueError: nothing there."""
    by_student: dict[str, list[Entry]] = defaultdict(list)
    for path in paths:
        for entry in _below(path):
            by_student[entry.student].append(entry)
    if not by_student:
        raise ValueError(f"no notebook in {', '.join(map(str, paths))}")
    return [_one(student, found, stem) for student, found in sorted(by_student.items())]


def _one(student: str, found: list[Entry], stem: str) -> Entry:
    named = [entry for entry in found if PurePosixPath(entry.file).stem == stem]
    if len(found) == 1 or len(named) == 1:
        return named[0] if named else found[0]
    names = ", ".join(sorted(entry.file for entry in found))[:300]

    def refuse() -> Submission:
        raise Unreadable(
            f"it is {len(found)} notebooks, and not one of them alone is called {stem}.ipynb: {names}"
        )

    return Entry(student, names, refuse)


def _below(path: Path) -> Iterable[Entry]:
    if path.is_symlink() or not path.exists():
        raise ValueError(f"{path}: expected a file or folder of submissions")
    if path.is_file():
        zipped = path.suffix.lower() == ".zip"
        yield from _zipped(path) if zipped else [_file(path, PurePosixPath(path.name))]
        return
    for file in sorted(path.rglob("*")):
        relative = PurePosixPath(file.relative_to(path).as_posix())
        if _is_notebook(relative):  # whatever it is: load says what it cannot read
            yield _file(file, relative)


def _file(file: Path, relative: PurePosixPath) -> Entry:
    return Entry(_student(relative), _printable(str(relative)), lambda: load(file))


def _zipped(path: Path) -> Iterable[Entry]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: it is no zip archive")
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    places = [(info, PurePosixPath(info.filename.replace("\\", "/"))) for info in infos]
    found = [(info, place) for info, place in places if _is_notebook(place)]
    tops = {place.parts[0] for _, place in found if len(place.parts) > 1}
    # A folder that was packed whole: its name is nobody's.
    packed = len(tops) == 1 and len(found) > 1 and all(len(place.parts) > 1 for _, place in found)
    for info, place in found:
        relative = PurePosixPath(*place.parts[1:]) if packed else place
        yield Entry(_student(relative), _printable(str(relative)), _reader(path, info))


def _reader(path: Path, info: zipfile.ZipInfo) -> Callable[[], Submission]:
    def read() -> Submission:
        if info.file_size > MOST_BYTES:
            raise Unreadable(
                f"it has {info.file_size / 2**20:,.0f} MiB; at most {MOST_BYTES // 2**20} are read"
            )
        try:
            with zipfile.ZipFile(path) as archive, archive.open(info) as file:
                content = file.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
            raise Unreadable(f"it cannot be read from the zip: {error}") from None
        if len(content) > MOST_BYTES:
            raise Unreadable("it is larger than the zip says")
        return parse(info.filename, content)

    return read


def _is_notebook(path: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in path.parts)
    return path.suffix.lower() == ".ipynb" and not hidden


def _student(relative: PurePosixPath) -> str:
    parts = [part for part in relative.parts if part not in ("/", ".", "..")]
    name = parts[0] if len(parts) > 1 else PurePosixPath(parts[0]).stem
    return _printable(name)[:MOST_STUDENT] or "?"


def _printable(text: str) -> str:
    """Without what cannot be shown or written, such as bytes that are no text."""
    return "".join(c if c.isprintable() else "?" for c in text)
