"""A verdict on a question: does what was seen equal what the reference gives, and if not, what was
misunderstood?

A wrong solution of the lab's bank is played on the same inputs. When a submission gives what that solution
gives, it made the same mistake, and the sentence that stands over that solution is the feedback.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from teachgrade.compare import NOT_YET, difference
from teachgrade.lab import Lab, Question, Solution, seen_by
from teachgrade.scenario import Recorded
from teachgrade.values import pack


@dataclass(frozen=True)
class Verdict:
    """On one scenario. message: "" if all is well; hidden: whether students have this scenario."""

    scenario: str
    hidden: bool
    message: str


class Key:
    """What a lab's scenarios should give, by the reference, and what each wrong solution gives instead."""

    def __init__(self, lab: Lab, seed: str) -> None:
        self.lab = lab
        self.recorded = lab.record(seed)
        self.expected = [seen_by(lab.reference, one) for one in self.recorded]
        self._mistakes: dict[tuple[int, int], list[Any]] = {}
        self._asked: dict[tuple[int, ...], bytes] = {}

    def asked(self, question: Question, places: Sequence[int]) -> bytes:
        """The message that asks a worker these recordings of a question."""
        which = tuple(places)
        found = self._asked.get(which)
        if found is None:
            ask = [[at, self.recorded[at].ops] for at in places]
            found = self._asked[which] = pack({"ask": ask, "withheld": list(question.withholds)})
        return found

    def places(self, question: str) -> list[int]:
        """Which recordings are of a question."""
        return [at for at, one in enumerate(self.recorded) if one.question == question]

    @cached_property
    def wrong(self) -> list[Solution]:
        return self.lab.bank("wrong")

    def verdict(self, at: int, seen: Any) -> Verdict:
        """On recording ``at``; seen: what came from the sandbox, whatever that is."""
        one = self.recorded[at]
        return Verdict(one.name, one.hidden, first_difference(one, self.expected[at], seen))

    def same_mistakes(self, at: int, seen: Any) -> list[int]:
        """Which wrong solutions give the same on recording ``at``."""
        question = self.recorded[at].question
        return [
            number
            for number, solution in enumerate(self.wrong)
            if solution.question == question
            and not first_difference(self.recorded[at], self.mistake(at, number), seen)
        ]

    def misconception(self, votes: Counter[int], n_wrong: int) -> str | None:
        """What the wrong solution says that gives the same on most of the recordings that were wrong, or
        None.

        votes  of each recording that was wrong, those that :meth:`same_mistakes` names
        """
        number, n = votes.most_common(1)[0] if votes else (0, 0)
        # On one input in many, different mistakes give the same.
        return self.wrong[number].message if n and 2 * n >= n_wrong else None

    def mistake(self, at: int, number: int) -> list[Any]:
        """What wrong solution ``number`` gives for recording ``at``."""
        found = self._mistakes.get((at, number))
        if found is None:
            found = self._mistakes[at, number] = seen_by(self.wrong[number].names, self.recorded[at])
        return found


def first_difference(recorded: Recorded, expected: Sequence[Any], seen: Any) -> str:
    """In what the first thing that differs does, or ""."""
    if not isinstance(seen, list) or len(seen) != len(expected):
        return "it did not answer what it was asked"
    for look, one, other in zip(recorded.looks, expected, seen, strict=True):
        found = difference(one, other, look)
        if found == NOT_YET:
            return NOT_YET
        if found:
            return f"{look.label}: {found}"
    return ""
