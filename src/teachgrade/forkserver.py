"""A process in a sandbox that has imported torch, and makes a sandbox of its own for each submission by
forking.

Importing torch takes a second, grading a fraction of one. So a process that runs none of a submission's
code imports it once, and then forks: each child gets namespaces, a /tmp and a /proc of its own, another
user, no rights, limits, and the filter of system calls, and only then becomes a worker
(:mod:`teachgrade.worker`). What a submission does dies with its namespaces.

    the server       root inside bubblewrap, single-threaded; answers on a socket
      the warden     waits for the child, and tells how it ended
        init         process 1 of the new namespace, as a user of its own: collects orphans
          the worker as the submission's user

Lies in the sandbox, and needs root there: a child has to become another user. Source: namespaces(7),
pid_namespaces(7).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import os
import resource
import socket
import struct
import sys
from typing import Any, NoReturn

READY, STATUS = b"ready", struct.Struct("<i")
MOST_FILES = 20_000  # in /tmp, and in shared memory
N_PIPES = 3  # what a worker reads, writes, and prints to
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 22, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL, SECCOMP_MODE_FILTER, LAST_CAPABILITY = 4, 2, 63
NEW_NAMESPACES = (
    0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
)  # mount, UTS, IPC, PID, network
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def serve(control: int, how: dict[str, Any]) -> None:
    """Fork a worker for each three pipes that come, until nobody is there to send them.

    control  a socket, of which the other end sends pipes and reads statuses
    how      uid, init_uid, tmp_bytes, limits {name of a limit: value}, filter: a BPF program or None
    """
    with contextlib.suppress(ImportError):
        import numpy as np  # noqa: F401, what many cells import, once for all
    import torch

    from teachgrade import worker

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what is here stays, and pages that nobody writes to stay shared
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a process with threads cannot be forked safely")
    with socket.socket(fileno=control) as channel:
        channel.send(READY)
        while pipes := _receive(channel):
            warden = os.fork()
            if not warden:
                _exiting(lambda: _guard(pipes, how, channel, worker.main))
            for pipe in pipes:
                os.close(pipe)
            _, status = os.waitpid(warden, 0)
            channel.send(STATUS.pack(os.waitstatus_to_exitcode(status)))


def _receive(channel: socket.socket) -> list[int]:
    """The pipes of the next submission; none when the other end is closed."""
    message, fds, _, _ = socket.recv_fds(channel, 16, N_PIPES)
    return list(fds) if message else []


def _exiting(run: Any) -> NoReturn:
    """A forked process ends here, whatever happens: what is above in the stack belongs to its parent."""
    try:
        os._exit(run() or 0)
    except BaseException as error:
        os.write(2, f"forkserver: {type(error).__name__}: {error}\n".encode())
        os._exit(70)


def _guard(pipes: list[int], how: dict[str, Any], channel: socket.socket, main: Any) -> int:
    """The warden: makes the namespaces, and waits for what lives in them."""
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
    channel.close()
    os.closerange(N_PIPES, 4096)
    _call("unshare", NEW_NAMESPACES)
    init = os.fork()
    if not init:
        _exiting(lambda: _init(how, main))
    os.closerange(0, N_PIPES)
    return _code(os.waitpid(init, 0)[1])


def _init(how: dict[str, Any], main: Any) -> int:
    """Process 1: mounts, starts the worker as another user, and collects orphans until the worker ends."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    size = f"size={how['tmp_bytes']},nr_inodes={MOST_FILES},mode=1777"
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, size)
    _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, size)
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chdir("/tmp")
    worker = os.fork()
    if not worker:
        _exiting(lambda: _worker(how, main))
    _become(how["init_uid"])
    os.closerange(0, N_PIPES)
    while True:
        ended, status = os.wait()
        if ended == worker:
            return _code(status)


def _worker(how: dict[str, Any], main: Any) -> int:
    os.setsid()
    for name, value in how["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    _become(how["uid"])
    if how["filter"]:
        _filter(how["filter"])
    main()
    sys.stdout.flush()
    return 0


def _become(uid: int) -> None:
    """Another user, without any right, now and after any exec."""
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # unknown ones are refused
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.geteuid() != uid or "\nCapEff:\t0000000000000000\n" not in _status():
        raise RuntimeError("rights are left")


def _status() -> str:
    with open("/proc/self/status", encoding="utf-8") as file:
        return file.read()


def _filter(program: bytes) -> None:
    """Install a filter of system calls for this process and all that it starts."""
    held = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]

    found = Program(len(program) // 8, ctypes.addressof(held))
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(found), 0, 0)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    what = kind.encode() if kind else None
    _call("mount", source.encode(), target.encode(), what, ctypes.c_ulong(flags), data.encode())


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _code(status: int) -> int:
    """An exit status; of a process that a signal ended, 128 and the signal's number, as a shell has it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def send_pipes(channel: socket.socket, pipes: list[int]) -> None:
    """The other end: a submission's pipes."""
    channel.sendmsg([b"pipes"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipes))])
