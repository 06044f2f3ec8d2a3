"""Many submissions: some at a time, each result written as it comes, and nothing done twice.

Where the work is done is a matter of an executor (:mod:`concurrent.futures`): threads of this process, each
of which waits for a sandbox, or a cluster's (:mod:`teachgrade.cluster`). Results are written here, by one
process, in both cases.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from teachgrade import result as results
from teachgrade.collect import Entry
from teachgrade.grade import Graded, Grader, Outcome
from teachgrade.judge import Key
from teachgrade.lab import Lab
from teachgrade.sandbox import Ended, Worker
from teachgrade.submission import Submission, Unreadable, key_of

RETRIES = 2  # of what is the machine's fault, not the submission's
Handed = Submission | str  # or why it cannot be read
Task = Callable[[Handed, "str | None"], Outcome]  # a submission, and which question (None: all)


@dataclass
class Progress:
    """Where a batch is: results by status; ``resumed`` of them were there before."""

    total: int
    by_status: Counter[str] = field(default_factory=Counter)
    resumed: int = 0

    @property
    def done(self) -> int:
        return self.by_status.total()


class Graders:
    """Graders of one machine, each with a slot, from 0, that no other has at that time."""

    def __init__(self, key: Key, start: Callable[[int], Worker]) -> None:
        self.key, self.start = key, start
        self._free: list[tuple[int, Grader]] = []
        self._running: dict[int, Worker] = {}
        self._stopped = False
        self._made = 0
        self._lock = threading.Lock()

    def __call__(self, handed: Handed, only: str | None = None) -> Outcome:
        """Grade one submission, whatever it is. An error of the grader costs this result, not the batch."""
        if isinstance(handed, str):
            return unreadable(self.key.lab, handed)
        slot, grader = self._take()
        try:
            return self._grade(grader, handed, only)
        except Exception as error:
            return failed(self.key.lab, f"the grader failed: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._free.append((slot, grader))

    @staticmethod
    def _grade(grader: Grader, handed: Submission, only: str | None) -> Outcome:
        outcome = grader.grade(handed, only)
        for _ in range(RETRIES):
            if outcome.status == "sandbox_error":
                outcome = grader.grade(handed, only)
        return outcome

    def close(self) -> None:
        for _, grader in self._free:
            grader.close()
        self._free.clear()

    def _take(self) -> tuple[int, Grader]:
        with self._lock:
            if self._free:
                return self._free.pop()
            slot, self._made = self._made, self._made + 1
        return slot, Grader(self.key, lambda: self._start(slot))

    def _start(self, slot: int) -> Worker:
        if self._stopped:
            raise Ended("sandbox_error", "grading was stopped")
        worker = self._running[slot] = self.start(slot)
        return worker

    def stop(self) -> None:
        """End what runs, from another thread, so that nobody waits for it. Nothing starts any more."""
        self._stopped = True
        for worker in list(self._running.values()):
            worker.kill()


def unreadable(lab: Lab, why: str) -> Outcome:
    """The outcome for a file that is no notebook."""
    return _of_all(lab, "unreadable", why)


def failed(lab: Lab, why: str) -> Outcome:
    """The outcome where the grader or the machine failed: no mark, and another try at the next run."""
    return _of_all(lab, "sandbox_error", why)


def _of_all(lab: Lab, status: str, why: str) -> Outcome:
    questions = [
        Graded(q.id, "by_hand" if q.kind == "words" else status, 0.0, q.points, why) for q in lab.questions
    ]
    return Outcome(status, questions, [why])


class Batch:
    """All submissions of a lab.

    task      grades one; called in the executor
    sandbox   "bubblewrap" or "none": stands in every result
    workers   how many at a time
    only      one question, asked anew; the others keep what an earlier result says
    executor  None: threads of this process
    """

    def __init__(
        self,
        lab: Lab,
        task: Task,
        *,
        seed: str,
        sandbox: str,
        workers: int = 1,
        only: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.lab, self.task, self.workers, self.only = lab, task, workers, only
        self.seed, self.sandbox, self.executor = seed, sandbox, executor

    def run(
        self, entries: list[Entry], folder: Path, show: Callable[[Progress], object] | None = None
    ) -> Progress:
        """Grade what has no result yet. Interrupted or killed, it goes on from there when called again."""
        progress = Progress(len(entries))
        own = ThreadPoolExecutor(self.workers) if self.executor is None else None
        try:
            for result in self._results(entries, folder, progress, own or self.executor):  # type: ignore[arg-type]
                progress.by_status[result["status"]] += 1
                if show is not None:
                    show(progress)
        except BaseException:
            stop = getattr(self.task, "stop", None)
            if stop is not None:
                stop()
            raise
        finally:
            if own is not None:
                own.shutdown(wait=True, cancel_futures=True)
        return progress

    def _results(
        self, entries: list[Entry], folder: Path, progress: Progress, executor: Executor
    ) -> Iterator[dict[str, Any]]:
        running: dict[Future[Outcome], Callable[[Outcome], dict[str, Any]]] = {}

        def finished() -> Iterator[dict[str, Any]]:
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                result = running.pop(future)(future.result())
                results.write(folder, result)
                yield result

        for entry in entries:
            handed, content = _read(entry)
            key = results.key_of(content, self.lab, self.seed, self.sandbox)
            before = results.read(results.path_of(folder, entry.student))
            if before is not None and before["status"] != "sandbox_error" and before["key"] == key:
                progress.resumed += 1
                yield before
                continue
            kept = before if before is not None and before["submission"] == content else None
            only = self.only if kept is not None and kept["status"] in ("graded", "partial") else None
            make = _maker(entry, key, content, self.lab, self.sandbox, kept if only else None)
            running[executor.submit(self.task, handed, only)] = make
            # No more at a time than can run: what waits takes no memory.
            if len(running) > self.workers:
                yield from finished()
        while running:
            yield from finished()


def _maker(
    entry: Entry, key: str, content: str, lab: Lab, sandbox: str, kept: dict[str, Any] | None
) -> Callable[[Outcome], dict[str, Any]]:
    def make(outcome: Outcome) -> dict[str, Any]:
        made = results.make(entry.student, entry.file, key, content, lab, outcome, sandbox)
        return made if kept is None else results.merged(kept, made)

    return make


def _read(entry: Entry) -> tuple[Handed, str]:
    """What was handed in, and a digest of its content."""
    try:
        submission = entry.read()
    except Unreadable as error:
        return str(error), key_of(str(error).encode("utf-8", "surrogatepass"))
    return submission, submission.key


def shard(entries: Iterable[Entry], index: int, count: int) -> list[Entry]:
    """Part ``index`` (from 1) of ``count``: by the student's name, so that it is the same on every
    machine.
    """
    if not 1 <= index <= count:
        raise ValueError(f"shard: expected 1/{count} to {count}/{count}, got {index}/{count}")
    return [e for e in entries if int(sha256(e.student.encode()).hexdigest(), 16) % count == index - 1]
