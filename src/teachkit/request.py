"""A request to the engine, and what a step did for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from teachkit.output import Finish, Output
from teachkit.sampling import Sampler
from teachkit.scheduler import Sequence


class Request:
    """One prompt, and what has become of it so far.

    tokens, text   of the output
    finish         None while it goes on; then why it ended: as of :func:`teachkit.decode.generate`, or
                   "cancelled" or "error"
    error          what its sampler or its ``stream`` raised
    times_s        seconds of the engine's clock: submitted, first computed, each token
    """

    def __init__(
        self,
        sequence: Sequence,
        output: Output,
        sampler: Sampler,
        generator: torch.Generator | None,
        submitted_s: float,
    ) -> None:
        self.sequence, self.output = sequence, output
        self.sampler, self.generator = sampler, generator
        self.submitted_s = submitted_s
        self.started_s: float | None = None
        self.times_s: list[float] = []
        self.error: Exception | None = None
        self.ended: Literal["cancelled", "error"] | None = None

    @property
    def prompt_tokens(self) -> list[int]:
        """Ids of the prompt."""
        return self.sequence.tokens[: self.sequence.n_prompt]

    @property
    def tokens(self) -> list[int]:
        """Ids of the output so far."""
        return self.output.tokens

    @property
    def text(self) -> str:
        """Of the output so far; what may be the beginning of a stop string is held back."""
        return self.output.text

    @property
    def finish(self) -> Finish | Literal["cancelled", "error"] | None:
        """Why it ended; None while it goes on."""
        return self.ended or self.output.finish

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.finish is not None

    @property
    def queue_s(self) -> float:
        """From submission to the first step that computed a token of it; NaN before."""
        return float("nan") if self.started_s is None else self.started_s - self.submitted_s

    @property
    def ttft_s(self) -> float:
        """Time to first token, from submission: queue and prefill; NaN before."""
        return self.times_s[0] - self.submitted_s if self.times_s else float("nan")

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first: their mean; NaN when there is only one."""
        n = len(self.times_s) - 1
        return (self.times_s[-1] - self.times_s[0]) / n if n > 0 else float("nan")

    def start(self, now_s: float) -> None:
        """A step computes a token of it, perhaps the first."""
        self.started_s = now_s if self.started_s is None else self.started_s

    def __repr__(self) -> str:
        state = self.finish or self.sequence.status
        return f"<Request of {self.sequence.n_prompt} tokens, {len(self.tokens)} generated, {state}>"


@dataclass(frozen=True, slots=True)
class Work:
    """What one request had computed in one step: ``n`` tokens from position ``start``.

    decode  one generated token, of which the next one follows; else a part of the prompt, or of what has to
            be computed again after a preemption
    """

    request: Request
    start: int
    n: int
    decode: bool


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step did.

    start_s, time_s  on the engine's clock
    work             of each request that had a token in it, the oldest first
    waiting          requests without blocks after it
    preempted        requests that lost their blocks to an older one
    reused           tokens found in known blocks by those admitted, and not computed; of one that comes back
                     after a preemption these may be tokens of its output
    blocks_used      blocks with an owner while it ran
    slots_used       tokens for which these blocks have room
    slots_filled     tokens that lie in them
    """

    start_s: float
    time_s: float
    work: tuple[Work, ...]
    waiting: int
    preempted: tuple[Request, ...]
    reused: int
    blocks_used: int
    slots_used: int
    slots_filled: int

    @property
    def batch(self) -> int:
        """Requests with a token in this step."""
        return len(self.work)

    @property
    def decode(self) -> int:
        """Tokens of requests that were decoding, one of each."""
        return sum(work.n for work in self.work if work.decode)

    @property
    def prefill(self) -> int:
        """Tokens of prompts, or computed again."""
        return sum(work.n for work in self.work if not work.decode)

    @property
    def waste(self) -> float:
        """The share of the slots in owned blocks in which nothing lies."""
        return 1 - self.slots_filled / self.slots_used if self.slots_used else 0.0
