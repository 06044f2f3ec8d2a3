"""What makes workers for a lab on this machine: sandboxes, with what the lab gives to submissions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from teachgrade import kit
from teachgrade.bubblewrap import Limits, filters, inside, outside
from teachgrade.mounts import mounts
from teachgrade.sandbox import Ended, Worker
from teachgrade.spawn import Spawned, Started

if TYPE_CHECKING:
    from teachgrade.forked import ForkServer


class Starter:
    """Starts a worker when called with a slot, from 0, that no other worker has at that time; close it
    afterwards.

    packages, modules  distributions, and modules of teachkit, that a submission may import
    sandbox  False: with the rights of whoever calls it, for an instructor who has said so
    forking  whether workers may be forked from a process that is kept; None: where that works
    """

    def __init__(
        self,
        packages: Sequence[str],
        modules: Sequence[str] = (),
        *,
        sandbox: bool = True,
        limits: Limits | None = None,
        forking: bool | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.forking = (os.name == "posix" and os.geteuid() == 0) if forking is None else forking
        self._folder = Path(tempfile.mkdtemp(prefix="teachgrade-kit-"))
        self._folder.chmod(0o755)  # read by another user, inside
        self._given = kit.make(modules, self._folder / "given")
        self._mounts = mounts(packages) if sandbox else None
        self._servers: dict[int, ForkServer] = {}

    def __call__(self, slot: int = 0) -> Worker:
        """Raises Ended: the machine cannot."""
        try:
            return Worker(self._spawn(slot), self.limits)
        except OSError as error:
            raise Ended("sandbox_error", f"the sandbox could not be started: {error}") from None

    def _spawn(self, slot: int) -> Spawned:
        if self._mounts is None:
            return Started(outside(self._given), home=True)
        if self.forking:
            try:
                server = self._server(slot)
                if not server.busy:
                    return server.spawn()
            except OSError:
                # Not on this machine, or the server has ended: what is started anew takes longer, and works.
                self._forget(slot)
        files = filters()
        try:
            return Started(inside(self._mounts, self.limits, self._given, slot, files), files)
        finally:
            for file in files:
                os.close(file)

    def _server(self, slot: int) -> ForkServer:
        from teachgrade.forked import ForkServer  # needs Linux

        assert self._mounts is not None
        if slot not in self._servers:
            self._servers[slot] = ForkServer(self._mounts, self.limits, self._given, slot)
        return self._servers[slot]

    def _forget(self, slot: int) -> None:
        found = self._servers.pop(slot, None)
        if found is not None:
            found.close()
        else:
            self.forking = False

    def close(self) -> None:
        """End what is kept."""
        for one in self._servers.values():
            one.close()
        self._servers.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
