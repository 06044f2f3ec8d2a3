"""Many requests that come, go and cancel each other: none lost, none mixed up, and nothing kept of them."""

from __future__ import annotations

import gc
import random
import tracemalloc
import weakref

import pytest
import torch

import teachkit as tk
from conftest import unchecked
from engine_traces import VOCAB, model_of
from teachkit.decode import generate
from teachkit.engine import Engine

SAMPLED = tk.sampler(temperature=1.5)
MOST_NEW, AT_A_TIME = 13, 11
ENGINE = {"n_blocks": 23, "block_size": 4, "max_batch_tokens": 19}  # for about four requests: the rest waits


def prompts():
    """Seventeen, of up to 20 tokens, of which many begin alike."""
    draw = random.Random(0)
    texts = [[draw.randrange(VOCAB) for _ in range(20)] for _ in range(3)]
    return [
        tuple(draw.choice(texts)[: draw.randint(0, 12)] + [draw.randrange(VOCAB) for _ in range(1 + i % 8)])
        for i in range(17)
    ]


class Storm:
    """Submits, steps and cancels at random: from outside, and from within the streams of requests."""

    def __init__(self, seed):
        self.draw, self.model = random.Random(seed), model_of("windows")
        self.prompts = prompts()
        with unchecked():
            self.alone = {
                (i, sampled): generate(self.model, prompt, MOST_NEW, *([SAMPLED, i] if sampled else []))
                for i, prompt in enumerate(self.prompts)
                for sampled in (False, True)
            }
        self.engine = Engine(self.model, **ENGINE)
        self.live = {}  # request to (prompt, sampled, tokens, streamed pieces)
        self.ended = {"length": 0, "cancelled": 0}
        self.from_streams = 0
        self.gone = []  # weak references to requests that have ended

    def submit(self):
        which, sampled, n = self.draw.randrange(17), self.draw.random() < 0.5, self.draw.randint(1, MOST_NEW)
        pieces = []

        def stream(piece):
            pieces.append(piece)
            if self.draw.random() < 0.03:
                other = self.draw.choice([request, request, *self.live])
                self.from_streams += self.engine.cancel(other)

        request = self.engine.submit(
            self.prompts[which], n, *([SAMPLED, which] if sampled else []), stream=stream
        )
        self.live[request] = which, sampled, n, pieces

    def step(self):
        while len(self.live) < AT_A_TIME and self.draw.random() < 0.7 and self.submitted < self.most:
            self.submit()
            self.submitted += 1
        if self.live and self.draw.random() < 0.1:
            self.engine.cancel(self.draw.choice(list(self.live)))
        self.engine.step()
        for request in [request for request in self.live if request.done]:
            self.check(request, *self.live.pop(request))

    def check(self, request, which, sampled, n, pieces):
        made = self.alone[which, sampled]
        assert request.finish in self.ended, repr(request.error)
        assert request.tokens == made.tokens[: len(request.tokens)]
        assert len(request.tokens) == n or request.finish == "cancelled"
        assert "".join(pieces) == request.text == made.text[: len(request.text)]
        assert request.prompt_tokens == list(self.prompts[which])
        self.ended[request.finish] += 1
        self.gone.append(weakref.ref(request))

    def run(self, n):
        """n more requests, until all have ended."""
        self.submitted, self.most = 0, n
        for _ in range(40 * n):
            if self.submitted == n and not self.live:
                break
            self.step()
        assert self.engine.idle
        assert not self.live
        assert self.engine.pool.n_used == 0
        self.engine.pool.check()
        gc.collect()
        assert not any(reference() for reference in self.gone), "the engine keeps what has ended"
        self.gone.clear()


def tensors():
    return sum(type(thing) in (torch.Tensor, torch.Generator) for thing in gc.get_objects())


@pytest.mark.parametrize("n", [100, pytest.param(1_000, marks=pytest.mark.stress)])
def test_none_lost_none_mixed_up_and_memory_flat(n, capsys):
    storm = Storm(seed=n)
    with unchecked():
        storm.run(n // 2)  # after this there is nothing left to grow
        tracemalloc.start()
        try:
            storm.run(n // 4)
            held, held_tensors = tracemalloc.get_traced_memory()[0], tensors()
            storm.run(n - n // 2 - n // 4)
            grown, grown_tensors = tracemalloc.get_traced_memory()[0] - held, tensors() - held_tensors
        finally:
            tracemalloc.stop()
    with capsys.disabled():
        print(
            f"\n{n} requests: {storm.ended['length']} complete, {storm.ended['cancelled']} cancelled, "
            f"{storm.from_streams} of them from streams; {grown:+} bytes and {grown_tensors:+} tensors "
            f"in the last {n // 4} requests"
        )
    assert sum(storm.ended.values()) == n
    assert storm.ended["length"] > n // 3
    assert storm.ended["cancelled"] > n // 10
    assert storm.from_streams > n // 50
    assert grown_tensors <= 0
    assert grown < 40_000  # one that is kept weighs some 5,000


def test_requests_that_are_kept_are_noticed(monkeypatch):
    """The planted fault for the test above: an engine that forgets no request."""
    kept, forget = [], Engine._forget
    monkeypatch.setattr(
        Engine, "_forget", lambda self, request: (kept.append(request), forget(self, request))
    )
    with unchecked(), pytest.raises(AssertionError, match="the engine keeps what has ended"):
        Storm(seed=1).run(5)
