"""The same batch on a dask.distributed cluster: one task for each submission, on whichever machine is free.

A task is the bytes of a lab and of a submission; what comes back is a result. On the other machine a sandbox is made for it,
as here: a stranger's code never runs in the dask worker's own process.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from teachgrade.judge import Key
from teachgrade.lab import load


def pack_lab(folder: Path, private: Path | None = None) -> bytes:
    """A lab's files in one archive, the same bytes for the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml")):
            archive.writestr(
                zipfile.ZipInfo(f"lab/{folder.name}/{file.relative_to(folder).as_posix()}"), file.read_bytes()
            )
        own = private / f"{folder.name}.py" if private else None
        if own and own.is_file():
            archive.writestr(zipfile.ZipInfo(f"private/{own.name}"), own.read_bytes())
    return out.getvalue()


@lru_cache(maxsize=4)
def key_of(packed: bytes, seed: str) -> Key:
    """The key of a packed lab, made once in each process that grades."""
    folder = Path(tempfile.mkdtemp(prefix="teachgrade-lab-"))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder)  # our own bytes
    private = folder / "private"
    (lab,) = (folder / "lab").iterdir()
    return Key(load(lab, private if private.is_dir() else None), seed)


def grade_here(
    packed: bytes, seed: str, student: str, file: str, content: bytes | None, why: str
) -> dict[str, Any]:
    """One task, on the machine that runs it. content: None if it could not be read, for the reason ``why``."""
    from teachgrade.batch import Batch
    from teachgrade.collect import Entry
    from teachgrade.mounts import mounts
    from teachgrade.sandbox import Limits, Worker
    from teachgrade.submission import Submission, Unreadable, parse

    key = key_of(packed, seed)

    def read() -> Submission:
        if content is None:
            raise Unreadable(why)
        return parse(file, content)

    seen = mounts(key.lab.packages)
    batch = Batch(key, lambda slot: Worker(seen, Limits(), slot=slot), seed=seed, sandbox="bubblewrap")
    return batch.result_of(Entry(student, file, read))


def results(address: str, tasks: list[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Results as they come, of the arguments of :func:`grade_here`. Raises OSError: no scheduler at that address."""
    from dask.distributed import Client, as_completed

    with Client(address, timeout=20) as client:
        # Not pure: the same submission handed in by two students is two tasks.
        futures = [client.submit(grade_here, *task, pure=False, retries=2) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
            future.release()
