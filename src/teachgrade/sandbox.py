"""A worker behind a wall: bubblewrap, limits, and a parent that watches. Linux only.

Inside there is no network, no home, no result, no other submission, none of teachkit but what a lab gives,
and no process but its own. When the parent ends, so does everything inside.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

from teachgrade.bubblewrap import Limits
from teachgrade.processes import resident_bytes
from teachgrade.spawn import Spawned
from teachgrade.values import LENGTHS, MOST_BLOB, MOST_HEADER, WireError, pack, unpack

LOOK_S = 0.02  # how often the watch looks
MOST_PRINTED, MOST_MESSAGE = 2**16, 2 * (LENGTHS.size + MOST_HEADER + MOST_BLOB)


class Ended(Exception):
    """The worker is gone, or was stopped. status: timeout, crashed, out_of_memory, sandbox_error."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Worker:
    """A process that answers messages; leave it with ``close``."""

    def __init__(self, spawned: Spawned, limits: Limits) -> None:
        self.spawned, self.limits = spawned, limits
        for pipe in (spawned.stdin, spawned.stdout, spawned.stderr):
            os.set_blocking(pipe, False)
        self._arrived = bytearray()
        self.printed = bytearray()
        self._prints = True
        self._looked = 0.0

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
        stopped = self.spawned.members()
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    def kill(self) -> None:
        """End what runs inside; whoever waits for an answer gets Ended. From any thread."""
        _signal(self.spawned.members(), signal.SIGKILL)

    def close(self) -> str:
        """Stop everything inside; what it printed, cut short."""
        self.spawned.close()
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
        stdin, stdout, stderr = self.spawned.stdin, self.spawned.stdout, self.spawned.stderr
        listening = [stdout, stderr] if self._prints else [stdout]
        readable, writable, _ = select.select(
            listening, [stdin] if out else [], [], min(LOOK_S, deadline - now)
        )
        ended = False
        if stderr in readable:
            part = os.read(stderr, 2**16)
            self.printed += part[: max(0, MOST_PRINTED - len(self.printed))]
            self._prints = bool(part)  # closed, it would be readable for ever
        if stdout in readable:
            part = os.read(stdout, 2**20)
            self._arrived += part
            ended = not part
            if len(self._arrived) > MOST_MESSAGE:
                raise Ended("crashed", "it sent more than it was asked")
        written = 0
        if writable:
            try:
                written = os.write(stdin, out)
            except BlockingIOError:  # the pipe has become smaller
                pass
            except BrokenPipeError:
                ended = True
        if ended:
            raise Ended(*self._why())
        self._watch(now)
        return written

    def _why(self) -> tuple[str, str]:
        code = self.spawned.wait(2)
        if code is None:
            return "crashed", "it closed the pipe to the grader"
        number = code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"exit status {code}"
        return "crashed", f"the process ended by itself ({name})"

    def _watch(self, now: float) -> None:
        if now < self._looked + LOOK_S:
            return
        self._looked = now
        members = self.spawned.members()
        if resident_bytes(members) > self.limits.memory_bytes:
            most = f"{self.limits.memory_bytes / 2**30:.1f} GiB"
            raise Ended("out_of_memory", f"it used more than {most} of memory")
        if len(members) > self.limits.processes:
            raise Ended("crashed", f"it started more than {self.limits.processes} processes")


def _signal(processes: list[int], what: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, what)
