"""tools/lighthouse.py, without Lighthouse: what is served, how it is called, what is read from its report."""

from __future__ import annotations

import gzip
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

import chromium
import lighthouse
import made_book


def audit(identifier, score, **more):
    return {"id": identifier, "title": f"About {identifier}", "score": score, **more}


def report(performance=0.97):
    """As Lighthouse writes it, with what is read of it."""
    audits = [
        audit("whole", 1),
        audit("slow", 0.5, displayValue="2.1 s"),
        audit("unlabelled", 0),
        audit("by-hand", None, scoreDisplayMode="manual"),
        audit("told", 0, scoreDisplayMode="informative"),
    ]
    network = {"details": {"items": [{"transferSize": 1200}, {"transferSize": 34}, {}]}}
    references = [{"id": "whole", "weight": 10}, {"id": "slow", "weight": 10}, {"id": "told", "weight": 5}]
    return {
        "audits": {**{made["id"]: made for made in audits}, "network-requests": network},
        "categories": {
            "performance": {"score": performance, "auditRefs": references},
            "accessibility": {
                "score": 0.9,
                "auditRefs": [{"id": "unlabelled", "weight": 7}, {"id": "by-hand"}],
            },
            "best-practices": {"score": None, "auditRefs": []},
        },
    }


def test_scores_and_what_costs_them_most_first():
    found = lighthouse.read(report())
    assert found.scores == {"performance": 97, "accessibility": 90, "best-practices": 0}
    assert found.failing == [
        "accessibility: About unlabelled (unlabelled); costs 7.0",
        "performance: About slow (slow) 2.1 s; costs 5.0",
    ]
    assert found.n_bytes == 1234


def fetched(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as reply:
        return reply.headers, reply.read()


def test_text_is_served_compressed_to_who_takes_it(tmp_path):
    html = made_book.make(tmp_path)
    page, picture = html / "book" / "intro.html", html / "_images" / "light.png"
    squeezing = {"Accept-Encoding": "gzip"}
    with lighthouse.served(html) as address:
        headers, body = fetched(f"{address}book/intro.html", **squeezing)
        assert (headers["Content-Encoding"], headers["Content-Type"]) == ("gzip", "text/html; charset=utf-8")
        assert len(body) == int(headers["Content-Length"]) < page.stat().st_size
        assert gzip.decompress(body) == page.read_bytes()
        headers, body = fetched(f"{address}book/intro.html")
        assert (headers["Content-Encoding"], body) == (None, page.read_bytes())
        headers, body = fetched(f"{address}_images/light.png", **squeezing)
        assert (headers["Content-Encoding"], body) == (None, picture.read_bytes())
        assert fetched(address)[1] == (html / "index.html").read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(f"{address}book/gone.html")
    with pytest.raises(urllib.error.URLError):
        fetched(address)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """In place of programs: what was called; `node` and `writes` say what they answer."""
    made = SimpleNamespace(calls=[], node="v22.19.0", writes=report(), late=False)

    def run(command, **options):
        made.calls.append((command, options))
        if command[1:] == ["--version"]:
            return subprocess.CompletedProcess(command, 0, f"{made.node}\n", "")
        if made.late:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        if made.writes:
            (path,) = [word.partition("=")[2] for word in command if word.startswith("--output-path=")]
            Path(path).write_text(json.dumps(made.writes))
        return subprocess.CompletedProcess(command, 0, "", "it said nothing")

    monkeypatch.setattr(lighthouse.subprocess, "run", run)
    monkeypatch.setattr(lighthouse.shutil, "which", lambda name: f"/programs/{name}.cmd")
    monkeypatch.setattr(chromium, "installed", lambda: "/programs/chromium")
    return made


def test_each_page_is_rated_as_telephone_and_desktop(runs, tmp_path, capsys):
    html = made_book.make(tmp_path)
    runs.writes["categories"] = {key: {"score": 0.95, "auditRefs": []} for key in lighthouse.CATEGORIES}
    assert lighthouse.main(["--root", str(tmp_path)]) == 0
    heaviest = max(html.glob("notebooks/*.html"), key=lambda path: path.stat().st_size).stem
    said = capsys.readouterr().out
    calls = [command for command, _ in runs.calls[1:]]
    assert [
        command[3].partition("/book/")[2] or command[3].partition("/notebooks/")[2] for command in calls
    ] == [
        *["intro.html"] * 2,
        *[f"{heaviest}.html"] * 2,
    ]
    assert ["--preset=desktop" in command for command in calls] == [False, True] * 2
    assert said.count("performance 95, accessibility 95, best-practices 95; 0.00 MB") == 4
    runs.writes["categories"]["accessibility"]["score"] = 0.94
    assert lighthouse.main(["--root", str(tmp_path), "--pages", "book/intro", "--presets", "mobile"]) == 1


def test_it_is_started_by_its_path_with_an_end_and_the_browser_found(runs, tmp_path, monkeypatch):
    lighthouse.measure("/programs/npx.cmd", "http://x/", "mobile", tmp_path / "a.json")
    command, options = runs.calls[-1]
    assert command[:3] == ["/programs/npx.cmd", "--yes", f"lighthouse@{lighthouse.VERSION}"]
    assert options["timeout"] == lighthouse.TIMEOUT_S
    assert options["env"]["CHROME_PATH"] == "/programs/chromium"
    monkeypatch.delenv("CHROME_PATH", raising=False)
    monkeypatch.setattr(chromium, "installed", lambda: None)
    lighthouse.measure("/programs/npx.cmd", "http://x/", "mobile", tmp_path / "a.json")
    assert "CHROME_PATH" not in runs.calls[-1][1]["env"]


def test_the_report_of_an_earlier_run_is_no_answer(runs, tmp_path):
    out = tmp_path / "a.json"
    lighthouse.measure("npx", "http://x/", "mobile", out)
    runs.writes = None
    with pytest.raises(RuntimeError, match="it said nothing"):
        lighthouse.measure("npx", "http://x/", "mobile", out)


def test_a_run_that_hangs_is_ended(runs, tmp_path):
    runs.late = True
    with pytest.raises(RuntimeError, match=r"longer than 600 s on http://x/"):
        lighthouse.measure("npx", "http://x/", "mobile", tmp_path / "a.json")


@pytest.mark.parametrize("node", ["v22.18.9", "v20.20.2", "v9.30.0", ""])
def test_an_old_node_is_refused_before_anything_runs(runs, node, tmp_path):
    made_book.make(tmp_path)
    runs.node = node
    with pytest.raises(SystemExit, match=rf"Node\.js 22\.19 or later; there is {node or 'none'}\."):
        lighthouse.main(["--root", str(tmp_path)])
    assert len(runs.calls) == 1


@pytest.mark.parametrize("node", ["v22.19.0", "v22.20.1", "v24.0.0"])
def test_a_newer_node_is_taken(runs, node):
    runs.node = node
    assert lighthouse.npx() == "/programs/npx.cmd"


@pytest.mark.parametrize("gone", ["npx", "node"])
def test_a_missing_program_is_named(runs, monkeypatch, gone):
    monkeypatch.setattr(
        lighthouse.shutil, "which", lambda name: None if name == gone else f"/programs/{name}"
    )
    with pytest.raises(SystemExit, match=r"needs npx, and Node\.js"):
        lighthouse.npx()
