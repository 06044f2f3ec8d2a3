"""Measuring, on a clock that the test turns by hand; the result record, field by field."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from teachkit import measure
from teachkit.measure import Result, Timing, time_call, time_calls

FIELDS = [
    *("name", "kind", "value", "unit", "median", "iqr", "n"),
    *("config", "device", "dtype", "threads", "versions", "commit", "date"),
]


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a test says so."""
    clock = SimpleNamespace(now=100.0, log=[])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock.now)

    def takes(name, *seconds):
        """A call that takes these seconds, in turn, and then the last of them again and again."""
        remaining = list(seconds)

        def call():
            clock.log.append(name)
            clock.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return call

    clock.takes = takes
    return clock


# --- timing --------------------------------------------------------------------------------------------


def test_median_and_spread_by_hand():
    timing = Timing((5.0, 1.0, 9.0, 3.0, 7.0))
    assert timing.median_s == 5
    assert timing.iqr_s == 4  # quartiles 3 and 7
    assert Timing((1.0, 2.0)).median_s == 1.5
    assert Timing((1.0, 2.0)).iqr_s == 0.5  # quartiles 1.25 and 1.75
    assert Timing((3.0,)).median_s == 3
    assert Timing((3.0,)).iqr_s == 0


def test_warm_up_is_run_but_not_counted(clock):
    timing = time_call(clock.takes("a", 64, 32, 1, 2, 4, 8), warmup=2, repeats=4)
    assert timing.times_s == (1, 2, 4, 8)
    assert len(clock.log) == 6


def test_defaults_are_two_and_ten(clock):
    assert len(time_call(clock.takes("a", 0.125)).times_s) == 10
    assert len(clock.log) == 12


def test_stops_when_the_budget_is_spent(clock):
    # Of 4 s each: after the third call 12 s are over, after the fourth 16 s.
    timing = time_call(clock.takes("a", 4), warmup=1, repeats=100, budget_s=13.0)
    assert timing.times_s == (4, 4, 4, 4)


def test_runs_three_times_whatever_the_budget(clock):
    assert time_call(clock.takes("a", 64), repeats=100, budget_s=1.0).times_s == (64, 64, 64)


def test_no_more_than_repeats(clock):
    assert len(time_call(clock.takes("a", 0), warmup=0, repeats=1).times_s) == 1
    assert len(clock.log) == 1


def test_calls_take_turns(clock):
    calls = {"a": clock.takes("a", 64, 1, 2, 4), "b": clock.takes("b", 64, 8, 16, 32)}
    timings = time_calls(calls, warmup=1, repeats=3)
    assert clock.log == ["a", "b"] * 4
    assert timings == {"a": Timing((1.0, 2.0, 4.0)), "b": Timing((8.0, 16.0, 32.0))}


def test_calls_default_to_two_and_ten(clock):
    timings = time_calls({"a": clock.takes("a", 1), "b": clock.takes("b", 2)})
    assert [len(timing.times_s) for timing in timings.values()] == [10, 10]
    assert clock.log == ["a", "a", "b", "b", *["a", "b"] * 10]


def test_the_device_is_waited_for_within_the_time(clock, monkeypatch):
    def wait(device):
        assert device == "cuda:1"
        clock.log.append("wait")
        clock.now += 0.5

    monkeypatch.setattr(measure, "synchronise", wait)
    timing = time_call(clock.takes("a", 1), device="cuda:1", warmup=1, repeats=2)
    assert clock.log == ["a", "wait", "a", "wait", "a", "wait"]
    assert timing.times_s == (1.5, 1.5)
    assert time_calls({"a": clock.takes("a", 1)}, device="cuda:1", repeats=1)["a"].times_s == (1.5,)


def test_synchronise_asks_the_right_device(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append(("cuda", str(device))))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: asked.append("mps"))
    for device in ("cpu", "cuda:1", torch.device("cuda"), "mps"):
        measure.synchronise(device)
    assert asked == [("cuda", "cuda:1"), ("cuda", "cuda"), "mps"]


# --- the result record ---------------------------------------------------------------------------------


def test_record_has_these_fields_in_this_order(tmp_path):
    measure.append([measure.result("decode", 12.5, "tokens/s")], tmp_path / "results.jsonl")
    record = json.loads((tmp_path / "results.jsonl").read_text())
    assert list(record) == FIELDS


def test_result_says_what_it_was_given():
    made = measure.result(
        "decode", 12.5, "tokens/s", kind="predicted", timing=Timing((1.0, 2.0, 4.0, 8.0, 16.0)),
        config={"context": 512}, dtype=torch.bfloat16,
    )  # fmt: skip
    assert (made.name, made.kind, made.value, made.unit) == ("decode", "predicted", 12.5, "tokens/s")
    assert (made.median, made.iqr, made.n) == (4.0, 6.0, 5)
    assert made.config == {"context": 512}
    assert made.dtype == "bfloat16"


def test_result_without_a_timing():
    made = measure.result("bits per byte", 1.25, "bits", dtype="int8")
    assert (made.kind, made.median, made.iqr, made.n, made.config) == ("measured", None, None, 1, {})
    assert made.dtype == "int8"


def test_result_says_where_it_comes_from():
    made, origin = measure.result("a", 1.0, "s"), measure.provenance()
    assert {name: getattr(made, name) for name in origin} == origin
    assert origin["threads"] == torch.get_num_threads()
    assert origin["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"3\.\d+\.\d+\S*", origin["versions"]["python"])
    assert origin["versions"]["teachkit"] == metadata.version("teachkit")
    assert abs((date.fromisoformat(origin["date"]) - date.today()).days) <= 1  # the record's day is UTC's
    assert origin["device"]


def test_records_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "new" / "folder" / "results.jsonl"
    first = measure.result("a", 1.5, "s", timing=Timing((1.0, 2.0, 3.0)), config={"é": [1, None]})
    second = Result("b", "simulated", 2.0, "bytes")
    measure.append([first], path)
    measure.append([second], path)
    assert len(path.read_text().splitlines()) == 2
    assert measure.read(path) == [first, second]


def test_read_passes_over_empty_lines(tmp_path):
    measure.append([Result("b", "simulated", 2.0, "bytes")], tmp_path / "r.jsonl")
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write("\n")
    assert len(measure.read(tmp_path / "r.jsonl")) == 1


# --- where it ran --------------------------------------------------------------------------------------


def with_cpuinfo(monkeypatch, path):
    monkeypatch.setattr(measure, "Path", lambda _: path)
    return measure.device_name("cpu")


def test_device_name_of_a_cpu(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Example 9000: two cores\nmodel name\t: other\n")
    assert with_cpuinfo(monkeypatch, info) == "Example 9000: two cores"
    monkeypatch.setattr(measure.platform, "processor", lambda: "arm")
    info.write_text("processor\t: 0\n")
    assert with_cpuinfo(monkeypatch, info) == "arm"
    assert with_cpuinfo(monkeypatch, tmp_path / "none") == "arm"
    monkeypatch.setattr(measure.platform, "processor", lambda: "")
    monkeypatch.setattr(measure.platform, "machine", lambda: "arm64")
    assert with_cpuinfo(monkeypatch, tmp_path / "none") == "arm64"


def test_device_name_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU at {device}")
    assert measure.device_name("cuda:1") == "GPU at cuda:1"


def test_commit_is_that_of_the_package(monkeypatch):
    seen = {}

    def run(command, **options):
        seen.update(options, command=command)
        return SimpleNamespace(stdout="abc123-dirty\n")

    monkeypatch.setattr(measure.subprocess, "run", run)
    assert measure.provenance()["commit"] == "abc123-dirty"
    assert seen["command"][:2] == ["git", "describe"]
    assert "--dirty" in seen["command"]
    assert Path(seen["cwd"]) == Path(measure.__file__).parent


@pytest.mark.parametrize("error", [OSError(), subprocess.CalledProcessError(128, "git")], ids=repr)
def test_commit_is_empty_outside_a_repository(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(measure.subprocess, "run", run)
    assert measure.provenance()["commit"] == ""


def test_version_is_empty_in_a_source_tree_that_is_not_installed(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(measure.metadata, "version", version)
    assert measure.provenance()["versions"]["teachkit"] == ""


@pytest.mark.parametrize(("threads", "says"), [(1, "1 thread"), (2, "2 threads")])
def test_caption_is_a_line_of_the_provenance(monkeypatch, threads, says):
    monkeypatch.setattr(measure.torch, "get_num_threads", lambda: threads)
    p, line = measure.provenance(), measure.caption(dtype="int8", kind="predicted")
    assert line.startswith(f"*predicted: {p['device']}, {says}, int8, Python ")
    assert line.endswith(f"PyTorch {p['versions']['torch']}, {p['date']}*")
    assert measure.caption().startswith("*measured: ")
