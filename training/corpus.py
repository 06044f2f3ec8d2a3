"""The training corpus: CPython's standard library, as it lies in the Python that runs this.

The split is a rule, not a list, so that it can be checked: a library file that is no test is held
out when ``int(sha256(relative posix path), 16) % 20 == 0``. Everything else trains. Left out on both
sides: ``site-packages``, files that the build of Python writes (they name the machine), the
machine-made character tables of ``encodings/`` (1.5 MB of near-identical rows, which would flatter
any score), and the few files that are not UTF-8 on purpose.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "heldout"]
MACHINE_WRITTEN = ("site-packages/", "_sysconfigdata", "config-", "encodings/", "__pycache__/")
TEST_FOLDERS = {"test", "tests", "idle_test"}


@dataclass(frozen=True)
class SourceFile:
    """One file of the corpus; ``path`` is relative to the standard library, with forward slashes."""

    path: str
    sha256: str
    bytes: int
    split: Split


def stdlib() -> Path:
    """The folder of this Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def is_test(path: str) -> bool:
    """Whether a relative posix path belongs to the library's own tests."""
    return any(part in TEST_FOLDERS or part.startswith("test_") for part in path.split("/"))


def split_of(path: str) -> Split:
    """Held out: one library file in twenty, chosen by the hash of its path."""
    digest = int(hashlib.sha256(path.encode()).hexdigest(), 16)
    return "heldout" if digest % 20 == 0 and not is_test(path) else "train"


def collect(root: Path | None = None) -> list[tuple[SourceFile, str]]:
    """Every file of the corpus with its text, sorted by path."""
    root = root or stdlib()
    found = []
    for file in sorted(root.rglob("*.py"), key=lambda f: f.relative_to(root).as_posix()):
        path = file.relative_to(root).as_posix()
        if path.startswith(MACHINE_WRITTEN) or "/__pycache__/" in path:
            continue
        data = file.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        sha256 = hashlib.sha256(data).hexdigest()
        found.append((SourceFile(path, sha256, len(data), split_of(path)), text))
    return found


def texts(files: list[tuple[SourceFile, str]], split: Split) -> list[str]:
    return [text for source, text in files if source.split == split]


def write_manifest(files: list[tuple[SourceFile, str]], to: Path, python: str) -> None:
    """path, sha256, bytes and split of every file, and the totals."""
    total = {s: sum(f.bytes for f, _ in files if f.split == s) for s in ("train", "heldout")}
    rows = [asdict(source) for source, _ in files]
    head = json.dumps({"python": python, "bytes": total}, indent=1)[:-2]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    to.write_text(f'{head},\n "files": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
