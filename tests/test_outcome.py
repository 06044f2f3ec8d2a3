"""What became of a request: times by hand, and how far a replay is."""

from __future__ import annotations

import math

import pytest

from teachkit.outcome import Outcome, Progress, Replay, progress
from teachkit.trace import Trace, TraceRequest


def outcome(arrival_s=1.0, index=0):
    return Outcome(index, TraceRequest(arrival_s, 9, (1, 2)))


def test_times_count_from_the_arrival():
    one = outcome(arrival_s=1.0)
    assert all(map(math.isnan, (one.queue_s, one.ttft_s, one.tpot_s)))
    one.started_s = 1.5
    one.add(2.0, 1)
    assert math.isnan(one.tpot_s)  # of one token
    one.add(2.25, 2)
    one.add(3.5, 1)
    one.end(3.75, "length")
    assert (one.queue_s, one.ttft_s, one.tpot_s) == (0.5, 1.0, 0.5)
    assert (one.first_s, one.last_s, one.ended_s, one.n_tokens) == (2.0, 3.5, 3.75, 4)
    assert one.done
    assert not one.failed


def test_an_error_is_a_failure_and_a_cancel_is_none():
    bad, gone = outcome(), outcome()
    bad.end(2.0, "error", "no room")
    gone.end(2.0, "cancelled")
    assert (bad.failed, bad.error) == (True, "no room")
    assert (gone.failed, gone.error, gone.done) == (False, "", True)
    played = Replay(Trace("a", (bad.asked, gone.asked)), "teachkit", (bad, gone), 2.0)
    assert played.failures == [bad]


def test_progress_counts_each_request_once():
    later, waits, runs, done, failed = (
        outcome(arrival_s=a, index=i) for i, a in enumerate([9.0, 1.0, 0.0, 0.0, 0.0])
    )
    runs.add(1.0, 3)
    done.add(1.0, 4)
    done.end(1.5, "length")
    failed.end(0.5, "error", "no")
    everyone = [later, waits, runs, done, failed]
    assert progress(everyone, 2.0, blocks=(3, 8)) == Progress(2.0, 5, 1, 1, 2, 1, 7, 3, 8)
    assert progress(everyone, 10.0).waiting == 2
    assert progress(everyone, 10.0).n_blocks is None


@pytest.mark.parametrize("finish", ["cancelled", "error"])
def test_one_that_ended_before_it_came_is_counted(finish):
    """A server that is not there refuses at once; so may a clock that is read a moment later."""
    early = outcome(arrival_s=9.0)
    early.end(0.0, finish)
    assert progress([early], 1.0).done == 1


def test_tokens_of_a_replay_are_those_of_all():
    one, two = outcome(), outcome(index=1)
    one.add(2.0, 3)
    two.add(2.0, 4)
    two.end(3.0, "cancelled")
    assert Replay(Trace("a", (one.asked, two.asked)), "teachkit", (one, two), 3.0).n_tokens == 7
