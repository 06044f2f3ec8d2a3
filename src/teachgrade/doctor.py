"""What this machine can enforce: not what is installed, but what is seen when it is tried."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teachgrade.bubblewrap import Limits
from teachgrade.sandbox import Ended, Worker
from teachgrade.sandboxed import Starter
from teachgrade.talk import load, started
from teachgrade.values import Raised, Ref

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Finding:
    """One thing that was tried. ok: as it should be."""

    what: str
    ok: bool
    seen: str


_CODE = """
import os, socket, pathlib
def network():
    socket.create_connection(("192.0.2.1", 80), timeout=2)
def neighbours():
    return [p for p in os.listdir("/proc") if p.isdigit() and p not in ("1", "2", str(os.getpid()))]
def home(path):
    return os.path.exists(path)
def writes(path):
    open(os.path.join(path, "teachgrade-was-here"), "w").close()
def environment():
    return sorted(os.environ)
def user():
    return os.getuid()
def floods():
    with open("/tmp/flood", "wb") as file:
        while True:
            file.write(bytes(2**20))
def eats():
    return len([bytearray(2**26) for _ in range(2**10)])
def sleeps():
    while True:
        pass
def imports(name):
    __import__(name)
def calls():
    os.memfd_create("unseen")
def namespace():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
def shares():
    for number in range(10_000):
        with open(f"/dev/shm/{number}", "wb") as file:
            file.write(bytes(2**20))
"""


def examine() -> list[Finding]:
    """Try everything that the sandbox promises. Linux only; elsewhere the first finding says so."""
    if sys.platform != "linux":
        return [
            Finding(
                "Linux",
                False,
                f"this is {sys.platform}: there is no sandbox; grade on Linux, or in a container",
            )
        ]
    if shutil.which("bwrap") is None:
        return [
            Finding(
                "bubblewrap", False, "not found; install it: apt install bubblewrap, dnf install bubblewrap"
            )
        ]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return [Finding("setpriv", False, "not found; it is part of util-linux")]
    project = os.path.dirname(os.path.abspath(__file__))
    secret = os.path.expanduser("~")
    tried: list[tuple[str, str, tuple[object, ...], Callable[[Any], bool]]] = [
        ("no network", "network", (), _raises("OSError")),
        ("no other processes", "neighbours", (), lambda seen: seen == []),
        ("no view of the grader", "home", (project,), lambda seen: seen is False),
        ("no writing outside /tmp", "writes", ("/usr",), _raises("OSError")),
        ("no writing into home", "writes", (secret,), _raises("OSError")),
        (
            "a cleared environment",
            "environment",
            (),
            lambda seen: isinstance(seen, list) and "PATH" in seen and len(seen) < 16,
        ),
        ("an unprivileged user", "user", (), lambda seen: isinstance(seen, int) and seen != 0),
        ("teachkit absent", "imports", ("teachkit.attention",), _raises("ModuleNotFoundError")),
        ("system calls are limited", "calls", (), _raises("OSError")),
        ("no namespaces of its own", "namespace", (), _raises("OSError")),
        ("shared memory is limited", "shares", (), _raises("OSError")),
        ("files are limited", "floods", (), _raises("OSError")),
        ("memory is limited", "eats", (), _ends("out_of_memory")),
        ("time is limited", "sleeps", (), _ends("timeout")),
    ]
    with _Inside() as inside:
        found = [inside.try_once(*one) for one in tried]
        how = "forked from one that is kept" if inside.start.forking else "each started anew: slower, as safe"
        return [*found, Finding("sandboxes", True, how)]


class _Inside:
    """A sandbox to try things in; one that has ended is replaced."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.start = Starter(["torch"], limits=Limits(memory_bytes=2**30))

    def __enter__(self) -> _Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.start.close()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def try_once(
        self, what: str, name: str, arguments: tuple[object, ...], good: Callable[[Any], bool]
    ) -> Finding:
        """What the function of that name comes to, inside."""
        call = {"do": "call", "name": name, "args": arguments, "kwargs": {}}
        ops = [call, {"do": "see", "of": Ref(0), "label": ""}]
        seen: Any
        try:
            worker = self._ready()
            deadline = time.monotonic() + (3.0 if name == "sleeps" else PATIENCE_S)
            worker.send({"ask": [[0, ops]], "withheld": []}, deadline)
            seen = worker.receive(deadline)["seen"][0]
        except Ended as error:
            seen = error
            self.stop()
        return Finding(what, good(seen), str(seen)[:200])

    def _ready(self) -> Worker:
        if self.worker is None:
            self.worker = started(self.start)
            for _ in load(self.worker, [(1, _CODE)], (), time.monotonic() + PATIENCE_S):
                pass
        return self.worker


def _raises(name: str) -> Callable[[Any], bool]:
    return lambda seen: isinstance(seen, Raised) and name in seen.types


def _ends(status: str) -> Callable[[Any], bool]:
    return lambda seen: isinstance(seen, Ended) and seen.status == status
