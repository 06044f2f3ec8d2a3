"""This side of the fork server: starts it, asks it for workers, and finds their processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from teachgrade.bubblewrap import Limits, server
from teachgrade.forkserver import READY, STATUS, send_pipes
from teachgrade.mounts import Mounts
from teachgrade.processes import children, tree
from teachgrade.spawn import ENVIRONMENT

START_S, END_S = 60.0, 10.0
_CREDENTIALS = struct.Struct("3i")  # process, user, group, as this side knows them


class ForkServer:
    """Workers, one at a time. Raises OSError: it cannot be had on this machine, or not as this user."""

    def __init__(self, mounts: Mounts, limits: Limits, kit: Path | None, slot: int) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # The kernel says who has sent something, in numbers of this side's processes.
            self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            command = server(mounts, limits, kit, slot, theirs.fileno())
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=ENVIRONMENT, cwd="/", start_new_session=True, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self.busy = False
        self.pid = self._ready()

    def _ready(self) -> int:
        """The server's process, as this side numbers it."""
        with contextlib.suppress(OSError):
            if self._arrived(START_S):
                message, extra, _, _ = self._channel.recvmsg(64, socket.CMSG_SPACE(_CREDENTIALS.size))
                if message == READY:
                    return int(_CREDENTIALS.unpack(extra[0][2])[0])
        raise OSError(f"the fork server did not start: {self.close()}")

    def spawn(self) -> Forked:
        """A new worker, when the one before has ended. Raises OSError: the server is gone."""
        assert not self.busy
        ours, theirs = [], []
        for to_worker in (True, False, False):
            reading, writing = os.pipe()
            ours.append(writing if to_worker else reading)
            theirs.append(reading if to_worker else writing)
        try:
            send_pipes(self._channel, theirs)
        except OSError:
            for pipe in ours:
                os.close(pipe)
            raise
        finally:
            for pipe in theirs:
                os.close(pipe)
        self.busy = True
        return Forked(self, *ours)

    def status(self, seconds: float) -> int | None:
        """How the worker ended; None: it has not. Raises OSError: the server is gone."""
        if not self._arrived(seconds):
            return None
        message = self._channel.recv(64)
        if len(message) != STATUS.size:
            raise OSError("the fork server is gone")
        self.busy = False
        return int(STATUS.unpack(message)[0])

    def close(self) -> str:
        """End it, and what it has forked; what it said to nobody."""
        if self._process.returncode is not None:
            return ""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._channel.close()
        _, printed = self._process.communicate()
        return printed.decode("utf-8", "replace").strip()[-300:]

    def _arrived(self, seconds: float) -> bool:
        return bool(select.select([self._channel], [], [], seconds)[0])


class Forked:
    """A worker that the server has forked."""

    def __init__(self, owner: ForkServer, stdin: int, stdout: int, stderr: int) -> None:
        self.owner, self.stdin, self.stdout, self.stderr = owner, stdin, stdout, stderr
        self._code: int | None = None

    def members(self) -> list[int]:
        """The worker and all that it has started: not the warden, and not process 1, which are ours."""
        inits = [init for warden in children(self.owner.pid) for init in children(warden)]
        return [process for init in inits for process in tree(init) if process != init]

    def wait(self, seconds: float) -> int | None:
        """How it ended; None: it has not."""
        if self._code is None:
            with contextlib.suppress(OSError):
                self._code = self.owner.status(seconds)
        return self._code

    def close(self) -> None:
        """End everything in its namespaces. If that cannot be had, the server ends as well."""
        until = time.monotonic() + END_S
        while self._code is None and time.monotonic() < until:
            for process in tree(self.owner.pid)[1:]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            if self.wait(0.2) is None and not children(self.owner.pid):
                break
        for pipe in (self.stdin, self.stdout, self.stderr):
            os.close(pipe)
        if self._code is None:
            self.owner.close()
