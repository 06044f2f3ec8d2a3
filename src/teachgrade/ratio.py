"""Questions of speed: how long a submission takes beside a baseline, on the same machine, in turns, timed from outside.

A second is another length on every machine, and on a busy one at every minute. So what is asked is a ratio: the submission's
time over that of a trusted baseline (the lab's own, plain version of the same), both behind the same pipe, one after the other.
The shortest of several turns is taken on each side: what disturbs makes things slower, never faster. Transport is in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

TURNS = 5


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
