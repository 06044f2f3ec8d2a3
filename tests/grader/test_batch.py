"""Batches: nothing lost, nothing done twice, the same marks on every run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from at_hand import ROOT, key_of, lab_named, needs_sandbox
from at_hand import start as start_of
from hostile import notebook, solved
from teachgrade.batch import Batch, Graders, shard
from teachgrade.collect import find
from teachgrade.result import marks, path_of, read_all, write
from teachgrade.sandbox import Ended
from teachgrade.source import without_solutions

STEM = "kv_cache"


def hand_in(folder, n):
    """So many submissions: right, blank, partly right, unreadable."""
    folder.mkdir()
    lab = lab_named(STEM)
    right, blank = notebook(solved(lab)), notebook(without_solutions(lab.source))
    partly = notebook(solved(lab).replace("2 * n_layers", "3 * n_layers"))
    for number in range(n):
        (folder / f"s{number:04}.ipynb").write_bytes((right, blank, partly, b"{")[number % 4])
    return folder


@contextmanager
def batch(workers=1, start=None, **more):
    """A batch, and its graders closed afterwards."""
    graders = Graders(key_of(STEM), start or start_of(STEM))
    try:
        yield Batch(lab_named(STEM), graders, seed="tests", sandbox="bubblewrap", workers=workers, **more)
    finally:
        graders.close()


def run(entries, folder, show=None, **how):
    with batch(**how) as made:
        return made.run(entries, folder, show)


def all_marks(folder):
    return [marks(result) for result in read_all([folder])]


@needs_sandbox
def test_points_statuses_and_a_second_run_that_does_nothing(tmp_path):
    entries = find([hand_in(tmp_path / "in", 4)], STEM)
    shown = []
    done = run(entries, tmp_path / "out", lambda now: shown.append(now.done), workers=2)
    assert shown == [1, 2, 3, 4]
    assert done.by_status == {"graded": 3, "unreadable": 1}
    results = read_all([tmp_path / "out"])
    assert [one["points"] for one in results] == [16, 0, 14, 0]
    assert (
        results[2]["questions"][5]["message"]
        == "Queries are not kept: two numbers for each place, not three."
    )
    before = all_marks(tmp_path / "out")

    def never(slot):
        raise AssertionError("graded again")

    again = run(entries, tmp_path / "out", start=never)
    assert again.resumed == 4
    assert all_marks(tmp_path / "out") == before
    run(entries, tmp_path / "again")
    assert all_marks(tmp_path / "again") == before


@needs_sandbox
def test_only_what_changed_is_graded_again(tmp_path):
    folder = hand_in(tmp_path / "in", 2)
    run(find([folder], STEM), tmp_path / "out")
    (folder / "s0001.ipynb").write_bytes((folder / "s0000.ipynb").read_bytes())
    done = run(find([folder], STEM), tmp_path / "out")
    assert done.resumed == 1
    assert [one["points"] for one in read_all([tmp_path / "out"])] == [16, 16]


def test_the_machines_fault_is_tried_again_and_never_a_mark(tmp_path):
    starts = []

    def broken(slot):
        starts.append(slot)
        raise Ended("sandbox_error", "no namespaces today")

    entries = find([hand_in(tmp_path / "in", 1)], STEM)
    done = run(entries, tmp_path / "out", start=broken)
    assert done.by_status == {"sandbox_error": 1}
    assert len(starts) == 3
    assert run(entries, tmp_path / "out", start=broken).resumed == 0


def test_a_result_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    write(tmp_path, {"student": "ada", "schema": 1, "points": 1})
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write(tmp_path, {"student": "ada", "schema": 1, "points": 2})
    assert [p.name for p in tmp_path.iterdir()] == [path_of(tmp_path, "ada").name]
    assert json.loads(path_of(tmp_path, "ada").read_text())["points"] == 1


@pytest.mark.parametrize("student", ["../../etc/passwd", "a/b", "..", "", "ä" * 300, "x\0y", "CON", "a b"])
def test_names_never_become_paths(tmp_path, student):
    assert path_of(tmp_path, student).parent == tmp_path
    assert len(path_of(tmp_path, student).name) < 100


def test_shards_are_a_partition(tmp_path):
    entries = find([hand_in(tmp_path / "in", 40)], STEM)
    parts = [shard(entries, i, 3) for i in (1, 2, 3)]
    assert sorted(e.student for part in parts for e in part) == [e.student for e in entries]
    assert min(map(len, parts)) > 5
    for wrong in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(ValueError, match="shard"):
            shard(entries, *wrong)


GRADE = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests" / "grader")!r}]
from pathlib import Path
from test_batch import run
from teachgrade.collect import find
run(find([Path(sys.argv[1])], "kv_cache"), Path(sys.argv[2]), workers=2)
"""


def n_results(folder):
    return len(list(folder.glob("s*.json")))


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.stress)])
def test_killed_at_random_moments_and_resumed(tmp_path, kills):
    """kill -9 in the midst of it, again and again; in the end the marks are those of an undisturbed run."""
    n = 60 if kills > 1 else 8
    folder, out = hand_in(tmp_path / "in", n), tmp_path / "out"
    run(find([folder], STEM), tmp_path / "undisturbed", workers=2)
    draw, interrupted = random.Random(kills), 0
    for _ in range(kills):
        before = n_results(out)
        process = subprocess.Popen([sys.executable, "-c", GRADE, str(folder), str(out)])
        while n_results(out) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        interrupted += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert interrupted >= 0.8 * kills  # the others had come to their end
    assert n_results(out) >= kills
    subprocess.run([sys.executable, "-c", GRADE, str(folder), str(out)], check=True)
    assert all_marks(out) == all_marks(tmp_path / "undisturbed")
    assert len(all_marks(out)) == n
