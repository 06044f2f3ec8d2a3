"""teachkit replay: what it prints and writes, what is refused, and the exit code."""

from __future__ import annotations

import importlib.util
import io
import json
import re

import pytest
from rich.console import Console

import teachkit as tk
from teachkit import cli, cli_replay, measure, trace
from teachkit.cli_replay import View, in_words, picture
from teachkit.outcome import Progress
from test_completions import begin, good, server

QUICK = ["--requests", "3", "--arrivals", "at-once", "--prompt-median", "5", "--output-median", "3"]


@pytest.fixture(autouse=True)
def loaded_once(bundled, monkeypatch):
    load = tk.load
    monkeypatch.setattr(
        cli, "load", lambda name, **rest: bundled if name == "bundled" else load(name, **rest)
    )


def run(capsys, *arguments, code=0):
    assert cli.main(["replay", *arguments]) == code
    return capsys.readouterr()


def made(tmp_path, *requests, ignore_eos=True):
    path = tmp_path / "t.jsonl"
    trace.save(trace.Trace("mine", requests, ignore_eos), path)
    return str(path)


def test_a_made_trace(capsys):
    shown = run(capsys, *QUICK)
    assert shown.out.startswith("**3 requests, at once, seed 0**, served by teachkit (bundled)\n")
    assert re.search(r"^\| time to first token \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", shown.out, re.M)
    assert "- 3 requests (3 length)" in shown.out
    lines = shown.err.splitlines()
    assert lines
    assert all(re.match(r"teachkit: [\d.]+ s: \d of 3 requests done, ", line) for line in lines)
    assert "3 of 3 requests done, 0 running, 0 waiting" in lines[-1]


def test_json_of_a_trace_from_a_file(capsys, tmp_path, bundled):
    prompt = tuple(bundled.tokenizer.encode("import os"))
    path = made(
        tmp_path,
        trace.TraceRequest(0.0, 9, prompt),
        trace.TraceRequest(0.05, 7, prompt, temperature=1.2, top_k=9, seed=3),
    )
    data = json.loads(run(capsys, path, "--json", "--blocks", "8", "--max-batch-tokens", "5").out)
    one, two = data["requests"]
    assert one["text"] == tk.generate(bundled, list(prompt), 9).text
    assert two["text"] == tk.generate(bundled, list(prompt), 7, tk.sampler(temperature=1.2, top_k=9), 3).text
    assert [one["output_tokens"], two["output_tokens"]] == [9, 7]
    assert (data["trace"], data["served_by"], data["failed"]) == ("mine", "teachkit", 0)
    assert data["settings"]["n_blocks"] == 8
    assert data["settings"]["prompts"] == "of the trace"
    assert data["output_tokens_per_s"] == pytest.approx(16 / data["elapsed_s"])


def test_options_reach_the_engine(capsys):
    options = ["--blocks", "40", "--block-size", "8", "--max-batch-tokens", "33", "--max-batch", "2"]
    settings = json.loads(run(capsys, *QUICK, "--json", *options, "--no-reuse", "--kv-bits", "8").out)[
        "settings"
    ]
    settings.pop("prompts")
    assert settings == {
        "model": "bundled",
        "dtype": "float32",
        "device": "cpu",
        "n_blocks": 40,
        "block_size": 8,
        "max_batch_tokens": 33,
        "max_batch": 2,
        "reuse": False,
        "kv_bits": 8,
    }


def test_options_reach_the_trace(capsys, tmp_path):
    path = tmp_path / "saved.jsonl"
    options = [
        "--requests",
        "4",
        "--rate",
        "50",
        "--arrivals",
        "bursty",
        "--seed",
        "6",
        "--shared-prefix",
        "20",
    ]
    run(capsys, *options, "--prompt-median", "4", "--output-median", "2", "--save-trace", str(path))
    lengths = trace.make(
        4,
        seed=6,
        arrivals="bursty",
        rate_per_s=50,
        shared_prefix_tokens=20,
        prompt_median=4,
        output_median=2,
    )
    saved = trace.load(path)
    assert [(one.arrival_s, one.n_prompt, one.max_new_tokens) for one in saved.requests] == [
        (one.arrival_s, one.n_prompt, one.max_new_tokens) for one in lengths.requests
    ]
    assert len({one.prompt[:20] for one in saved.requests}) == 1
    assert saved.ignore_eos
    assert saved.name == "4 requests, bursty, 50 a second, seed 6"


def test_prompts_are_of_text_that_the_model_was_not_trained_on(capsys, tmp_path, bundled):
    path = tmp_path / "saved.jsonl"
    data = json.loads(run(capsys, *QUICK, "--json", "--save-trace", str(path)).out)
    assert data["settings"]["prompts"] == "cut from 35 files kept out of the training of 'bundled'"
    held = json.loads((tk.weights.find("bundled") / "heldout.json").read_text(encoding="utf-8"))
    everything = "".join(held.values())
    for one in trace.load(path).requests:
        words = bundled.tokenizer.decode(one.prompt).replace("\ufffd", "")
        assert words in everything


def test_default_is_poisson(capsys, monkeypatch):
    asked = {}
    monkeypatch.setattr(trace, "make", lambda n, **rest: asked.update(n=n, **rest) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["replay"])
    asked.pop("source")
    assert asked == {"n": 16, "seed": 0, "arrivals": "poisson", "rate_per_s": 2.0}


def test_a_model_without_a_tokenizer_gets_any_ids(capsys, tmp_path, bundled, monkeypatch):
    monkeypatch.setattr(bundled, "tokenizer", None)
    data = json.loads(run(capsys, *QUICK, "--json").out)
    assert data["settings"]["prompts"] == "ids drawn from the vocabulary"
    assert [one["output_tokens"] for one in data["requests"]] == [
        one.max_new_tokens for one in trace.make(3, prompt_median=5, output_median=3).requests
    ]


def test_out(capsys, tmp_path):
    folder = tmp_path / "new" / "folder"
    for _ in range(2):  # a second run replaces the first
        shown = run(capsys, *QUICK, "--out", str(folder))
    names = {"replay.md", "replay.jsonl", "replay.svg", "trace.jsonl"}
    assert {path.name for path in folder.iterdir()} == names
    report = (folder / "replay.md").read_text(encoding="utf-8")
    assert report.startswith(shown.out)
    alt = re.search(r"!\[(.+)\]\(replay.svg\)", report)[1]
    assert alt.startswith("3 requests, at once, seed 0: teachkit. 3 requests over time")
    assert alt in (folder / "replay.svg").read_text(encoding="utf-8")
    found = measure.read(folder / "replay.jsonl")
    assert [r.config["request"] for r in found if r.name == "replay.ttft"] == [0, 1, 2]
    assert [r.config["request"] for r in found if r.name == "replay.queue"] == [0, 1, 2]
    again = json.loads(run(capsys, str(folder / "trace.jsonl"), "--json").out)
    lengths = [r.config["output_tokens"] for r in found if r.name == "replay.ttft"]
    assert [one["output_tokens"] for one in again["requests"]] == lengths


def test_a_request_that_fails_is_code_1_and_the_rest_is_served(capsys, tmp_path):
    path = made(tmp_path, trace.TraceRequest(0.0, 3, (5, 6)), trace.TraceRequest(0.0, 900, (5, 6)))
    shown = run(capsys, path, "--blocks", "4", "--out", str(tmp_path / "out"), code=1)
    assert "- 2 requests (1 length, 1 error)" in shown.out
    assert "- request 1 failed: prompt of 2 tokens and max_new_tokens 900: need" in shown.out
    assert "(1 failed)" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.jsonl"], "no/such.jsonl"),
        (["--requests", "0"], "n: expected a whole number of at least 1; got 0"),
        (["--rate", "-1"], "rate_per_s: expected more than 0; got -1.0"),
        (["--rate", "2", "--arrivals", "at-once"], "rate_per_s: expected none where all come at once"),
        (["--blocks", "0"], "n_blocks"),
        (["--block-size", "0"], "block_size"),
        (["--max-batch-tokens", "0"], "max_batch_tokens, max_batch: expected at least 1"),
        (["--model", "no/such/folder"], "no/such/folder: expected 'bundled', a folder"),
        (["--served-model", "m"], "--served-model: expected only with --url"),
        (["--url", "http://127.0.0.1:9/v1"], "--served-model: expected with --url"),
        (["--url", "here", "--served-model", "m"], "url: expected one such as http://localhost:8000/v1"),
        (["--url", "http://127.0.0.1:9/v1", "--blocks", "9"], "--blocks: expected for the engine of teachk"),
        (["--url", "http://127.0.0.1:9/v1", "--no-reuse"], "--no-reuse: expected for the engine of teachki"),
    ],
)  # fmt: skip
def test_bad_usage_is_code_2(arguments, message, capsys):
    shown = run(capsys, *arguments, code=2)
    assert message in shown.err.splitlines()[-1]
    assert shown.out == ""


def test_a_malformed_trace_is_code_2_and_names_the_line(capsys, tmp_path, monkeypatch):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"teachkit_trace": 1}\n{"arrival_s": -1, "max_new_tokens": 3, "prompt": [1]}\n')
    monkeypatch.setattr(cli, "load", lambda *_, **__: pytest.fail("weights were read first"))
    shown = run(capsys, str(path), code=2)
    assert f"{path}, line 2: arrival_s: expected a number of at least 0; got -1.0" in shown.err


@pytest.mark.parametrize("option", [["--seed", "0"], ["--requests", "3"], ["--save-trace", "x"]])
def test_a_trace_is_given_or_made(option, capsys, tmp_path):
    path = made(tmp_path, trace.TraceRequest(0.0, 3, (5, 6)))
    assert f"{option[0]}: expected for a trace that is made" in run(capsys, path, *option, code=2).err


def test_a_folder_that_cannot_be_is_told_before_anything_is_played(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cli_replay, "play", lambda *_: pytest.fail("it was played first"))
    assert "file" in run(capsys, "--out", str(tmp_path / "file"), code=2).err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "replay.svg needs matplotlib" in run(capsys, "--out", str(tmp_path / "new"), code=2).err


# Another server


def test_the_same_trace_on_another_server(capsys, tmp_path, monkeypatch):
    run(capsys, *QUICK, "--out", str(tmp_path / "ours"))
    monkeypatch.setattr(cli, "load", lambda *_, **__: pytest.fail("it has weights of its own"))
    with server(good) as (url, bodies):
        options = ["--url", url, "--served-model", "m", "--out", str(tmp_path / "theirs")]
        shown = run(capsys, str(tmp_path / "ours" / "trace.jsonl"), *options)
    assert shown.out.startswith(f"**3 requests, at once, seed 0**, served by {url} (m)\n")
    assert "| in the queue | – | – | – |" in shown.out
    asked = {tuple(body["prompt"]): body["max_tokens"] for _, body in bodies}
    played = trace.load(tmp_path / "ours" / "trace.jsonl").requests
    assert asked == {one.prompt: one.max_new_tokens for one in played}
    ours, theirs = (measure.read(tmp_path / who / "replay.jsonl") for who in ("ours", "theirs"))
    lengths = [[r.config["output_tokens"] for r in of if r.name == "replay.ttft"] for of in (ours, theirs)]
    assert lengths[0] == lengths[1]
    traces = [(tmp_path / who / "trace.jsonl").read_bytes() for who in ("ours", "theirs")]
    assert traces[0] == traces[1]


def test_a_trace_is_made_for_another_server_without_weights(capsys, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda *_, **__: pytest.fail("it has weights of its own"))
    with server(good) as (url, bodies):
        data = json.loads(run(capsys, *QUICK, "--json", "--url", url, "--served-model", "m").out)
    assert data["settings"]["prompts"].startswith("cut from 35 files")
    assert data["device"] == f"server at {url}"
    assert len(bodies) == 3


def test_lengths_are_filled_alike_for_both(capsys, tmp_path):
    path = tmp_path / "lengths.jsonl"
    trace.save(trace.make(2, prompt_median=6, output_median=2), path)
    ours = tmp_path / "ours"
    run(capsys, str(path), "--out", str(ours))
    with server(good) as (url, bodies):
        run(capsys, str(path), "--url", url, "--served-model", "m")
    prompts = sorted(one.prompt for one in trace.load(ours / "trace.jsonl").requests)
    assert sorted(tuple(body["prompt"]) for _, body in bodies) == prompts


def test_a_server_that_refuses_is_code_1(capsys):
    with server(lambda handler, body: begin(handler, 500)) as (url, _):
        shown = run(capsys, *QUICK, "--url", url, "--served-model", "m", code=1)
    assert "- request 0 failed: HTTP 500: no reason given" in shown.out


# The view

NOW = Progress(12.34, 16, waiting=2, running=3, done=5, failed=1, tokens=1234, blocks_used=40, n_blocks=256)


def test_how_far_it_is_in_words():
    assert in_words(NOW) == (
        "12.3 s: 5 of 16 requests done (1 failed), 3 running, 2 waiting, 1,234 tokens, 40 of 256 blocks"
    )
    assert in_words(Progress(1.0, 2, 1, 1, 0, 0, 7)).endswith("1 running, 1 waiting, 7 tokens")


def test_how_far_it_is_on_a_terminal():
    drawn = io.StringIO()
    Console(file=drawn, force_terminal=True, width=110, color_system=None).print(picture(NOW))
    lines = drawn.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["requests", "blocks", "time"]
    assert "5 of 16 done, 1 failed, 3 running, 2 waiting" in lines[0]
    assert "40 of 256" in lines[1]
    assert "1,234 tokens, 100 a second so far" in lines[2]


def test_a_terminal_gets_one_picture_and_a_file_gets_lines(monkeypatch, capsys):
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=110)
    view = View()
    monkeypatch.setattr(view, "_console", console)
    with view:
        view.show(NOW)
        view.show(NOW)  # a moment later: not drawn again
        assert drawn.getvalue().count("40 of 256") == 1
    assert drawn.getvalue().endswith("\x1b[2K")  # it is wiped off in the end
    assert capsys.readouterr().err == ""
    with View() as plain:
        plain.show(NOW)
        plain.show(NOW)
        plain.show(Progress(13.0, 16, 0, 0, 16, 1, 1300))  # the last is always told
    assert [line.split(" s: ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "teachkit: 12.3",
        "teachkit: 13.0",
    ]


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["replay", "--help"])
    assert stopped.value.code == 0
    assert "--served-model" in capsys.readouterr().out
