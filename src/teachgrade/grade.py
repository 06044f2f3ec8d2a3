"""One submission, from a file to a result: loaded in a sandbox, asked, compared, and never waited for too
long.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from teachgrade.compare import NOT_YET
from teachgrade.judge import Key, Verdict
from teachgrade.lab import Question
from teachgrade.ratio import TURNS, Baseline, Timed
from teachgrade.sandbox import Ended, Worker
from teachgrade.submission import Submission
from teachgrade.talk import ask, load, started
from teachgrade.values import Raised

LOAD_S, SUBMISSION_S = 60.0, 600.0
MOST_SKIPPED = 3  # cells that hang or crash are left out, up to so many
MOST_NOTES, MOST_NOTE, MOST_PRINTED = 100, 1_000, 2**16


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
    """Grades one submission after another against one key; close it afterwards.

    start  makes a worker, in a sandbox or not
    """

    def __init__(self, key: Key, start: Callable[[], Worker]) -> None:
        self.key, self.start = key, start
        self.baseline = Baseline(key, start)

    def grade(self, submission: Submission, only: str | None = None) -> Outcome:
        """Never raises for what a submission does. only: one question, instead of all."""
        return _Session(self, submission).run(only)

    def close(self) -> None:
        """Stop what was kept from one submission to the next."""
        self.baseline.close()


class _Session:
    def __init__(self, grader: Grader, submission: Submission) -> None:
        self.grader, self.key, self.submission = grader, grader.key, submission
        self.worker: Worker | None = None
        self.skipped: set[int] = set()
        self.notes: list[str] = []
        self.printed = ""
        self.started = time.monotonic()

    def run(self, only: str | None) -> Outcome:
        failure: Ended | None = None
        graded: list[Graded] = []
        try:
            for question in self.key.lab.questions:
                if only not in (None, question.id):
                    continue
                if question.kind == "words":
                    graded.append(Graded(question.id, "by_hand", 0.0, question.points))
                    continue
                try:
                    if failure is None:
                        self._ready()
                except Ended as error:
                    failure = error
                if failure is None:
                    graded.append(self._question(question))
                else:
                    graded.append(Graded(question.id, failure.status, 0.0, question.points, str(failure)))
        finally:
            self._stop()
        return Outcome(
            self._status(failure, graded), graded, self.notes, self.printed, time.monotonic() - self.started
        )

    def _status(self, failure: Ended | None, graded: list[Graded]) -> str:
        asked = any(one.verdicts for one in graded)
        if failure is not None and (failure.status == "sandbox_error" or not asked):
            return failure.status
        statuses = {one.status for one in graded}
        if "sandbox_error" in statuses:
            return "sandbox_error"
        return "partial" if self.skipped or statuses & {"timeout", "crashed", "out_of_memory"} else "graded"

    def _deadline(self, seconds: float) -> float:
        """In so many seconds, or when the whole submission has had its time."""
        return min(time.monotonic() + seconds, self.started + SUBMISSION_S)

    def _ready(self) -> None:
        """A worker that has run the cells. Raises Ended: that is not to be had."""
        while self.worker is None:
            self.worker = started(self.grader.start)
            try:
                self._load(self.worker)
            except _InCell as error:
                self._stop()
                if error.place == 0 or len(self.skipped) == MOST_SKIPPED or error.place in self.skipped:
                    raise error.ended from None
                self.skipped.add(error.place)
                self._note(f"code cell {error.place}: {error.ended}; it was left out")

    def _load(self, worker: Worker) -> None:
        deadline = self._deadline(LOAD_S)
        place = 0
        cells = [(c.place, c.source) for c in self.submission.cells if c.place not in self.skipped]
        withheld = {name for question in self.key.lab.questions for name in question.withholds}
        try:
            for message in load(worker, cells, withheld, deadline):
                if isinstance(message, list):
                    self._remember(message)
                else:
                    place = message
        except Ended as error:
            raise _InCell(place, error) from None

    def _remember(self, loaded: list[Any]) -> None:
        for entry in loaded[:MOST_NOTES]:
            if not (isinstance(entry, list) and len(entry) == 3):
                continue
            place, error, left_out = entry
            if type(place) is not int:
                continue
            if isinstance(error, str) and error:
                self._note(f"code cell {place}: {error}")
            if isinstance(left_out, list) and left_out:
                self._note(f"code cell {place}: ignored: {'; '.join(map(str, left_out))[:200]}")

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text[:MOST_NOTE])

    def _question(self, question: Question) -> Graded:
        graded = Graded(question.id, "failed", 0.0, question.points)
        votes: Counter[int] = Counter()
        missing = True
        answers = self._timed(question, graded) if question.at_most else self._answers(question)
        try:
            for at, seen in answers:
                verdict = self.key.verdict(at, seen)
                graded.verdicts.append(verdict)
                if verdict.message:
                    votes.update(self.key.same_mistakes(at, seen))
                    missing = missing and _is_missing(seen)
        except Ended as error:
            graded.status, graded.message = error.status, str(error)
            self._stop()
            return graded
        wrong = [verdict.message for verdict in graded.verdicts if verdict.message]
        if not graded.verdicts:
            graded.message = "no scenario asks for it"
        elif wrong:
            graded.message = self.key.misconception(votes, len(wrong)) or wrong[0]
            if wrong == [NOT_YET] * len(graded.verdicts):
                graded.status = "not_implemented"
            elif missing:
                graded.status = "missing"
        elif not graded.message:
            graded.status, graded.points = "passed", question.points
        return graded

    def _answers(self, question: Question) -> Iterator[tuple[int, Any]]:
        """Raises Ended."""
        assert self.worker is not None
        deadline = self._deadline(question.limit_s)
        yield from ask(self.worker, self.key, question, self.key.places(question.id), deadline)

    def _timed(self, question: Question, graded: Graded) -> Iterator[tuple[int, Any]]:
        """One recording after the other, in turns with the slow version. Raises Ended.

        The first ones count. Those after them are asked only while it seems too slow: on a busy machine a few
        turns can all be disturbed, many hardly.
        """
        times, asked = Timed(), 0
        for at in self.key.places(question.id):
            if asked >= TURNS and (_wrong(graded) or times.ratio <= question.at_most):
                return
            answer, took_s = self._one(question, at)
            if asked < TURNS or self.key.verdict(*answer).message:
                yield answer
            if self.key.recorded[at].hidden:
                asked += 1
                if not _wrong(graded):  # a wrong answer may take as long as it likes
                    assert self.worker is not None
                    with self.worker.paused():  # it could slow down what it is timed beside
                        times.add(took_s, self.grader.baseline.seconds(question, at))
        if not _wrong(graded) and times.ratio > question.at_most:
            # The ratio itself would differ from run to run.
            graded.message = (
                f"The values are right, and it takes too long: more than {question.at_most:g} times"
                " as long as the slow version beside which it is timed."
            )

    def _one(self, question: Question, at: int) -> tuple[tuple[int, Any], float]:
        """The answer to one recording, and the seconds that it took. Raises Ended."""
        assert self.worker is not None
        started_s = time.perf_counter()
        (answer,) = ask(self.worker, self.key, question, [at], self._deadline(question.limit_s))
        return answer, time.perf_counter() - started_s

    def _stop(self) -> None:
        if self.worker is not None:
            self.printed = (self.printed + self.worker.close())[:MOST_PRINTED]
            self.worker = None


class _InCell(Exception):
    """A worker that ended in a cell; place 0: before the first."""

    def __init__(self, place: int, ended: Ended) -> None:
        super().__init__(str(ended))
        self.place, self.ended = place, ended


def _wrong(graded: Graded) -> bool:
    return any(verdict.message for verdict in graded.verdicts)


def _is_missing(seen: Any) -> bool:
    return isinstance(seen, list) and any(isinstance(one, Raised) and one.name == "Missing" for one in seen)
