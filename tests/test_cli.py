"""The command line: what it prints, where, and the exit code that CI can trust."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import teachkit as tk
from teachkit import cli

FOLDER = tk.weights.find("bundled")


@pytest.fixture(autouse=True)
def loaded_once(bundled, monkeypatch):
    """The bundled model is loaded once for all tests; other names are loaded as they are."""
    load = tk.load
    monkeypatch.setattr(
        cli, "load", lambda name, **kwargs: bundled if name == "bundled" else load(name, **kwargs)
    )


def test_generate_prints_prompt_text_and_speed(capsys, bundled):
    assert cli.main(["generate", "def ", "--max-new-tokens", "9"]) == 0
    out = capsys.readouterr().out
    made = tk.generate(bundled, "def ", 9)
    assert out.startswith("def " + made.text)
    assert re.search(r"9 tokens \(length\) · TTFT [\d.]+ ms · TPOT [\d.]+ ms · \d+ tokens/s\n$", out)


def test_generate_one_token_has_no_tpot(capsys):
    assert cli.main(["generate", "def ", "--max-new-tokens", "1"]) == 0
    out = capsys.readouterr().out
    assert "TTFT" in out
    assert "TPOT" not in out


def test_generate_json(capsys, bundled):
    assert cli.main(["generate", "def ", "--max-new-tokens", "5", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["tokens"] == tk.generate(bundled, "def ", 5).tokens
    assert made["finish"] == "length"
    assert made["tokens_per_s"] == pytest.approx(1 / made["tpot_s"])
    assert made["ttft_s"] > 0


def test_generate_json_of_one_token_is_json(capsys):
    assert cli.main(["generate", "def ", "--max-new-tokens", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tpot_s"] is None


def test_sampling_options_reach_the_sampler(capsys, bundled):
    options = ["--temperature", "1.5", "--top-k", "40", "--top-p", "0.9", "--seed", "3"]
    assert cli.main(["generate", "x", "--max-new-tokens", "9", "--json", *options]) == 0
    sample = tk.sampler(temperature=1.5, top_k=40, top_p=0.9)
    assert json.loads(capsys.readouterr().out)["tokens"] == tk.generate(bundled, "x", 9, sample, 3).tokens


def test_stop_may_be_repeated(capsys):
    arguments = ["--stop", "zzz", "--stop", "\n", "--max-new-tokens", "200", "--json"]
    assert cli.main(["generate", "import os", *arguments]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["finish"] == "stop"
    assert "\n" not in made["text"]


def test_info(capsys, bundled):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    n = sum(p.numel() for p in bundled.parameters())
    assert re.search(rf"^parameters +{n:,}$", out, re.M)
    assert re.search(rf"^weight_bytes +{4 * n:,}$", out, re.M)


def test_info_json_by_hand(capsys):
    """2 tensors (K, V) * 6 layers * 2 heads * 64 numbers * 4 bytes = 6,144 bytes per token."""
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kv_bytes_per_token"] == 6144
    assert facts["kv_bytes_at_full_context"] == 6144 * facts["context"]
    assert facts["dtype"] == "float32"


def test_dtype_and_folder(tmp_path, capsys):
    folder = shutil.copytree(tk.weights.find("bundled"), tmp_path / "model")
    assert cli.main(["info", "--json", "--model", str(folder), "--dtype", "bf16"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["dtype"], facts["weight_bytes"]) == ("bfloat16", 2 * facts["parameters"])
    assert facts["kv_bytes_per_token"] == 3072


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--model", "no/such/folder"], "expected 'bundled', a folder, or 'org/name'"),
        (["info", "--model", str(FOLDER), "--device", "nowhere"], "device: 'nowhere' is not there"),
        (["generate", "\udcff"], "text: expected Unicode characters"),
        (["generate", "x", "--max-new-tokens", "0"], "max_new_tokens: expected at least 1"),
        (["generate", "x", "--top-k", "5"], "--temperature: expected more than 0"),
        (["generate", "x", "--temperature", "-1"], "--temperature: expected more than 0"),
        (["generate", "x", "--temperature", "1", "--top-p", "2"], "top_p: expected a number in"),
        (["generate", "word " * 3000], "prompt: expected fewer than"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(arguments, message, capsys):
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("teachkit: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_damaged_weights_are_one_line_and_exit_code_1(tmp_path, capsys):
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert cli.main(["info", "--model", str(folder)]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "model.safetensors: damaged or truncated" in captured.err


def test_output_that_cannot_show_every_character(monkeypatch):
    """A pipe in a narrow encoding, as on Windows: what it lacks becomes "?", and the run goes on."""
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main(["generate", "# é🙂", "--max-new-tokens", "2"]) == 0
    pipe.flush()
    assert pipe.buffer.getvalue().startswith(b"# ??")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["generate"], ["info", "--dtype", "int3"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: teachkit" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["info", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    assert "usage: teachkit" in capsys.readouterr().out


def test_installed_program(tmp_path):
    """The program itself, from another folder, as a user starts it."""
    program = Path(sys.executable).parent / "teachkit"
    ran = subprocess.run(
        [str(program), "generate", "def ", "--max-new-tokens", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert ran.stdout.startswith("def ")
    assert ran.stderr == ""
