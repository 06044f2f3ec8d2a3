"""teachkit bench: what it prints, what it writes, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

import teachkit as tk
from teachkit import bench, cli, cli_bench, heldout, measure, table

FOLDER = tk.weights.find("bundled")
QUICK = ["--eager", "--sample", "700", "--tokens", "1", "--turns", "1", "--context", "9"]


@pytest.fixture(autouse=True)
def quick_machine(bundled, monkeypatch):
    """Measuring the machine is tested in test_bench.py; the bundled model is loaded once."""

    def known(**options):
        assert options == {"formats": ("fp32", "bf16")}
        return bench.Machine("a machine", 1e9, {"fp32": 1e12, "bf16": 1e12}, overhead_s=0.0, results=())

    load = tk.load
    monkeypatch.setattr(bench, "this_machine", known)
    monkeypatch.setattr(
        cli_bench, "load", lambda name, **rest: bundled if name == "bundled" else load(name, **rest)
    )


def run(capsys, *arguments):
    assert cli.main(["bench", *QUICK, *arguments]) == 0
    return capsys.readouterr()


def test_markdown(capsys):
    shown = run(capsys, "--rows", "int8-kv", "int8")
    rows = [line.split(" | ")[0] for line in shown.out.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| fp32", "| int8, a scale per output", "| fp32, keys and values int8"]
    assert "a sample of 35 files kept out of the training of 'bundled'" in shown.out
    assert re.search(r"^teachkit: judging by a sample of 35 files .*, \d+ bytes$", shown.err, re.M)
    assert all(line.startswith("teachkit: ") for line in shown.err.splitlines())


def test_json_of_the_bundled_model_by_hand(capsys, bundled):
    data = json.loads(run(capsys, "--rows", "bf16", "--json").out)
    plain, narrow = data["rows"]
    matrices = sum(p.numel() for p in bundled.parameters()) - 13 * 256
    assert (plain["weight_bytes"], narrow["weight_bytes"]) == (4 * matrices, 2 * matrices)
    assert plain["kv_bytes"] == 9 * bundled.config.kv_bytes_per_token(4)
    texts = heldout.sample(heldout.held_out(FOLDER), 700)
    assert plain["bits_per_byte"] == pytest.approx(tk.evaluate.bits_per_byte(bundled, texts.texts), rel=1e-9)
    assert data["texts"]["bytes"] == texts.n_bytes <= 700
    assert (data["tokens"], data["turns"], data["context"]) == (1, 1, 9)
    assert data["calibration"] is None


def test_texts_and_calibration_from_files(capsys, tmp_path):
    (tmp_path / "judged.py").write_text("import os\n" * 9, encoding="utf-8")
    (tmp_path / "other.py").write_text("class A:\n    pass\n" * 9, encoding="utf-8")
    files = ["--texts", str(tmp_path / "judged.py"), "--calibration", str(tmp_path / "other.py")]
    data = json.loads(run(capsys, "--rows", "int4-gptq", "--json", *files).out)
    assert data["texts"] == {"source": "a sample of judged.py", "bytes": 90}
    assert data["calibration"] == {"source": "other.py", "bytes": 162}


def test_calibration_is_training_text_by_default(monkeypatch, capsys):
    asked = []
    training = heldout.Texts("trained on", ("def f(x):\n    return x\n" * 9,))
    monkeypatch.setattr(heldout, "training", lambda folder: asked.append(folder) or training)
    data = json.loads(run(capsys, "--rows", "int4-gptq", "--json").out)
    assert data["calibration"]["source"] == "trained on"
    assert asked == [FOLDER]
    run(capsys, "--rows", "int4-rtn")
    assert len(asked) == 1  # not looked for where no row needs it


def test_a_folder_without_texts_takes_those_of_the_bundled_model(capsys, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(FOLDER / name, tmp_path)
    data = json.loads(run(capsys, "--model", str(tmp_path), "--rows", "fp32", "--json").out)
    assert "the training of 'bundled'" in data["texts"]["source"]
    assert data["model"] == str(tmp_path)


def test_out(capsys, tmp_path):
    folder = tmp_path / "new" / "folder"
    for _ in range(2):  # a second run replaces the first
        shown = run(capsys, "--rows", "bf16", "--out", str(folder))
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.jsonl", "table.svg"}
    assert (folder / "table.md").read_text(encoding="utf-8") == shown.out
    found = measure.read(folder / "table.jsonl")
    assert [r.config["row"] for r in found if r.name == "table.bits_per_byte"] == ["fp32", "bf16"]
    assert (folder / "table.svg").read_bytes().startswith(b"<?xml")


def test_options_reach_the_run(monkeypatch, capsys):
    asked = {}

    def recorded(*_, **options):
        asked.update(options)
        raise ValueError("that is all")

    monkeypatch.setattr(table, "run", recorded)
    assert cli.main(["bench", "--rows", "bf16", "--tokens", "7", "--turns", "3", "--context", "77"]) == 2
    asked.pop("progress")
    assert asked == {"rows": ["bf16"], "tokens": 7, "turns": 3, "context": 77, "compiling": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "int3"], "rows: expected some of fp32, bf16"),
        (["--texts", "no/such/file"], "no/such/file"),
        (["--sample", "3"], "sample: expected a byte for each of 35 texts, got 3"),
        (["--context", "9999"], "context: expected 2 to the model's 1024, got 9999"),
        (["--tokens", "0"], "tokens, turns: expected at least 1, got 0 and 1"),
        (["--model", "no/such/folder"], "no/such/folder: expected 'bundled', a folder"),
    ],
)
def test_bad_input_is_named_and_exit_code_2(arguments, message, capsys):
    assert cli.main(["bench", *QUICK, "--rows", "bf16", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert captured.out == ""


def test_empty_text(capsys, tmp_path):
    (tmp_path / "empty.txt").touch()
    assert cli.main(["bench", "--rows", "bf16", "--texts", str(tmp_path / "empty.txt")]) == 2
    assert "texts: expected at least one byte, got none from empty.txt" in capsys.readouterr().err


def test_a_quantized_model(capsys, tmp_path, bundled):
    tk.save(tk.quantize(bundled, "int8"), tmp_path)
    assert cli.main(["bench", *QUICK, "--rows", "bf16", "--model", str(tmp_path)]) == 2
    assert "model: expected all matrices in float32, got int8" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert cli.main(["bench", *QUICK, "--rows", "bf16", "--out", str(tmp_path)]) == 2
    assert "out: table.svg needs matplotlib" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "--help"])
    assert stopped.value.code == 0
    assert "int4-gptq" in capsys.readouterr().out
