"""What grader and worker say to each other: ready, run these cells, play these operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from teachgrade.judge import Key
from teachgrade.lab import Question
from teachgrade.sandbox import Ended, Worker

START_S = 60.0


def started(start: Callable[[], Worker]) -> Worker:
    """A worker that is ready. Raises Ended: the machine cannot."""
    worker = start()
    try:
        if worker.receive(time.monotonic() + START_S) != {"ready": True}:
            raise Ended("sandbox_error", "the worker did not start")
    except Ended as error:
        printed = worker.close().strip()[-300:]
        raise Ended("sandbox_error", f"the worker did not start: {error}. {printed}") from None
    return worker


def load(
    worker: Worker, cells: list[tuple[int, str]], withheld: Iterable[str], deadline: float
) -> Iterator[int | list[Any]]:
    """Run cells: the place of each before it runs, and at the end the list of what went wrong. Raises
    Ended.
    """
    worker.send({"cells": [list(cell) for cell in cells], "withheld": sorted(withheld)}, deadline)
    for _ in range(len(cells) + 1):
        message = worker.receive(deadline)
        if isinstance(message, dict) and isinstance(message.get("loaded"), list):
            yield message["loaded"]
            return
        if not (isinstance(message, dict) and type(message.get("cell")) is int):
            break
        yield message["cell"]
    raise Ended("crashed", "it sent something that is no answer")


def ask(
    worker: Worker, key: Key, question: Question, places: Sequence[int], deadline: float
) -> Iterator[tuple[int, Any]]:
    """Ask these recordings of a question: the number of each, and what was seen. Raises Ended."""
    worker.send_packed(key.asked(question, places), deadline)
    for at in places:
        answer = worker.receive(deadline)
        if not isinstance(answer, dict) or type(answer.get("id")) is not int or answer["id"] != at:
            raise Ended("crashed", "it answered something that it was not asked")
        yield at, answer.get("seen")
