"""A request's times and states, and what a step says of itself, by hand."""

from __future__ import annotations

import math

import pytest

from teachkit.blocks import BlockPool
from teachkit.output import Output
from teachkit.request import Request, StepMetrics, Work
from teachkit.sampling import greedy
from teachkit.scheduler import Sequence


def request_of(n_prompt=3, max_new_tokens=5, submitted_s=2.0):
    sequence = Sequence(list(range(n_prompt)), max_new_tokens, BlockPool(7, 2))
    return Request(sequence, Output(None, ("length", max_new_tokens), eos=(59,)), greedy, None, submitted_s)


def metrics_of(*work, **numbers):
    zero = {"waiting": 0, "preempted": (), "reused": 0, "blocks_used": 0, "slots_used": 0, "slots_filled": 0}
    return StepMetrics(start_s=0.0, time_s=1.0, work=work, **(zero | numbers))


def test_times_by_hand():
    request = request_of()
    assert all(map(math.isnan, (request.queue_s, request.ttft_s, request.tpot_s)))
    request.start(2.5)
    assert request.queue_s == 0.5
    request.start(4.0)  # only the first time counts
    assert request.queue_s == 0.5
    assert math.isnan(request.ttft_s)
    request.times_s.append(5.0)
    assert request.ttft_s == 3.0
    assert math.isnan(request.tpot_s)
    request.times_s += [5.5, 7.0]
    assert (request.ttft_s, request.tpot_s) == (3.0, 1.0)


def test_states_by_hand():
    request = request_of()
    assert (request.finish, request.done, request.prompt_tokens) == (None, False, [0, 1, 2])
    for token in (7, 59):
        request.sequence.tokens.append(token)
        request.output.add(token)
    assert (request.finish, request.done) == ("eos", True)
    assert (request.tokens, request.text) == ([7, 59], "")
    assert request.prompt_tokens == [0, 1, 2]


@pytest.mark.parametrize("ended", ["cancelled", "error"])
def test_how_it_was_ended_comes_before_what_the_output_says(ended):
    request = request_of(max_new_tokens=1)
    request.ended = ended
    assert (request.finish, request.done) == (ended, True)
    request.output.add(59)
    assert request.finish == ended


def test_shows_what_it_is():
    request = request_of()
    assert repr(request) == "<Request of 3 tokens, 0 generated, new>"
    request.output.add(1)
    request.sequence.status = "running"
    assert repr(request) == "<Request of 3 tokens, 1 generated, running>"
    request.ended = "cancelled"
    assert repr(request) == "<Request of 3 tokens, 1 generated, cancelled>"


def test_a_step_counts_decode_and_prefill_apart():
    request = request_of()
    works = [Work(request, 9, 1, True), Work(request, 0, 7, False), Work(request, 2, 1, False)]
    step = metrics_of(*works, Work(request, 4, 1, True))
    assert (step.batch, step.decode, step.prefill) == (4, 2, 8)
    assert (metrics_of().batch, metrics_of().decode, metrics_of().prefill) == (0, 0, 0)


def test_waste_by_hand():
    assert metrics_of(slots_used=12, slots_filled=9).waste == 0.25
    assert metrics_of(slots_used=12, slots_filled=12).waste == 0.0
    assert metrics_of().waste == 0.0
