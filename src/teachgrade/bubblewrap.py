"""Commands that start what runs in a sandbox: bubblewrap, as root or as an ordinary user; or no sandbox at
all.

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
INSIDE = ("__init__.py", "values.py", "operations.py", "cells.py", "withheld.py", "worker.py",
          "forkserver.py")  # fmt: skip
FIRST_UID, N_UIDS = 60_000, 2_500  # and as many again for the first process of each namespace


@dataclass(frozen=True)
class Limits:
    """Of one sandbox. memory_bytes: resident, of all its processes together."""

    memory_bytes: int = 3 * 2**30
    processes: int = 64
    file_bytes: int = 64 * 2**20
    tmp_bytes: int = 128 * 2**20
    cpu_s: int = 600


PATH = """
import sys
sys.path[:] = {path!r} + [folder for folder in sys.path if folder]
"""
LIMITS = """
import resource
for name, value in {limits!r}.items():
    what = getattr(resource, name)
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))
"""
WORKER = """
from teachgrade.worker import main
main()
"""
SERVER = """
from teachgrade.forkserver import serve
serve({control!r}, {how!r})
"""


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
    command = _walls(mounts, limits, kit)
    command += [word for number in filters for word in ("--seccomp", str(number))]
    root = os.geteuid() == 0
    if root:
        uid = str(uid_of(slot))
        command += ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all",
                    "--bounding-set=-all", "--no-new-privs"]  # fmt: skip
    start = LIMITS + WORKER
    return [*command, *_python(start, limits=rlimits(limits, alone=root), path=_path(mounts, kit))]


def server(mounts: Mounts, limits: Limits, kit: Path | None, slot: int, control: int) -> list[str]:
    """The command that starts a fork server in a sandbox, as root. control: its end of a socket."""
    how = {
        "uid": uid_of(slot),
        "init_uid": uid_of(slot) + N_UIDS,
        "tmp_bytes": limits.tmp_bytes,
        "limits": rlimits(limits, alone=True),
        "filter": program(),
    }
    return [*_walls(mounts, limits, kit), *_python(SERVER, path=_path(mounts, kit), control=control, how=how)]


def uid_of(slot: int) -> int:
    """A user that nothing here belongs to, and that no other grader of this machine uses at this time."""
    return FIRST_UID + (os.getpid() * 16 + slot) % N_UIDS


def rlimits(limits: Limits, *, alone: bool) -> dict[str, int]:
    """Limits that the kernel keeps. alone: as a user of its own; elsewhere it would count the user's other
    processes.
    """
    found = {"CORE": 0, "FSIZE": limits.file_bytes, "CPU": limits.cpu_s, "NOFILE": 256}
    if alone:
        found["NPROC"] = limits.processes
    return {f"RLIMIT_{name}": value for name, value in found.items()}


def _walls(mounts: Mounts, limits: Limits, kit: Path | None) -> list[str]:
    bwrap = shutil.which("bwrap") or "bwrap"
    command = [bwrap, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc",
               "--unshare-uts", "--unshare-cgroup-try", "--hostname", "lab"]  # fmt: skip
    if os.geteuid() != 0:
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
    if kit is not None:
        command += ["--ro-bind", str(kit), "/given"]
    size = ["--size", str(limits.tmp_bytes), "--perms", "1777", "--tmpfs"]
    return [*command, "--proc", "/proc", "--dev", "/dev", *size, "/tmp", *size, "/dev/shm",
            "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # fmt: skip


def _path(mounts: Mounts, kit: Path | None) -> list[str]:
    return [str(mounts.packages), "/kit", *(["/given"] if kit is not None else [])]


def outside(kit: Path | None) -> list[str]:
    """The command that starts a worker without a sandbox."""
    path = [*map(str, filter(None, sys.path)), str(HERE.parent), *([str(kit)] if kit else [])]
    code = (PATH + LIMITS + WORKER).format(path=path, limits=rlimits(Limits(), alone=False))
    return [sys.executable, "-s", "-B", "-c", code]


def available() -> bool:
    """Whether there is a sandbox on this machine; ``teachgrade doctor`` says more."""
    return sys.platform == "linux" and shutil.which("bwrap") is not None


def _python(code: str, **values: object) -> list[str]:
    """The interpreter itself, not that of a virtual environment, which is not there inside."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return [str(base), "-s", "-S", "-B", "-c", (PATH + code).format(**values)]
