"""Questions of speed: how long a submission takes beside a slow, correct solution, in turns, timed from
outside.

A second is another length on every machine, and on a busy one at every minute. So what is asked is a ratio:
the submission's time over that of the lab's own slow version of the same. Both are asked the same, behind
the same kind of pipe, one after the other; the slow one runs in a sandbox of its own, where a submission
cannot reach it. The shortest of several turns is taken on each side: what disturbs makes things slower,
never faster. A lab asks for a share that is far from both what a right solution takes and what a slow one
does, so that the mark is the same on every run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from teachgrade.judge import Key
from teachgrade.lab import Question, code_cells
from teachgrade.sandbox import Ended, Worker
from teachgrade.source import without_markers
from teachgrade.talk import ask, load, started

TURNS = 3
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Timed:
    """The shortest times of both sides, in seconds."""

    submission_s: float
    baseline_s: float

    @property
    def ratio(self) -> float:
        """How many times the baseline's time the submission takes."""
        return self.submission_s / self.baseline_s


def in_turns(submission: Callable[[], object], baseline: Callable[[], object], turns: int = TURNS) -> Timed:
    """Time both, once each to warm up and then in turns."""
    submission()
    baseline()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for call, found in zip((submission, baseline), times, strict=True):
            started = time.perf_counter()
            call()
            found.append(time.perf_counter() - started)
    return Timed(min(times[0]), min(times[1]))


class Baseline:
    """The slow versions of a lab, each in a worker that is kept for the next submission."""

    def __init__(self, key: Key, start: Callable[[], Worker]) -> None:
        self.key, self.start = key, start
        self._workers: dict[str, Worker] = {}

    def too_slow(
        self,
        question: Question,
        submission: Callable[[], object],
        paused: Callable[[], AbstractContextManager[object]],
    ) -> str:
        """A sentence for the student, or "".

        submission  asks it once
        paused      while this lasts, the submission computes nothing: it could slow down what it is timed
                    beside
        Raises      Ended: the submission's worker, or with sandbox_error our own
        """
        worker = self._worker(question)

        def slow() -> None:
            try:
                with paused():
                    for _ in ask(worker, self.key, question, time.monotonic() + PATIENCE_S):
                        pass
            except Ended as error:
                self.close()
                raise Ended("sandbox_error", f"the slow version: {error}") from None

        ratio = in_turns(submission, slow).ratio
        if ratio <= question.at_most:
            return ""
        # Two digits would differ from run to run.
        return (
            f"The values are right, and it takes too long: more than {question.at_most:g} times"
            " as long as the slow version beside which it is timed."
        )

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _worker(self, question: Question) -> Worker:
        found = self._workers.get(question.id)
        if found is None:
            code = [*code_cells(without_markers(self.key.lab.source)), self.key.lab.slow(question.id)]
            found = started(self.start)
            try:
                for message in load(found, list(enumerate(code, 1)), (), time.monotonic() + PATIENCE_S):
                    if isinstance(message, list) and message:
                        raise Ended("sandbox_error", f"the slow version: {message}")
            except Ended as error:
                found.close()
                raise Ended("sandbox_error", f"the slow version: {error}") from None
            self._workers[question.id] = found
        return found
