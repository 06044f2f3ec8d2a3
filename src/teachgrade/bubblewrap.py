"""Commands that start a worker: inside bubblewrap, as root or as an ordinary user, or outside of everything.

As root the sandbox is mounted as root, and the worker becomes a user that nothing belongs to, with no rights
left. An ordinary user gets the same through a user namespace.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from teachgrade.mounts import Mounts
from teachgrade.seccomp import program

HERE = Path(__file__).resolve().parent
INSIDE = ("__init__.py", "values.py", "operations.py", "cells.py", "withheld.py", "worker.py")
FIRST_UID, N_UIDS = 60_000, 5_000


@dataclass(frozen=True)
class Limits:
    """Of one sandbox. memory_bytes: resident, of all its processes together."""

    memory_bytes: int = 3 * 2**30
    processes: int = 64
    file_bytes: int = 64 * 2**20
    tmp_bytes: int = 128 * 2**20
    cpu_s: int = 600


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


def filters() -> tuple[int, ...]:
    """An open file with the filter of system calls, for bubblewrap to read; none where there is no filter."""
    found = program()
    if found is None:
        return ()
    reading, writing = os.pipe()
    os.write(writing, found)
    os.close(writing)
    return (reading,)


def inside(mounts: Mounts, limits: Limits, kit: Path | None, slot: int, filters: Sequence[int]) -> list[str]:
    """The command that starts a worker in a sandbox. filters: open files, as :func:`filters` gives them."""
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


def outside(kit: Path | None) -> list[str]:
    """The command that starts a worker without a sandbox."""
    path = [*map(str, filter(None, sys.path)), str(HERE.parent), *([str(kit)] if kit else [])]
    return [sys.executable, "-I", "-B", "-c", _start(Limits(), path, alone=False)]


def available() -> bool:
    """Whether there is a sandbox on this machine; ``teachgrade doctor`` says more."""
    return sys.platform == "linux" and shutil.which("bwrap") is not None


def _python() -> str:
    """The interpreter itself, not that of a virtual environment, which is not there inside."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
