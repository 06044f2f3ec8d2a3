"""One submission, from a file to a result: loaded in a sandbox, asked, compared, and never waited for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from teachgrade.compare import NOT_YET
from teachgrade.judge import Key, Verdict
from teachgrade.lab import Question
from teachgrade.sandbox import Ended, Worker
from teachgrade.submission import Submission

LOAD_S, START_S = 60.0, 60.0
MOST_SKIPPED = 3  # cells that hang or crash are left out, up to so many


@dataclass
class Graded:
    """What became of one question. status: passed, failed, missing, not_implemented, timeout, crashed, ..."""

    question: str
    status: str
    points: float
    max_points: float
    message: str = ""
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of a submission; ``status`` as in the schema of results."""

    status: str
    questions: list[Graded]
    notes: list[str] = field(default_factory=list)
    printed: str = ""
    time_s: float = 0.0


class Grader:
    """Grades one submission after another against one key. start: makes a worker, in a sandbox or not."""

    def __init__(self, key: Key, start: Callable[[], Worker]) -> None:
        self.key, self.start = key, start

    def grade(self, submission: Submission) -> Outcome:
        """Never raises for what a submission does."""
        return _Session(self, submission).run()


class _Session:
    def __init__(self, grader: Grader, submission: Submission) -> None:
        self.grader, self.key, self.submission = grader, grader.key, submission
        self.worker: Worker | None = None
        self.skipped: set[int] = set()
        self.notes: list[str] = []
        self.printed = ""

    def run(self) -> Outcome:
        started = time.monotonic()
        graded: list[Graded] = []
        failure: Ended | None = None
        try:
            for question in self.key.lab.questions:
                if question.kind == "words":
                    graded.append(Graded(question.id, "by_hand", 0.0, question.points))
                elif failure is not None:
                    graded.append(Graded(question.id, failure.status, 0.0, question.points, str(failure)))
                else:
                    try:
                        self._ready()
                    except Ended as error:
                        failure = error
                        graded.append(Graded(question.id, error.status, 0.0, question.points, str(error)))
                    else:
                        graded.append(self._question(question))
        finally:
            self._stop()
        status = failure.status if failure else "partial" if self.skipped or _ended(graded) else "graded"
        return Outcome(status, graded, self.notes, self.printed, time.monotonic() - started)

    def _ready(self) -> None:
        """A worker that has run the cells. Raises Ended: that is not to be had."""
        while self.worker is None:
            self.worker = self.grader.start()
            try:
                ready = self.worker.receive(time.monotonic() + START_S)
                if ready != {"ready": True}:
                    raise Ended("sandbox_error", "the worker did not start")
            except Ended as error:
                self._stop()
                raise Ended("sandbox_error", f"the worker did not start: {error}") from None
            try:
                self._load(self.worker)
            except _InCell as error:
                self._stop()
                if error.place == 0 or len(self.skipped) == MOST_SKIPPED or error.place in self.skipped:
                    raise error.ended from None
                self.skipped.add(error.place)
                self.notes.append(f"code cell {error.place}: {error.ended}; it was left out")

    def _load(self, worker: Worker) -> None:
        deadline = time.monotonic() + LOAD_S
        place = 0
        cells = [[c.place, c.source] for c in self.submission.cells if c.place not in self.skipped]
        try:
            names = [name for question in self.key.lab.questions for name in question.withholds]
            worker.send({"cells": cells, "withheld": names}, deadline)
            for _ in range(len(cells) + 1):
                message = worker.receive(deadline)
                if isinstance(message, dict) and isinstance(message.get("loaded"), list):
                    self._remember(message["loaded"])
                    return
                place = (
                    message["cell"] if isinstance(message, dict) and type(message.get("cell")) is int else 0
                )
            raise Ended("crashed", "it sent something that is no answer")
        except Ended as error:
            raise _InCell(place, error) from None

    def _remember(self, loaded: list[Any]) -> None:
        for entry in loaded[:100]:
            if not (isinstance(entry, list) and len(entry) == 3):
                continue
            place, error, left_out = entry
            if isinstance(error, str) and error:
                self._note(f"code cell {place}: {error}")
            if isinstance(left_out, list) and left_out:
                self._note(f"code cell {place}: ignored: {'; '.join(map(str, left_out))[:200]}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text[:1_000])

    def _question(self, question: Question) -> Graded:
        graded = Graded(question.id, "failed", 0.0, question.points)
        places, wrong = self.key.places(question.id), {}
        for at in places:
            try:
                seen = self._ask(at, question)
            except Ended as error:
                graded.status, graded.message = error.status, str(error)
                self._stop()
                return graded
            verdict = self.key.verdict(at, seen)
            graded.verdicts.append(verdict)
            if verdict.message:
                wrong[at] = seen
        if not wrong and places:
            graded.status, graded.points = "passed", question.points
            return graded
        first = next((v.message for v in graded.verdicts if v.message), "no scenario asks for it")
        graded.message = self.key.misconception(wrong) or first
        if all(v.message == NOT_YET for v in graded.verdicts):
            graded.status = "not_implemented"
        elif "is not defined" in first and "Missing" in first:
            graded.status = "missing"
        return graded

    def _ask(self, at: int, question: Question) -> Any:
        assert self.worker is not None
        deadline = time.monotonic() + question.limit_s
        asked = {"id": at, "ops": self.key.recorded[at].ops, "withheld": list(question.withholds)}
        self.worker.send(asked, deadline)
        answer = self.worker.receive(deadline)
        if not isinstance(answer, dict) or answer.get("id") != at or type(answer.get("id")) is not int:
            raise Ended("crashed", "it answered something that it was not asked")
        return answer.get("seen")

    def _stop(self) -> None:
        if self.worker is not None:
            self.printed = (self.printed + self.worker.close())[: 2**16]
            self.worker = None


class _InCell(Exception):
    """A worker that ended in a cell; place 0: before the first."""

    def __init__(self, place: int, ended: Ended) -> None:
        super().__init__(str(ended))
        self.place, self.ended = place, ended


def _ended(graded: list[Graded]) -> bool:
    return any(one.status in ("timeout", "crashed", "out_of_memory", "sandbox_error") for one in graded)
