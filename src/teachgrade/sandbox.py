"""A worker behind a wall: bubblewrap, limits, and a parent that watches. Linux only.

Inside there is no network, no home, no result, no other submission, none of teachkit but what a lab gives,
and no process but its own. When the parent ends, so does everything inside.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teachgrade.mounts import Mounts
from teachgrade.seccomp import program
from teachgrade.values import LENGTHS, MOST_BLOB, MOST_HEADER, WireError, pack, unpack

HERE = Path(__file__).resolve().parent
INSIDE = ("__init__.py", "values.py", "operations.py", "cells.py", "withheld.py", "worker.py")
FIRST_UID, N_UIDS = 60_000, 5_000
LOOK_S = 0.02  # how often the watch looks


@dataclass(frozen=True)
class Limits:
    """Of one sandbox. memory_bytes: resident, of all its processes together, besides what Python and torch
    take.
    """

    memory_bytes: int = 3 * 2**30
    processes: int = 64
    file_bytes: int = 64 * 2**20
    tmp_bytes: int = 128 * 2**20
    cpu_s: int = 600


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
        filters = _filter() if mounts else ()
        command = _inside(mounts, limits, kit, slot, filters) if mounts else _outside(kit)
        env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
               "MPLBACKEND": "Agg", "USER": "student", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
               "HF_HUB_OFFLINE": "1"}  # fmt: skip
        if self._home:
            env["HOME"] = env["TMPDIR"] = self._home
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=env, cwd=self._home or "/", start_new_session=True, bufsize=0,
                pass_fds=filters,
            )  # fmt: skip
        except OSError as error:
            raise Ended("sandbox_error", f"the sandbox could not be started: {error}") from None
        finally:
            for number in filters:
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


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they are still there."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                left += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
        except OSError:
            continue
        found.append(one)
    return found


def usage(pid: int) -> tuple[int, int]:
    """Resident bytes and number of a process and all that descend from it."""
    found = tree(pid)
    pages = 0
    for one in found:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(found)


START = """
import resource, sys
def limit(what, value):
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))
limit(resource.RLIMIT_CORE, 0)
limit(resource.RLIMIT_FSIZE, {file_bytes})
limit(resource.RLIMIT_CPU, {cpu_s})
limit(resource.RLIMIT_NOFILE, 256)
if {alone}:  # of a user of its own; elsewhere it would count what else the user runs
    limit(resource.RLIMIT_NPROC, {processes})
sys.path[:0] = {path!r}
from teachgrade.worker import main
main()
"""


def _start(limits: Limits, path: Sequence[str], *, alone: bool) -> str:
    return START.format(
        file_bytes=limits.file_bytes,
        cpu_s=limits.cpu_s,
        processes=limits.processes,
        path=list(path),
        alone=alone,
    )


def _filter() -> tuple[int, ...]:
    """An open file with the filter of system calls, for bubblewrap to read; none where there is no filter."""
    found = program()
    if found is None:
        return ()
    reading, writing = os.pipe()
    os.write(writing, found)
    os.close(writing)
    return (reading,)


def _inside(mounts: Mounts, limits: Limits, kit: Path | None, slot: int, filters: Sequence[int]) -> list[str]:
    root = os.geteuid() == 0
    command = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net",
               "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "lab"]  # fmt: skip
    if not root:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    targets = [there for _, there in mounts.read] + [Path("/kit/teachgrade/worker.py")]
    for folder in sorted({parent for there in targets for parent in there.parents if parent != Path("/")}):
        if not any(folder.is_relative_to(there) for _, there in mounts.read):
            command += ["--perms", "0755", "--dir", str(folder)]
    for here, there in mounts.read:
        if here.is_symlink() and here == there:
            command += ["--symlink", os.readlink(here), str(there)]
        else:
            command += ["--ro-bind", str(here), str(there)]
    for folder in mounts.hidden:
        command += ["--tmpfs", str(folder)]
    for name in INSIDE:
        command += ["--ro-bind", str(HERE / name), f"/kit/teachgrade/{name}"]
    path = [str(mounts.packages), "/kit"]
    if kit is not None:
        command += ["--ro-bind", str(kit), "/given"]
        path.append("/given")
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(limits.tmp_bytes), "--perms", "1777",
                "--tmpfs", "/tmp", "--size", str(limits.tmp_bytes), "--perms", "1777", "--tmpfs", "/dev/shm",
                "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # fmt: skip
    command += [word for number in filters for word in ("--seccomp", str(number))]
    if root:
        # One that nothing here belongs to, and that no other grader of this machine uses at this time.
        uid = str(FIRST_UID + (os.getpid() * 16 + slot) % N_UIDS)
        command += ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all",
                    "--bounding-set=-all", "--no-new-privs"]  # fmt: skip
    return [*command, _python(), "-I", "-B", "-S", "-c", _start(limits, path, alone=root)]


def _outside(kit: Path | None) -> list[str]:
    path = [*map(str, filter(None, sys.path)), str(HERE.parent), *([str(kit)] if kit else [])]
    return [sys.executable, "-I", "-B", "-c", _start(Limits(), path, alone=False)]


def available() -> bool:
    """Whether there is a sandbox on this machine; ``teachgrade doctor`` says more."""
    return sys.platform == "linux" and shutil.which("bwrap") is not None


def _python() -> str:
    """The interpreter itself, not that of a virtual environment, which is not there inside."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
