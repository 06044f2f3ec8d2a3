"""Text to judge a model by, and other text to calibrate it with: where both come from, and that they differ.

The package holds the text that the bundled model was not trained on. What it was trained on is the library of
the Python that trained it: the files that lie here, too, are told by the hashes in the model's manifest.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CALIBRATION_BYTES, CALIBRATION_FILES = 100_000, 64


@dataclass(frozen=True)
class Texts:
    """Texts, and a few words on where they are from.

    Raises  ValueError: no byte of text
    """

    source: str
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.n_bytes:
            raise ValueError(f"texts: expected at least one byte, got none from {self.source}")

    @property
    def n_bytes(self) -> int:
        """In UTF-8."""
        return sum(len(text.encode()) for text in self.texts)


def from_files(paths: Iterable[str | Path]) -> Texts:
    """Raises  OSError: a file that cannot be read; ValueError: one that is not UTF-8, or no text in any."""
    found = {Path(path): _read(Path(path)) for path in paths}
    return Texts(", ".join(path.name for path in found), tuple(found.values()))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error})") from error


def held_out(folder: Path) -> Texts:
    """What the checkpoint in this folder was not trained on. Raises FileNotFoundError."""
    files: dict[str, str] = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
    return Texts(f"{len(files)} files kept out of the training of '{folder.name}'", tuple(files.values()))


def training(folder: Path, *, library: Path | None = None, n_bytes: int = CALIBRATION_BYTES) -> Texts:
    """Pieces of files that the checkpoint in this folder was trained on.

    library  where these files lie: the standard library of this Python if not given. Another version has
             other files; those that are the same to the byte are taken, tests left out
    Raises   FileNotFoundError: no manifest; ValueError: no file of it lies here
    """
    library = library or Path(sysconfig.get_paths()["stdlib"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    # In an order that is the same everywhere and has nothing to do with what is in them.
    files = sorted(manifest["files"], key=lambda file: hashlib.sha256(file["path"].encode()).hexdigest())
    texts: list[str] = []
    for file in files:
        path = library / file["path"]
        if file["split"] == "train" and "test" not in file["path"] and path.exists():
            data = path.read_bytes()
            if data and hashlib.sha256(data).hexdigest() == file["sha256"]:
                texts.append(data.decode())
        if len(texts) == CALIBRATION_FILES:
            break
    if not texts:
        raise ValueError(f"calibration: expected files that '{folder.name}' was trained on in {library}")
    pieces = sample(Texts("training text", tuple(texts)), n_bytes).texts
    return Texts(f"{len(pieces)} files that '{folder.name}' was trained on", pieces)


def sample(whole: Texts, n_bytes: int) -> Texts:
    """About ``n_bytes``, as much from the middle of each text; short texts are taken whole.

    Raises  ValueError: fewer bytes than texts
    """
    share = n_bytes // len(whole.texts)
    if share < 1:
        raise ValueError(f"sample: expected a byte for each of {len(whole.texts)} texts, got {n_bytes}")
    return Texts(f"a sample of {whole.source}", tuple(_middle(text, share) for text in whole.texts))


def _middle(text: str, n_bytes: int) -> str:
    data = text.encode()
    start = max(0, (len(data) - n_bytes) // 2)
    return data[start : start + n_bytes].decode(errors="ignore")  # a character that is cut is left out


def require_disjoint(calibration: Texts, judged: Texts) -> None:
    """Raises ValueError: a text to calibrate with that is, or holds, or is part of one to be judged by."""
    for text in filter(None, calibration.texts):
        if any(text in other or other in text for other in judged.texts if other):
            raise ValueError(f"calibration: expected other text than that to be judged by, got {text!r:.60}")
