"""A process that a worker lives in: how it is started, watched and ended. Here, one that is started anew
for each.

The other way, which is ten times as fast and needs root, is :mod:`teachgrade.forked`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Protocol

from teachgrade.processes import tree

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "USER": "student",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


class Spawned(Protocol):
    """A process with a worker in it. stdin, stdout, stderr: our ends of its pipes, open files."""

    stdin: int
    stdout: int
    stderr: int

    def members(self) -> list[int]:
        """The worker and all that it has started."""

    def wait(self, seconds: float) -> int | None:
        """How it ended, as a shell has it; None: it has not."""

    def close(self) -> None:
        """End everything."""


class Started:
    """A command. home: whether it gets a folder of its own to work in, since it is in no sandbox."""

    def __init__(self, command: list[str], pass_fds: Sequence[int] = (), *, home: bool = False) -> None:
        self._home = tempfile.mkdtemp(prefix="teachgrade-") if home else None
        env = ENVIRONMENT | ({"HOME": self._home, "TMPDIR": self._home} if self._home else {})
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
            cwd=self._home or "/", start_new_session=True, bufsize=0, pass_fds=tuple(pass_fds),
        )  # fmt: skip
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self.stdin, self.stdout, self.stderr = (pipe.fileno() for pipe in pipes if pipe is not None)

    def members(self) -> list[int]:
        """All of it: what bubblewrap itself takes is little."""
        return tree(self._process.pid)

    def wait(self, seconds: float) -> int | None:
        """How it ended; None: it has not."""
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        return 128 - code if code < 0 else code

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
