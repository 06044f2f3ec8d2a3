"""A trace through an engine in real time: a request is submitted when it comes, and cancelled when it goes.

One thread does all. Between two steps it looks at the clock, hands the engine whatever has come since, and
runs the next step; it sleeps only when there is nothing to compute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from teachkit.engine import Engine
from teachkit.outcome import Outcome, Progress, Replay, progress
from teachkit.request import Request, StepMetrics
from teachkit.sampling import greedy, sampler
from teachkit.trace import Trace, TraceRequest


def replay(
    engine: Engine,
    trace: Trace,
    *,
    sleep: Callable[[float], object] = time.sleep,
    show: Callable[[Progress], object] | None = None,
    show_every_s: float = 0.1,
) -> Replay:
    """Play a trace, on the engine's clock, until the last of its requests has ended.

    engine  with nothing to do; prompts that the trace gives by length are drawn from its model's vocabulary
    sleep   to wait for the next arrival; whoever gives the engine a clock of their own gives a sleep with it
    show    called with how far it is, after a step, at most every ``show_every_s`` seconds of the engine's
            clock, and at the end: to count takes time, and it is time of the replay
    Raises  ValueError: an engine that is busy, or whatever its model raises. A request that it does not take
            fails alone, with the reason in its outcome
    """
    if not engine.idle:
        raise ValueError("engine: expected one with nothing to do, got one with requests")
    return _Player(engine, trace, sleep, show, show_every_s).run()


class _Player:
    """The requests of one trace, and which of them are with the engine."""

    def __init__(
        self,
        engine: Engine,
        trace: Trace,
        sleep: Callable[[float], object],
        show: Callable[[Progress], object] | None,
        show_every_s: float,
    ) -> None:
        self.engine, self.trace, self.sleep, self.show = engine, trace, sleep, show
        self.show_every_s, self.next_show_s = show_every_s, 0.0
        filled = trace.filled(engine.model.config.vocab_size)
        self.outcomes = [Outcome(index, asked) for index, asked in enumerate(filled.requests)]
        self.coming = deque(sorted(self.outcomes, key=lambda one: one.asked.arrival_s))
        self.live: dict[int, Request] = {}  # by their place in the trace
        self.steps: list[StepMetrics] = []
        self.start_s = engine.clock()

    @property
    def now_s(self) -> float:
        return self.engine.clock() - self.start_s

    def run(self) -> Replay:
        while self.coming or self.live:
            self._arrivals()
            self._cancels()
            step = self.engine.step()
            self._collect()  # also those that were ended from outside
            if step is not None:
                self.steps.append(step)
                self._tell(step.blocks_used)
            elif self.coming:
                # Never for nothing: a remainder too small for the clock would be waited for without end.
                self.sleep(max(1e-6, self.coming[0].asked.arrival_s - self.now_s))
        done = max((one.ended_s or 0.0 for one in self.outcomes), default=0.0)
        return Replay(self.trace, "teachkit", tuple(self.outcomes), done, tuple(self.steps), self.start_s)

    def _arrivals(self) -> None:
        while self.coming and self.coming[0].asked.arrival_s <= self.now_s:
            outcome = self.coming.popleft()
            try:
                self.live[outcome.index] = self._submit(outcome.asked)
            except (ValueError, RuntimeError) as error:  # what this engine does not take; it may be closed
                outcome.end(self.now_s, "error", str(error))

    def _submit(self, asked: TraceRequest) -> Request:
        choose = greedy
        if asked.temperature > 0:
            choose = sampler(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p)
        return self.engine.submit(
            asked.prompt,
            asked.max_new_tokens,
            choose,
            asked.seed,
            asked.stop,
            ignore_eos=self.trace.ignore_eos,
        )

    def _cancels(self) -> None:
        for index in list(self.live):
            cancel_s = self.outcomes[index].asked.cancel_s
            if cancel_s is not None and cancel_s <= self.now_s:
                self.engine.cancel(self.live[index])
                self._record(index)

    def _collect(self) -> None:
        for index in list(self.live):
            self._record(index)

    def _record(self, index: int) -> None:
        """What a request has come to, from the engine's clock to that of the trace."""
        outcome, request = self.outcomes[index], self.live[index]
        if request.started_s is not None:
            outcome.started_s = request.started_s - self.start_s
        if request.times_s:
            outcome.first_s = request.times_s[0] - self.start_s
            outcome.last_s = request.times_s[-1] - self.start_s
        outcome.n_tokens = len(request.tokens)
        if request.finish is not None:
            outcome.tokens, outcome.text = request.tokens, request.text
            outcome.end(self.now_s, request.finish, str(request.error or ""))
            del self.live[index]

    def _tell(self, blocks_used: int) -> None:
        now_s, over = self.now_s, not self.coming and not self.live
        if self.show is None or (now_s < self.next_show_s and not over):
            return
        self.show(progress(self.outcomes, now_s, blocks=(blocks_used, self.engine.pool.n_blocks)))
        self.next_show_s = now_s + self.show_every_s
