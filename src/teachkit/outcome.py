"""What became of the requests of a trace, whoever served them. No torch here.

Times count from when the trace says that a request came, not from when somebody had time to take it: a server
that is late to look has made its client wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from teachkit.trace import Trace, TraceRequest


@dataclass
class Outcome:
    """One request. Times are seconds from the start of the trace; None: it did not come to that.

    index      its place in the trace
    started_s  the step began that computed the first of its tokens; None also where a server does not tell
    first_s, last_s  its first and its latest token were known
    n_tokens   tokens of its output so far
    finish     None while it goes on; then why it ended, in the words of who served it, or "error"
    error      what went wrong
    """

    index: int
    asked: TraceRequest = field(repr=False)
    started_s: float | None = None
    first_s: float | None = None
    last_s: float | None = None
    ended_s: float | None = None
    n_tokens: int = 0
    tokens: list[int] = field(default_factory=list, repr=False)
    text: str = field(default="", repr=False)
    finish: str | None = None
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.finish is not None

    @property
    def failed(self) -> bool:
        """Whether it ended for another reason than that it was complete, or that its client went away."""
        return self.finish == "error"

    @property
    def queue_s(self) -> float:
        """From its arrival to the first step that computed a token of it; NaN if unknown."""
        return math.nan if self.started_s is None else self.started_s - self.asked.arrival_s

    @property
    def ttft_s(self) -> float:
        """Time to first token, from its arrival; NaN without one."""
        return math.nan if self.first_s is None else self.first_s - self.asked.arrival_s

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first: their mean; NaN where there are none."""
        if self.first_s is None or self.last_s is None or self.n_tokens < 2:
            return math.nan
        return (self.last_s - self.first_s) / (self.n_tokens - 1)

    def add(self, now_s: float, n: int) -> None:
        """``n`` more tokens are known."""
        self.first_s = now_s if self.first_s is None else self.first_s
        self.last_s, self.n_tokens = now_s, self.n_tokens + n

    def end(self, now_s: float, finish: str, error: str = "") -> None:
        """Nothing more will come."""
        self.ended_s, self.finish, self.error = now_s, finish, error


@dataclass(frozen=True)
class Progress:
    """How far a replay is: what a live view shows. Counts are of requests, but for ``tokens`` of output.

    blocks_used, n_blocks  of the pool; None where a server does not tell
    """

    now_s: float
    total: int
    waiting: int
    running: int
    done: int
    failed: int
    tokens: int
    blocks_used: int | None = None
    n_blocks: int | None = None


def progress(outcomes: Sequence[Outcome], now_s: float, *, blocks: tuple[int, int] | None = None) -> Progress:
    """Of these requests, now. One that has no token yet waits, whatever is being computed for it."""
    here = [one for one in outcomes if one.asked.arrival_s <= now_s or one.done]
    live = [one for one in here if not one.done]
    used, n_blocks = blocks or (None, None)
    return Progress(
        now_s=now_s,
        total=len(outcomes),
        waiting=sum(one.first_s is None for one in live),
        running=sum(one.first_s is not None for one in live),
        done=len(here) - len(live),
        failed=sum(one.failed for one in here),
        tokens=sum(one.n_tokens for one in here),
        blocks_used=used,
        n_blocks=n_blocks,
    )


@dataclass(frozen=True)
class Replay:
    """A trace that was played.

    served_by  "teachkit", or the address of the server
    elapsed_s  from the start of the trace until the last request had ended
    steps      what each step of the engine did (:class:`teachkit.request.StepMetrics`, on the engine's
               clock); none where a server does not tell
    start_s    of the trace, on the engine's clock
    """

    trace: Trace
    served_by: str
    outcomes: tuple[Outcome, ...] = field(repr=False)
    elapsed_s: float
    steps: tuple[Any, ...] = field(default=(), repr=False)
    start_s: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Tokens of output, of all requests, also of those that were cancelled or failed."""
        return sum(one.n_tokens for one in self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        """Requests that ended with an error."""
        return [one for one in self.outcomes if one.failed]
