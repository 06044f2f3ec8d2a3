"""The report of a replay: percentiles by numpy and by hand, what is left out, records that come back."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from teachkit import measure
from teachkit.outcome import Outcome, Replay
from teachkit.replay_report import as_data, as_markdown, percentiles, records, steps, tokens_per_s
from teachkit.trace import Trace, TraceRequest

SETTINGS = {"model": "tiny", "n_blocks": 9, "dtype": "float32", "device": "cpu"}


def outcome(index, queue_s, ttft_s, tpot_s, n=3, finish="length", error=""):
    arrival_s = index / 4
    one = Outcome(index, TraceRequest(arrival_s, n, (1,) * (index + 1)))
    if ttft_s is not None:
        one.started_s = arrival_s + queue_s
        one.add(arrival_s + ttft_s, 1)
        one.add(arrival_s + ttft_s + tpot_s * (n - 1), n - 1)
    one.end((one.last_s or arrival_s) + 0.125, finish, error)
    return one


def step(time_s, batch, used, filled, reused=0, preempted=()):
    return SimpleNamespace(
        time_s=time_s,
        batch=batch,
        blocks_used=used // 4,
        slots_used=used,
        slots_filled=filled,
        reused=reused,
        preempted=preempted,
    )


STEPS = (step(1.0, 1, 8, 6), step(3.0, 2, 16, 14, reused=4, preempted=("a",)))


@pytest.fixture
def played():
    outcomes = (
        outcome(0, 0.0, 0.5, 0.25),
        outcome(1, 0.125, 1.0, 0.5),
        outcome(2, 0.25, 2.0, 0.75, finish="cancelled"),
        outcome(3, None, None, None, finish="error", error="no room"),
    )
    trace = Trace("four", tuple(one.asked for one in outcomes))
    return Replay(trace, "teachkit", outcomes, 4.0, STEPS)


def test_percentiles_are_of_those_that_have_one_and_did_not_fail(played):
    found = percentiles(played)
    expected = {"queue": [0.0, 0.125, 0.25], "ttft": [0.5, 1.0, 2.0], "tpot": [0.25, 0.5, 0.75]}
    for name, values in expected.items():
        assert found[name] == pytest.approx({f"p{p}": np.percentile(values, p) for p in (50, 90, 99)})
    assert found["ttft"]["p50"] == 1.0
    assert found["ttft"]["p90"] == pytest.approx(1.8)  # 0.8 of the way from 1.0 to 2.0


def test_one_that_failed_halfway_counts_in_no_percentile():
    bad = outcome(0, 0.0, 0.5, 0.25, finish="error", error="cut")
    played = Replay(Trace("a", (bad.asked,)), "http://127.0.0.1/v1", (bad,), 1.0)
    assert percentiles(played) == {"ttft": {}, "tpot": {}, "queue": {}}
    assert "| time to first token | – | – | – |" in as_markdown(played, {})
    assert [r.name for r in records(played, {})] == [
        "replay.output_tokens_per_s",
        "replay.elapsed",
        "replay.failed",
    ]


def test_steps_are_averaged_over_time(played):
    assert steps(played) == {
        "steps": 2,
        "mean_batch": 1.75,
        "most_blocks": 4,
        "waste": 1 - (6 + 3 * 14) / (8 + 3 * 16),
        "reused_tokens": 4,
        "preemptions": 1,
    }
    assert steps(Replay(played.trace, "x", played.outcomes, 1.0)) == {}


def test_markdown(played):
    lines = as_markdown(played, SETTINGS).splitlines()
    assert lines[0] == "**four**, served by teachkit (tiny)"
    assert lines[2] == "| seconds | p50 | p90 | p99 |"
    assert lines[4] == "| time to first token | 1.0000 | 1.8000 | 1.9800 |"
    assert lines[5] == "| time per output token | 0.5000 | 0.7000 | 0.7450 |"
    assert lines[6] == "| in the queue | 0.1250 | 0.2250 | 0.2475 |"
    assert "- 2.2 output tokens a second, 9 in 4.00 s" in lines
    assert "- 4 requests (2 length, 1 cancelled, 1 error), 10 prompt tokens" in lines
    assert "at most 4 of 9 blocks; 14.3% of their slots empty" in lines[-2]
    assert lines[-1] == "- request 3 failed: no room"


def test_many_failures_are_counted():
    several = tuple(outcome(i, None, None, None, finish="error", error=f"e{i}") for i in range(8))
    played = Replay(Trace("a", tuple(one.asked for one in several)), "teachkit", several, 1.0)
    lines = as_markdown(played, {}).splitlines()
    assert lines[-2:] == ["- request 4 failed: e4", "- 3 more failed"]


def test_data_are_json_without_nan(played):
    data = json.loads(json.dumps(as_data(played, SETTINGS), allow_nan=False))
    assert data["output_tokens_per_s"] == tokens_per_s(played) == 9 / 4.0
    assert data["requests"][1]["ttft_s"] == 1.0
    assert data["requests"][3] == {
        "request": 3,
        "arrival_s": 0.75,
        "prompt_tokens": 4,
        "output_tokens": 0,
        "finish": "error",
        "queue_s": None,
        "ttft_s": None,
        "tpot_s": None,
        "text": "",
        "error": "no room",
    }
    assert (data["failed"], data["settings"], data["engine"]["steps"]) == (1, SETTINGS, 2)
    assert data["device"] == measure.device_name("cpu")


def test_records_come_back(played, tmp_path):
    measure.append(records(played, SETTINGS), tmp_path / "r.jsonl")
    found = measure.read(tmp_path / "r.jsonl")
    ttft = [r for r in found if r.name == "replay.ttft"]
    assert [(r.value, r.unit, r.kind, r.config["request"]) for r in ttft] == [
        (0.5, "s", "measured", 0),
        (1.0, "s", "measured", 1),
        (2.0, "s", "measured", 2),
    ]
    assert ttft[1].config == {
        "trace": "four",
        "served_by": "teachkit",
        **SETTINGS,
        "request": 1,
        "arrival_s": 0.25,
        "prompt_tokens": 2,
        "output_tokens": 3,
        "finish": "length",
    }
    assert [r.value for r in found if r.name == "replay.queue"] == [0.0, 0.125, 0.25]
    assert [r.value for r in found if r.name == "replay.tpot"] == [0.25, 0.5, 0.75]
    [p90] = [r for r in found if r.name == "replay.ttft_p90"]
    assert (p90.value, p90.n) == (pytest.approx(1.8), 3)
    [rate] = [r for r in found if r.name == "replay.output_tokens_per_s"]
    assert (rate.value, rate.unit, rate.n) == (2.25, "tokens/s", 4)
    assert [r.value for r in found if r.name == "replay.failed"] == [1.0]
    assert {r.dtype for r in found} == {"float32"}
    assert all(r.device and r.date and r.versions["torch"] for r in found)


def test_of_another_server_nothing_is_said_that_is_of_this_machine(played):
    other = Replay(played.trace, "http://127.0.0.1/v1", played.outcomes, 4.0)
    for one in records(other, {"model": "m"}):
        assert (one.device, one.threads) == ("server at http://127.0.0.1/v1", 0)
        assert "torch" not in one.versions
    assert as_data(other, {"model": "m"})["engine"] == {}
    assert "steps" not in as_markdown(other, {"model": "m"})


def test_a_trace_of_no_time_has_no_rate():
    one = outcome(0, None, None, None, finish="cancelled")
    assert tokens_per_s(Replay(Trace("a", (one.asked,)), "teachkit", (one,), 0.0)) == 0.0
    assert math.isnan(one.ttft_s)
