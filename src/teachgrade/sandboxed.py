"""What makes a worker for a lab on this machine: its sandbox, with what the lab gives to submissions."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from teachgrade import kit
from teachgrade.bubblewrap import Limits
from teachgrade.lab import Lab
from teachgrade.mounts import mounts
from teachgrade.sandbox import Worker


def starter(lab: Lab, *, sandbox: bool = True, limits: Limits | None = None) -> Callable[[int], Worker]:
    """A function of a slot that starts a worker.

    sandbox  False: with the rights of whoever calls it, for an instructor who has said so
    """
    folder = Path(tempfile.mkdtemp(prefix="teachgrade-kit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chmod(folder, 0o755)  # read by another user, inside
    given = kit.make(lab.modules, folder / "given")
    seen = mounts(lab.packages) if sandbox else None
    return lambda slot: Worker(seen, limits or Limits(), given, slot)
