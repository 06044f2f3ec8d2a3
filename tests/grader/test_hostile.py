"""Submissions that break, cheat or attack: the right status, no mark gained, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from pathlib import Path

import pytest
from attacks import MORE, OF_KV_CACHE

from at_hand import ROOT, graders, lab_named, needs_sandbox, start
from hostile import CASES, Case, Target
from teachgrade.bubblewrap import N_UIDS, Limits, uid_of
from teachgrade.collect import find
from teachgrade.processes import tree
from teachgrade.result import make
from teachgrade.submission import Unreadable

TARGETS = {"attention": Target("q1", "softmax"), "kv_cache": Target("q3", "rotate")}
LIMITS = Limits(memory_bytes=2**30)
stress = pytest.mark.stress
ALL = [*CASES, *MORE]
SAMPLE = random.Random(0).sample(range(len(ALL)), 12)


def cases(stem):
    return [
        pytest.param(stem, case, id=f"{stem}-{case.kind}", marks=[] if at in SAMPLE else stress)
        for at, case in enumerate(ALL)
    ]


def grade(folder, stem, case: Case, target: Target):
    (folder / "in").mkdir()
    (folder / "in" / "student.ipynb").write_bytes(case.make(lab_named(stem), target))
    (entry,) = find([folder / "in"], stem)
    grade_one = graders(stem, LIMITS)
    try:
        try:
            outcome = grade_one(entry.read())
        except Unreadable as error:
            outcome = grade_one(str(error))
    finally:
        grade_one.close()
    return make("student", entry.file, "0" * 64, "0" * 64, lab_named(stem), outcome, "bubblewrap")


def left_behind(stem):
    """Processes of a submission: of its user, below the server that forks for it, or of a fresh sandbox."""
    servers = [server.pid for server in start(stem, LIMITS)._servers.values()]
    below = {pid for server in servers for pid in tree(server) if pid != server}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            uid = folder.stat().st_uid
            words = (folder / "cmdline").read_bytes()
            fresh = b"bwrap" in words and b"forkserver" not in words and int(folder.name) in tree(os.getpid())
            if int(folder.name) in below or uid in (uid_of(0), uid_of(0) + N_UIDS) or fresh:
                found.append((folder.name, uid, words[:100]))
    return found


def around(stem):
    """What a submission must not change: the lab, and what lies at home."""
    files = (ROOT / "labs" / stem).rglob("*")
    return {str(path): path.stat().st_mtime_ns for path in [*files, *Path.home().iterdir()] if path.is_file()}


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(("target", "case"), OF_KV_CACHE, ids=[case.kind for _, case in OF_KV_CACHE])
def test_case_of_one_question(target, case, tmp_path, monkeypatch):
    try_one("kv_cache", case, target, tmp_path, monkeypatch)


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(("stem", "case"), [*cases("attention"), *cases("kv_cache")])
def test_case(stem, case, tmp_path, monkeypatch):
    try_one(stem, case, TARGETS[stem], tmp_path, monkeypatch)


def try_one(stem, case, target, tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "of the grader")
    before = around(stem)
    result = grade(tmp_path, stem, case, target)
    assert result["status"] == case.status or (case.spoils and result["status"] == "partial"), result
    for question in result["questions"]:
        if question["status"] == "by_hand":
            continue
        if case.nothing:
            assert question["points"] == 0
        elif question["question"] == target.question and case.lost is not None:
            assert question["points"] == 0
            assert question["status"] in case.lost, question
        elif not case.spoils:
            assert question["status"] == "passed", question
    json.dumps(result, ensure_ascii=False).encode()  # nothing in it that cannot be written
    assert case.notes in "\n".join(result["notes"])
    assert around(stem) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    patience = time.monotonic() + 5  # the kernel takes a moment to end a namespace
    while left_behind(stem) and time.monotonic() < patience:
        time.sleep(0.05)
    assert left_behind(stem) == []
