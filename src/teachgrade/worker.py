"""The other end of the pipe: runs a submission's cells, then plays operations on what they define.

Started inside the sandbox, one process for a submission. From the moment the first cell runs, nothing that
comes from here is to be believed, which is all right: it is only compared.

    <- {"cells": [[place, source], ...], "withheld": [names]}    -> {"cell": place} before each,
                                                                    {"loaded": [...]} at the end
    <- {"ask": [[n, operations], ...], "withheld": [names]}      -> {"id": n, "seen": [...]} for each
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any, BinaryIO

import torch

import teachgrade
from teachgrade.cells import is_shown_only, run_cell
from teachgrade.operations import play
from teachgrade.values import WireError, pack, read
from teachgrade.withheld import stand_in, withheld


def main() -> None:
    """Serve until the pipe ends."""
    requests, replies = _own_pipes()
    torch.set_num_threads(1)
    teachgrade.check = lambda *_: None  # what notebooks call; here there is nothing to say
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    files: list[str] = []
    _send(replies, {"ready": True})
    while True:
        try:
            request = read(requests)
        except EOFError:
            return
        _seed()
        if "cells" in request:
            stand_in(request["withheld"])
            _send(replies, {"loaded": _load(request["cells"], names, files, replies)})
            continue
        for number, ops in request["ask"]:
            _seed()
            with withheld(request["withheld"]):
                seen = play(ops, names, files)
            _send(replies, {"id": number, "seen": seen})


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipe under numbers of our own: what cells print goes elsewhere, and what they read is nothing."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _seed() -> None:
    random.seed(0)
    torch.manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _load(cells: list[Any], names: dict[str, Any], files: list[str], replies: BinaryIO) -> list[Any]:
    found = []
    for place, source in cells:
        if is_shown_only(source):
            continue
        _send(replies, {"cell": place})
        files.append(f"code cell {place}")
        error, left_out = run_cell(source, files[-1], names)
        if error or left_out:
            found.append([place, error, left_out])
    return found


def _send(replies: BinaryIO, message: dict[str, Any]) -> None:
    try:
        packed = pack(message)
    except WireError as error:
        packed = pack({"id": message.get("id"), "failed": str(error)})
    replies.write(packed)
    replies.flush()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
