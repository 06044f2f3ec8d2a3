"""A worker behind a wall: bubblewrap, limits, and a parent that watches. Linux only.

Inside there is no network, no home, no result, no other submission, none of teachkit but what a lab gives,
and no process but its own. When the parent ends, so does everything inside.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from teachgrade.bubblewrap import Limits, filters, inside, outside
from teachgrade.mounts import Mounts
from teachgrade.processes import tree, usage
from teachgrade.values import LENGTHS, MOST_BLOB, MOST_HEADER, WireError, pack, unpack

LOOK_S = 0.02  # how often the watch looks


class Ended(Exception):
    """The worker is gone, or was stopped. status: timeout, crashed, out_of_memory, sandbox_error."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Worker:
    """A process that answers messages; leave it with ``close``.

    mounts  None: no sandbox at all, for an instructor who has said so
    kit     a folder with what a lab gives to submissions besides packages; importable there
    """

    def __init__(self, mounts: Mounts | None, limits: Limits, kit: Path | None = None, slot: int = 0) -> None:
        self.limits = limits
        self._home = tempfile.mkdtemp(prefix="teachgrade-") if mounts is None else None
        filter_files = filters() if mounts else ()
        command = inside(mounts, limits, kit, slot, filter_files) if mounts else outside(kit)
        env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
               "MPLBACKEND": "Agg", "USER": "student", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
               "HF_HUB_OFFLINE": "1"}  # fmt: skip
        if self._home:
            env["HOME"] = env["TMPDIR"] = self._home
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=env, cwd=self._home or "/", start_new_session=True, bufsize=0,
                pass_fds=filter_files,
            )  # fmt: skip
        except OSError as error:
            raise Ended("sandbox_error", f"the sandbox could not be started: {error}") from None
        finally:
            for number in filter_files:
                os.close(number)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        self._arrived = bytearray()
        self.printed = bytearray()

    def receive(self, deadline: float) -> Any:
        """The next message. Raises Ended."""
        while True:
            message = self._message()
            if message is not None:
                return message[0]
            self._wait(deadline, b"")

    def send(self, value: object, deadline: float) -> None:
        """Raises Ended."""
        self.send_packed(pack(value), deadline)

    def send_packed(self, message: bytes, deadline: float) -> None:
        """The same for a message that is packed already, since many get it."""
        left = memoryview(message)
        while left:
            left = left[self._wait(deadline, left) :]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While this lasts, nothing inside computes."""
        stopped = tree(self._process.pid)
        self._signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(stopped, signal.SIGCONT)

    @staticmethod
    def _signal(processes: list[int], what: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, what)

    def close(self) -> str:
        """Stop everything inside; what it printed, cut short."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
        return bytes(self.printed).decode("utf-8", "replace")

    def _message(self) -> tuple[Any] | None:
        if len(self._arrived) < LENGTHS.size:
            return None
        n_header, n_blob = LENGTHS.unpack(self._arrived[: LENGTHS.size])
        if n_header > MOST_HEADER or n_blob > MOST_BLOB:
            raise Ended("crashed", "it sent something that is no answer")
        end = LENGTHS.size + n_header + n_blob
        if len(self._arrived) < end:
            return None
        header = bytes(self._arrived[LENGTHS.size : LENGTHS.size + n_header])
        blob = bytes(self._arrived[LENGTHS.size + n_header : end])
        del self._arrived[:end]
        try:
            return (unpack(header, blob),)
        except WireError as error:
            raise Ended("crashed", f"it sent something that is no answer: {error}") from None

    def _wait(self, deadline: float, out: bytes | memoryview) -> int:
        """Read what has come, write what fits, look at the limits; how much was written. Raises Ended."""
        now = time.monotonic()
        if now > deadline:
            raise Ended("timeout", "it took longer than it may")
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        readable, writable, _ = select.select(
            [stdout, stderr], [stdin] if out else [], [], min(LOOK_S, deadline - now)
        )
        ended = False
        if stderr in readable:
            self.printed += (os.read(stderr.fileno(), 2**16) or b"")[: max(0, 2**16 - len(self.printed))]
        if stdout in readable:
            part = os.read(stdout.fileno(), 2**20)
            self._arrived += part
            ended = not part
        written = 0
        if writable:
            try:
                written = os.write(stdin.fileno(), out)
            except BrokenPipeError:
                ended = True
        if ended:
            raise Ended(*self._why())
        self._watch()
        return written

    def _why(self) -> tuple[str, str]:
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "crashed", "it closed the pipe to the grader"
        printed = bytes(self.printed).decode("utf-8", "replace")
        if printed.startswith("bwrap:"):
            return "sandbox_error", f"the sandbox could not be made: {printed.strip()[:300]}"
        number = code - 128 if code > 128 else -code if code < 0 else 0
        name = signal.Signals(number).name if number in set(signal.Signals) else f"exit status {code}"
        return "crashed", f"the process ended by itself ({name})"

    def _watch(self) -> None:
        used, n = usage(self._process.pid)
        if used > self.limits.memory_bytes:
            raise Ended(
                "out_of_memory", f"it used more than {self.limits.memory_bytes / 2**30:.1f} GiB of memory"
            )
        if n > self.limits.processes:
            raise Ended("crashed", f"it started more than {self.limits.processes} processes")
