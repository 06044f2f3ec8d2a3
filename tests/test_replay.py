"""A trace through an engine: times by hand on a clock that the test owns, outputs as of generate alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import teachkit as tk
from conftest import tiny_config, tiny_model
from teachkit.engine import Engine
from teachkit.replay import replay
from teachkit.trace import Trace, TraceRequest, make


class Clock:
    """Seconds that pass only where the test says so. All are whole numbers of 1/1024: no rounding."""

    def __init__(self):
        self.now_s, self.slept = 16.0, []

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


STEP_S = 0.25  # of a step of the model, whatever is in it


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def served(model, monkeypatch):
    """(engine, clock) in which each step takes STEP_S, all of it in the model."""

    def make_engine(**options):
        clock = Clock()
        engine = Engine(
            model, **{"n_blocks": 64, "block_size": 4, "max_batch_tokens": 16} | options, clock=clock
        )
        forward = engine._forward

        def slow(plan):
            clock.now_s += STEP_S
            return forward(plan)

        monkeypatch.setattr(engine, "_forward", slow)
        return engine, clock

    return make_engine


def request(arrival_s, n_prompt=3, n_new=2, **rest):
    ids = tuple((7 * i + 3) % 61 for i in range(n_prompt))
    return TraceRequest(arrival_s, n_new, ids, **rest)


def test_times_by_hand(served):
    """Of 3 + 3 tokens in steps of 4, so that the prompt of the second is cut."""
    engine, clock = served(max_batch_tokens=4)
    # 0.0: first of A (its 3, and 1 of B); 0.25: A's second, B's other 2; 0.5: B's second
    played = replay(engine, Trace("a", (request(0.0), request(0.0)), ignore_eos=True), sleep=clock.sleep)
    a, b = played.outcomes
    assert (a.queue_s, a.ttft_s, a.tpot_s, a.ended_s) == (0.0, 0.25, 0.25, 0.5)
    assert (b.queue_s, b.ttft_s, b.tpot_s, b.ended_s) == (0.0, 0.5, 0.25, 0.75)
    assert played.elapsed_s == 0.75
    assert [(step.prefill, step.decode) for step in played.steps] == [(4, 0), (2, 1), (0, 1)]
    assert clock.slept == []


def test_it_sleeps_only_when_there_is_nothing_to_do(served):
    engine, clock = served()
    played = replay(
        engine, Trace("a", (request(0.5, n_new=1), request(2.0, n_new=1)), ignore_eos=True), sleep=clock.sleep
    )
    assert clock.slept == [0.5, 1.25]
    assert [one.ttft_s for one in played.outcomes] == [0.25, 0.25]
    assert [one.started_s for one in played.outcomes] == [0.5, 2.0]


def test_who_comes_during_a_step_has_waited_since(served):
    """The engine hears of it 0.15625 s later: that is queue time, and part of TTFT."""
    engine, clock = served()
    played = replay(engine, Trace("a", (request(0.0, n_new=3), request(0.09375))), sleep=clock.sleep)
    late = played.outcomes[1]
    assert (late.queue_s, late.ttft_s) == (0.15625, 0.40625)
    assert engine.idle


def test_requests_wait_for_room(served):
    """Two blocks of 4 hold one of 7 tokens: the second starts when the first is done."""
    engine, clock = served(n_blocks=2)
    pair = (request(0.0, n_prompt=6), request(0.0, n_prompt=6))
    played = replay(engine, Trace("a", pair, ignore_eos=True), sleep=clock.sleep)
    first, second = played.outcomes
    assert (first.ended_s, second.started_s) == (0.5, 0.5)
    assert (second.queue_s, second.ttft_s) == (0.5, 0.75)


def test_any_order_in_the_file(served):
    engine, clock = served()
    played = replay(engine, Trace("a", (request(1.0), request(0.0)), ignore_eos=True), sleep=clock.sleep)
    assert [one.index for one in played.outcomes] == [0, 1]
    assert [one.started_s for one in played.outcomes] == [1.0, 0.0]


def test_cancels(served):
    """Between two steps: after the second at 0.5, before any at 0.0, and too late to matter."""
    engine, clock = served()
    requests = (
        request(0.0, n_new=9, cancel_s=0.5),
        request(0.0, n_new=9, cancel_s=0.0),
        request(0.0, n_new=2, cancel_s=7.0),
    )
    running, never, late = replay(engine, Trace("a", requests, ignore_eos=True), sleep=clock.sleep).outcomes
    assert (running.finish, running.n_tokens, running.ended_s) == ("cancelled", 2, 0.5)
    assert (never.finish, never.n_tokens) == ("cancelled", 0)
    assert math.isnan(never.ttft_s)
    assert late.finish == "length"
    assert engine.idle
    assert engine.pool.n_used == 0
    assert not any(one.failed for one in (running, never, late))


def test_a_request_that_is_not_taken_fails_alone(served):
    engine, clock = served(n_blocks=4)
    requests = (
        request(0.0),
        request(0.0, n_prompt=20),
        replace(request(0.0), prompt=(1, 61)),
        request(0.0, stop=("x",)),
        request(0.25),
    )
    good, large, foreign, wordless, later = replay(
        engine, Trace("a", requests, ignore_eos=True), sleep=clock.sleep
    ).outcomes
    assert [good.finish, later.finish] == ["length", "length"]
    assert large.error.startswith("prompt of 20 tokens")
    assert foreign.error.startswith("prompt: expected ids from 0 to 60")
    assert "tokenizer" in wordless.error
    assert all(one.failed and one.n_tokens == 0 for one in (large, foreign, wordless))


def test_outputs_are_those_of_generate(model):
    engine = Engine(model, n_blocks=40, block_size=4, max_batch_tokens=7)
    requests = (
        request(0.0, 5, 8),
        request(0.0, 2, 8, temperature=1.5, top_k=20, top_p=0.9, seed=3),
        request(0.0, 9, 8, temperature=3.0, top_p=0.1, seed=4),
    )
    played = replay(engine, Trace("a", requests))
    samplers = (
        tk.greedy,
        tk.sampler(temperature=1.5, top_k=20, top_p=0.9),
        tk.sampler(temperature=3.0, top_p=0.1),
    )
    for one, sampler in zip(played.outcomes, samplers, strict=True):
        alone = tk.generate(model, list(one.asked.prompt), 8, sampler, one.asked.seed)
        assert (one.tokens, one.finish) == (alone.tokens, alone.finish)
        assert one.n_tokens == len(one.tokens)


def test_the_end_of_text_is_ignored_when_the_trace_says_so(model):
    first = tk.generate(model, list(request(0.0).prompt), 1).tokens[0]
    stopping = tiny_model(replace(tiny_config(), eos_token_ids=(first,)))
    for ignore, n in ((False, 1), (True, 6)):
        engine = Engine(stopping, n_blocks=9, block_size=4)
        [one] = replay(engine, Trace("a", (request(0.0, n_new=6),), ignore_eos=ignore)).outcomes
        assert one.n_tokens == n
        assert one.finish == ("length" if ignore else "eos")
        assert one.tokens[0] == first


def test_text_and_stop_strings(bundled):
    prompt = tuple(bundled.tokenizer.encode("import os"))
    asked = TraceRequest(0.0, 60, prompt, stop=("\n",))
    [one] = replay(Engine(bundled, n_blocks=16), Trace("a", (asked,))).outcomes
    alone = tk.generate(bundled, list(prompt), 60, stop="\n")
    assert (one.text, one.tokens, one.finish) == (alone.text, alone.tokens, "stop")


def test_prompts_by_length_are_filled(model):
    made = make(3, prompt_median=5, output_median=2, cap=9)
    played = replay(Engine(model, n_blocks=40, block_size=4), made)
    assert [one.asked for one in played.outcomes] == list(made.filled(61).requests)
    assert played.trace is made
    assert [one.n_tokens for one in played.outcomes] == [one.max_new_tokens for one in made.requests]


def test_it_shows_how_far_it_is(served):
    engine, clock = served()
    seen = []
    replay(
        engine, Trace("a", (request(0.0), request(1.0)), ignore_eos=True), sleep=clock.sleep, show=seen.append
    )
    assert [(now.now_s, now.waiting, now.running, now.done) for now in seen] == [
        (0.25, 0, 1, 0),
        (0.5, 0, 0, 1),
        (1.25, 0, 1, 1),
        (1.5, 0, 0, 2),
    ]
    assert seen[0].blocks_used == 1
    assert seen[0].n_blocks == 64


def test_it_shows_so_often_and_at_the_end(served):
    engine, clock = served()
    seen = []
    asked = Trace("a", (request(0.0), request(1.0)), ignore_eos=True)
    replay(engine, asked, sleep=clock.sleep, show=seen.append, show_every_s=1.0)
    assert [(now.now_s, now.done) for now in seen] == [(0.25, 0), (1.25, 1), (1.5, 2)]


def test_a_busy_engine_is_refused(model):
    engine = Engine(model, n_blocks=9, block_size=4)
    engine.submit([1, 2], 3)
    with pytest.raises(ValueError, match="expected one with nothing to do"):
        replay(engine, Trace("a", (request(0.0),)))


def test_a_sampler_that_fails_ends_its_own_request(model, monkeypatch):
    engine = Engine(model, n_blocks=20, block_size=4)
    broken = RuntimeError("no more numbers")
    multinomial = torch.multinomial

    def refuse(probs, n, *, generator=None):
        if generator is not None and generator.initial_seed() == 13:
            raise broken
        return multinomial(probs, n, generator=generator)

    monkeypatch.setattr(torch, "multinomial", refuse)
    pair = (request(0.0, temperature=1.0, seed=13), request(0.0, temperature=1.0, seed=14))
    bad, good = replay(engine, Trace("a", pair, ignore_eos=True)).outcomes
    assert (bad.failed, bad.error) == (True, "no more numbers")
    assert good.finish == "length"


def test_an_engine_that_is_closed_within_ends_the_replay(served):
    """Requests that end by another hand than a step's are noticed; those still to come fail alone."""
    engine, clock = served()
    asked = (request(0.0), request(0.0), request(1.0))
    played = replay(engine, Trace("", asked), sleep=clock.sleep, show=lambda _: engine.close())
    assert [one.finish for one in played.outcomes] == ["cancelled", "cancelled", "error"]
    assert "closed" in played.outcomes[2].error
