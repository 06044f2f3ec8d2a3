"""The same batch on a dask.distributed cluster: one task for each submission, on whichever machine is free.

A task is the bytes of a lab and a submission; what comes back is an outcome. On the other machine a sandbox
is made for it, as here: a stranger's code never runs in the dask worker's own process. Every machine needs
teachgrade and bubblewrap.
"""

from __future__ import annotations

import atexit
import io
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from teachgrade.batch import Graders, Handed
from teachgrade.grade import Outcome
from teachgrade.judge import Key
from teachgrade.lab import load
from teachgrade.sandboxed import Starter

PATIENCE_S = 20
_making = threading.Lock()


def pack_lab(folder: Path, private: Path | None = None) -> bytes:
    """A lab's files in one archive, the same bytes for the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml")):
            name = f"lab/{folder.name}/{file.relative_to(folder).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
        own = private / f"{folder.name}.py" if private else None
        if own and own.is_file():
            archive.writestr(zipfile.ZipInfo(f"private/{own.name}"), own.read_bytes())
    return out.getvalue()


@lru_cache(maxsize=4)
def _graders(packed: bytes, seed: str) -> Graders:
    """Of a packed lab, made once in each process that grades."""
    folder = Path(tempfile.mkdtemp(prefix="teachgrade-lab-"))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder)  # our own bytes
    private = folder / "private"
    (lab_folder,) = (folder / "lab").iterdir()
    lab = load(lab_folder, private if private.is_dir() else None)
    start = Starter(lab.packages, lab.modules)
    made = Graders(Key(lab, seed), start)
    atexit.register(start.close)
    atexit.register(made.close)
    return made


class ClusterTask:
    """Grades one submission on whichever machine it is called. Plain data, so that it can travel."""

    def __init__(self, packed: bytes, seed: str) -> None:
        self.packed, self.seed = packed, seed

    def __call__(self, handed: Handed, only: str | None = None) -> Outcome:
        with _making:
            graders = _graders(self.packed, self.seed)
        return graders(handed, only)


@contextmanager
def executor(address: str) -> Iterator[tuple[Executor, int]]:
    """A cluster as an executor, and how many tasks it takes at a time.

    Raises  ValueError: dask.distributed is not installed, or there is no scheduler at that address
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--scheduler needs dask.distributed: pip install 'teachkit[cluster]'") from None
    try:
        client: Any = Client(address, timeout=PATIENCE_S)
    except OSError as error:
        raise ValueError(f"--scheduler: nothing answers at {address}: {error}") from None
    with client:
        threads = sum(client.nthreads().values())
        # Not pure: the same submission handed in by two students is two tasks.
        yield client.get_executor(pure=False, retries=2), max(1, threads)
