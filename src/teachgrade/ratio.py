"""Questions of speed: how long a submission takes beside a slow, correct solution, in turns, timed from
outside.

A second is another length on every machine, and on a busy one at every minute. So what is asked is a ratio:
the submission's time over that of the lab's own slow version of the same. Both get the same inputs, behind
the same kind of pipe, one after the other; the slow one runs in a sandbox of its own, where a submission
cannot reach it. Each turn has inputs of its own, and what is timed is compared as well: nothing can be
remembered from the turn before. The shortest of the turns is taken on each side: what disturbs makes things
slower, never faster. A lab asks for a share that is far from both what a right solution takes and what a
slow one does, so that the mark is the same on every run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from teachgrade.judge import Key
from teachgrade.lab import Question, code_cells
from teachgrade.sandbox import Ended, Worker
from teachgrade.source import without_markers
from teachgrade.talk import ask, load, started

TURNS, PATIENCE_S = 3, 120.0


@dataclass
class Timed:
    """Times of both sides, in seconds, turn by turn. The first turn warms up."""

    submission_s: list[float] = field(default_factory=list)
    baseline_s: list[float] = field(default_factory=list)

    def add(self, submission_s: float, baseline_s: float) -> None:
        """One turn."""
        self.submission_s.append(submission_s)
        self.baseline_s.append(baseline_s)

    @property
    def ratio(self) -> float:
        """How many times the baseline's time the submission takes. Raises ValueError: fewer than two
        turns.
        """
        return min(self.submission_s[1:]) / min(self.baseline_s[1:])


class Baseline:
    """The slow versions of a lab, each in a worker that is kept for the next submission."""

    def __init__(self, key: Key, start: Callable[[], Worker]) -> None:
        self.key, self.start = key, start
        self._workers: dict[str, Worker] = {}

    def seconds(self, question: Question, at: int) -> float:
        """How long the slow version takes for recording ``at``. Raises Ended: sandbox_error."""
        worker = self._worker(question)
        started_s = time.perf_counter()
        try:
            for _ in ask(worker, self.key, question, [at], time.monotonic() + PATIENCE_S):
                pass
        except Ended as error:
            self.close()
            raise Ended("sandbox_error", f"the slow version: {error}") from None
        return time.perf_counter() - started_s

    def close(self) -> None:
        """Stop the workers."""
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
                        raise Ended("sandbox_error", str(message))
            except Ended as error:
                found.close()
                raise Ended("sandbox_error", f"the slow version: {error}") from None
            self._workers[question.id] = found
        return found
