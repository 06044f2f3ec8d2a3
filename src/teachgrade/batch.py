"""Many submissions: some at a time, each result written as it comes, and nothing done twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from teachgrade import result as results
from teachgrade.collect import Entry
from teachgrade.grade import Graded, Grader, Outcome
from teachgrade.judge import Key
from teachgrade.sandbox import Worker
from teachgrade.submission import Unreadable, key_of

RETRIES = 2  # of what is the machine's fault, not the submission's


@dataclass
class Progress:
    """Where a batch is: results by status; ``resumed`` of them were there before."""

    total: int
    by_status: Counter[str] = field(default_factory=Counter)
    resumed: int = 0

    @property
    def done(self) -> int:
        return self.by_status.total()


class Batch:
    """start: makes a worker, given a slot, from 0, that no other worker has at that time."""

    def __init__(
        self, key: Key, start: Callable[[int], Worker], *, seed: str, sandbox: str, workers: int = 1
    ) -> None:
        self.key, self.start, self.seed, self.sandbox, self.workers = key, start, seed, sandbox, workers
        self._slots = list(range(workers))
        self._lock = threading.Lock()

    def run(
        self, entries: list[Entry], folder: Path, show: Callable[[Progress], object] | None = None
    ) -> Progress:
        """Grade what has no result yet. Interrupted or killed, it goes on from there when called again."""
        progress = Progress(len(entries))
        for result in self._results(entries, folder, progress):
            progress.by_status[result["status"]] += 1
            if show is not None:
                show(progress)
        return progress

    def _results(self, entries: list[Entry], folder: Path, progress: Progress) -> Iterator[dict[str, Any]]:
        running: set[Future[dict[str, Any]]] = set()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for entry in entries:
                    done = self._known(entry, folder)
                    if done is not None:
                        progress.resumed += 1
                        yield done
                        continue
                    running.add(pool.submit(self._grade_and_write, entry, folder))
                    # No more at a time than can run: what waits takes no memory.
                    if len(running) > self.workers:
                        ready, running = wait(running, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in ready)
                while running:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in ready)
            except BaseException:
                for future in running:
                    future.cancel()
                raise

    def _known(self, entry: Entry, folder: Path) -> dict[str, Any] | None:
        found = results.read(results.path_of(folder, entry.student))
        if found is None or found["status"] == "sandbox_error":
            return None
        return found if found["key"] == self._key(_content_key(entry)) else None

    def _key(self, content_key: str) -> str:
        return results.key_of(content_key, self.key.lab, self.seed, self.sandbox)

    def result_of(self, entry: Entry) -> dict[str, Any]:
        """Grade one submission, whatever it is. Nothing is written."""
        with self._lock:
            slot = self._slots.pop()
        try:
            outcome = self._grade(entry, slot)
        finally:
            with self._lock:
                self._slots.append(slot)
        return results.make(
            entry.student, entry.file, self._key(_content_key(entry)), self.key.lab, outcome, self.sandbox
        )

    def _grade_and_write(self, entry: Entry, folder: Path) -> dict[str, Any]:
        made = self.result_of(entry)
        results.write(folder, made)
        return made

    def _grade(self, entry: Entry, slot: int) -> Outcome:
        """An outcome, whatever happens."""
        try:
            submission = entry.read()
        except Unreadable as error:
            return self._none("unreadable", str(error))
        grader = Grader(self.key, lambda: self.start(slot))
        outcome = grader.grade(submission)
        for _ in range(RETRIES):
            if outcome.status != "sandbox_error":
                break
            outcome = grader.grade(submission)
        return outcome

    def _none(self, status: str, message: str) -> Outcome:
        questions = [
            Graded(q.id, "by_hand" if q.kind == "words" else status, 0.0, q.points, message)
            for q in self.key.lab.questions
        ]
        return Outcome(status, questions, [message])


def _content_key(entry: Entry) -> str:
    try:
        return entry.read().key
    except Unreadable as error:
        return key_of(str(error).encode())


def shard(entries: Iterable[Entry], index: int, count: int) -> list[Entry]:
    """Part ``index`` (from 1) of ``count``: by the student's name, so that it is the same on every machine."""
    if not 1 <= index <= count:
        raise ValueError(f"shard: expected 1/{count} to {count}/{count}, got {index}/{count}")
    return [e for e in entries if int(sha256(e.student.encode()).hexdigest(), 16) % count == index - 1]
