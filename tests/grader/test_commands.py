"""The commands, as an instructor and a student type them: release, check, grade, report, doctor."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest

from at_hand import LABS, ROOT, lab_named, needs_sandbox, results_in, teachgrade
from hostile import notebook, solved
from teachgrade.source import without_solutions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STEM = "kv_cache"
LAB = ROOT / "labs" / STEM
SCHEMAS = ROOT / "src" / "teachgrade" / "schemas"


@pytest.fixture
def handed_in(tmp_path):
    """Ada is right, Bob has one mistake, Cy has done nothing, Di sends a page."""
    folder = tmp_path / "submissions"
    folder.mkdir()
    lab = lab_named(STEM)
    (folder / "ada.ipynb").write_bytes(notebook(solved(lab)))
    (folder / "bob.ipynb").write_bytes(notebook(solved(lab).replace("2 * n_layers", "3 * n_layers")))
    (folder / "cy.ipynb").write_bytes(notebook(without_solutions(lab.source)))
    (folder / "di.ipynb").write_bytes(b"<!doctype html>")
    return folder


@needs_sandbox
@pytest.mark.slow
def test_the_whole_round(tmp_path, handed_in, capsys):
    out, report = tmp_path / "results", tmp_path / "report"
    teachgrade("release", LAB, "--out", tmp_path / "release", "--instructor")
    made = sorted(path.name for path in (tmp_path / "release").iterdir())
    assert made == [f"{STEM}.instructor.ipynb", f"{STEM}.ipynb", f"{STEM}.visible.json"]

    teachgrade("grade", LAB, handed_in, "--out", out, "--json")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"total": 4, "resumed": 0, "by_status": {"graded": 3, "unreadable": 1}}
    found = results_in(out)
    schema = json.loads((SCHEMAS / "result.json").read_text(encoding="utf-8"))
    for one in found.values():
        jsonschema.validate(one, schema)
    most = sum(q.points for q in lab_named(STEM).questions if q.kind == "code")
    assert [found[name]["points"] for name in ("ada", "bob", "cy", "di")] == [most, most - 2, 0, 0]

    (tmp_path / "marks.csv").write_text("student,question,points\nada,q8,1.5\nzoe,q8,1\n", encoding="utf-8")
    times = "student,handed_in\nada,2026-01-01T10:00Z\nbob,2026-01-02T11:00+01:00\n"
    (tmp_path / "times.csv").write_text(times, encoding="utf-8")
    late = ("--due", "2026-01-01T12:00Z", "--handed-in", tmp_path / "times.csv")
    teachgrade("report", LAB, out, "--out", report, "--marks", tmp_path / "marks.csv", *late, expect=1)
    assert "students without a result: zoe" in capsys.readouterr().out
    with (report / "marks.csv").open(encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert float(rows["ada"]["final_points"]) == most + 1.5
    assert float(rows["bob"]["final_points"]) == pytest.approx(0.9 * (most - 2))
    assert rows["bob"]["waits_for"] == "q8"
    assert len(list((report / "feedback").iterdir())) == len(list((report / "gradescope").iterdir())) == 4
    assert "Queries are not kept" in (report / "class.html").read_text(encoding="utf-8")


@needs_sandbox
@pytest.mark.slow
def test_one_question_anew_keeps_the_rest(tmp_path, handed_in):
    """A lab is mended after grading: only q6 is asked again, and only of those who can be asked."""
    lab = tmp_path / STEM
    shutil.copytree(LAB, lab)
    out = tmp_path / "results"
    teachgrade("grade", lab, handed_in, "--out", out)
    before = results_in(out)
    hidden = (lab / "hidden.py").read_text(encoding="utf-8")
    (lab / "hidden.py").write_text(hidden.replace('@hidden("q3"', '@hidden("q6"'), encoding="utf-8")
    # Were q3 asked as well, or q6 not at all, it would show: q3's scenarios now ask for q6.
    teachgrade("grade", lab, handed_in, "--out", out, "--question", "q6")
    after = results_in(out)
    by_id = {name: {q["question"]: q for q in one["questions"]} for name, one in after.items()}
    assert by_id["ada"]["q6"]["hidden_of"] > before["ada"]["questions"][5]["hidden_of"]
    for name in ("ada", "bob", "cy"):
        kept = {q["question"]: q for q in before[name]["questions"] if q["question"] != "q6"}
        assert {q: by_id[name][q] for q in kept} == kept
        assert "asked anew: q6" in after[name]["notes"]
    assert after["di"]["status"] == "unreadable"
    teachgrade("grade", lab, handed_in, "--out", out, "--question", "q6")
    assert results_in(out) == after


@needs_sandbox
@pytest.mark.slow
def test_scenarios_of_ones_own(tmp_path, handed_in):
    private = tmp_path / "private"
    private.mkdir()
    (private / f"{STEM}.py").write_text(
        "from teachgrade.scenario import hidden\n\n\n"
        '@hidden("q6", times=3)\ndef mine(s, draw):\n'
        '    s.see("bytes", s.kv_bytes(*(draw.integer(1, 9) for _ in range(6))))\n',
        encoding="utf-8",
    )
    plain, own = tmp_path / "plain", tmp_path / "own"
    (handed_in / "cy.ipynb").unlink()
    teachgrade("grade", LAB, handed_in, "--out", plain)
    teachgrade("grade", LAB, handed_in, "--out", own, "--private", private)
    of = {
        name: results_in(folder)["ada"]["questions"][5]["hidden_of"]
        for name, folder in (("plain", plain), ("own", own))
    }
    assert of["own"] == of["plain"] + 3
    assert results_in(own)["ada"]["lab_key"] != results_in(plain)["ada"]["lab_key"]


@pytest.mark.slow
def test_check_in_the_shell(tmp_path, capsys):
    lab = lab_named(STEM)
    blank, wrong = tmp_path / "mine.ipynb", tmp_path / "wrong.ipynb"
    shutil.copyfile(LAB / f"{STEM}.ipynb", blank)
    teachgrade("check", blank, expect=1)
    said = capsys.readouterr().out
    assert f"{STEM}.q1: not implemented yet." in said
    assert "0 of 6" in said or "0 of 7" in said
    wrong.write_bytes(notebook(solved(lab).replace("torch.arange(S - T, S)", "torch.arange(T)")))
    teachgrade("check", wrong, "--lab", STEM, expect=1)
    said = capsys.readouterr().out
    (message,) = (one.message for one in lab.bank("wrong") if one.name == "mask_from_the_top")
    assert f"{STEM}.q4: not yet. {message}" in said
    assert "expected" in said
    wrong.write_bytes(notebook(solved(lab)))
    teachgrade("check", wrong, "--lab", STEM)
    assert "More are tried when it is graded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["grade", LAB, "nowhere"], "nowhere: expected a file or folder"),
        (["grade", LAB, ".", "--shard", "x"], "--shard: expected I/N"),
        (["grade", LAB, ".", "--workers", "0"], "--workers"),
        (["grade", LAB, ".", "--question", "q99"], "expected one of q1"),
        (["grade", "nowhere", "."], "nowhere"),
        (["report", LAB, "nowhere"], "no result in nowhere"),
        (["check", "nowhere.ipynb"], "lab: expected one of attention"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teachgrade(*words, expect=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("teachgrade: ")
    assert says in line


def test_it_refuses_without_a_sandbox(tmp_path, handed_in, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    teachgrade("grade", LAB, handed_in, "--out", tmp_path / "out", expect=2)
    assert "no sandbox on this machine" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*.json")) == []
    for name in ("bob", "cy"):
        (handed_in / f"{name}.ipynb").unlink()
    teachgrade("grade", LAB, handed_in, "--out", tmp_path / "out", "--unsafe-no-sandbox")
    found = results_in(tmp_path / "out")
    assert {one["sandbox"] for one in found.values()} == {"none"}
    assert found["ada"]["points"] > 0


@needs_sandbox
@pytest.mark.slow
def test_doctor_tries_and_finds_all_well(capsys):
    teachgrade("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert len(found) >= 14
    assert [one for one in found if not one["ok"]] == []


AS_NOBODY = """
import os, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def as_nobody(*words, **more):
    command = [sys.executable, "-c", AS_NOBODY, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@needs_sandbox
@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="all of this runs as an ordinary user already"
)
def test_an_ordinary_user_grades_too(tmp_path_factory, tmp_path, handed_in):
    """In a user namespace of its own: all that doctor tries holds, and the marks are those that root gets."""
    if as_nobody("-c", "import torch, teachgrade").returncode:
        pytest.skip("this Python cannot be used by another user")
    for name in ("bob", "cy"):
        (handed_in / f"{name}.ipynb").unlink()
    teachgrade("grade", LAB, handed_in, "--out", tmp_path / "root", "--seed", "s")
    base = tmp_path_factory.getbasetemp().parent
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # a worker's folder lies in that of the run
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(base):
            folder.chmod(folder.stat().st_mode | 0o755)
    out = tmp_path / "nobody"
    out.mkdir()
    out.chmod(0o777)
    env = os.environ | {"HOME": str(out)}
    doctor = as_nobody("-m", "teachgrade.cli", "doctor", env=env)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    done = as_nobody("-m", "teachgrade.cli", "grade", LAB, handed_in, "--out", out, "--seed", "s", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    questions = [{n: r["questions"] for n, r in results_in(f).items()} for f in (out, tmp_path / "root")]
    assert questions[0] == questions[1]


@pytest.mark.parametrize("stem", LABS)
def test_labs_follow_their_schema(stem):
    schema = json.loads((SCHEMAS / "lab.json").read_text(encoding="utf-8"))
    found = tomllib.loads((ROOT / "labs" / stem / "lab.toml").read_text(encoding="utf-8"))
    jsonschema.validate(found, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found | {"point": 1}, schema)
