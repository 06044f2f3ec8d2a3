"""The command line: what it prints, where, and the exit code that CI can trust."""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import teachkit as tk
from conftest import unchecked
from teachkit import bench, cli, cost, shapes

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


def test_info_of_a_saved_quantized_model_by_hand(tmp_path, capsys, bundled):
    """Of a block 256 * (256 + 128 + 128 + 256 + 3 * 704) weights in 4.5 bits: 16 bits of scale and 16 of zero
    for 64 weights. Of the head 4096 * 256 in 8 bits, and 4096 scales of 32."""
    tk.save(tk.quantize(bundled, "int4", group_size=64), tmp_path)
    assert cli.main(["info", "--model", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    blocks, head = 6 * 256 * (2 * 256 + 2 * 128 + 3 * 704), 4096 * 256
    n_bits = blocks * 4.5 + head * 8 + 4096 * 32
    assert facts["scheme"] == "int4; head int8"
    assert facts["bits_per_weight"] == pytest.approx(n_bits / (blocks + head))
    assert facts["weight_bytes"] == n_bits / 8 + 13 * 256 * 4  # and 13 norms
    assert facts["parameters"] == blocks + head + 13 * 256
    assert (facts["dtype"], facts["kv_bytes_per_token"]) == ("float32", 6144)


def test_info_of_a_saved_model_keeps_its_dtype(tmp_path, capsys, bundled):
    tk.save(copy.deepcopy(bundled).to(torch.bfloat16), tmp_path)
    for options, dtype, bits in ([], "bfloat16", 16), (["--dtype", "fp32"], "float32", 32):
        assert cli.main(["info", "--model", str(tmp_path), "--json", *options]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["dtype"], facts["scheme"], facts["bits_per_weight"]) == (dtype, dtype, bits)
        assert facts["weight_bytes"] == facts["parameters"] * bits / 8


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


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["generate"], ["info", "--dtype", "int3"], ["estimate", "gpt-2"]]
)
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: teachkit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["generate", "--help"], ["info", "--help"], ["estimate", "--help"]]
)
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


# --- estimate ------------------------------------------------------------------------------------------

ON_A100 = ["--device", "a100-80gb", "--context", "2048"]


def test_estimate(capsys):
    assert cli.main(["estimate", "llama-2-7b", *ON_A100, "--batch", "8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("llama-2-7b on NVIDIA A100 SXM4 80GB\n")
    assert re.search(r"^weights +13\.477 +12\.551$", out, re.M)
    assert re.search(r"^total .* memory$", out, re.M)


def test_estimate_json_takes_every_argument(capsys):
    options = ["--batch", "3", "--prompt", "100", "--tp", "2"]
    options += ["--weight-bits", "4.5", "--act-bits", "16", "--kv-bits", "8"]
    assert cli.main(["estimate", "Llama-2-7B", *ON_A100, *options, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    asked = {"batch": 3, "prompt": 100, "context": 2048, "tp": 2}
    asked |= {"weight_bits": 4.5, "act_bits": 16, "kv_bits": 8}
    assert asked.items() <= data.items()
    step = cost.decode_step(shapes.shape("llama-2-7b").config, 3, 2048, tp=2, weight_bits=4.5, kv_bits=8)
    assert data["decode"]["flops"] == step.flops
    assert data["prefill"]["tokens"] == 300


def test_estimate_takes_the_bundled_model_the_path_of_a_config_and_a_saved_model(capsys, tmp_path, bundled):
    tk.save(tk.quantize(bundled, "int8"), tmp_path)
    for name in ("bundled", str(FOLDER), str(FOLDER / "config.json"), str(tmp_path)):
        assert cli.main(["estimate", name, "--device", "l4", "--context", "99", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({data["parameters"] for data in shown}) == 1
    assert len(shown) == 4


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".SVG", b"<?xml")])
def test_estimate_plot(suffix, begins, tmp_path, capsys):
    path = tmp_path / f"parts{suffix}"
    assert cli.main(["estimate", "gpt-3", *ON_A100, "--tp", "8", "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(begins)
    assert "gpt-3 on 8 x" in capsys.readouterr().out


def test_estimate_here_measures_this_machine(monkeypatch, capsys):
    """Small and fast: the measurement itself is tested in test_bench.py."""
    asked = []

    def quickly(kind):
        asked.append(kind)
        rates = {"fp32": 2e11, "fp16": 1e9, "bf16": 4e11}
        return bench.Machine("a machine", 3e10, rates, overhead_s=2e-6, results=())

    monkeypatch.setattr(bench, "this_machine", quickly)
    assert cli.main(["estimate", "bundled", "--device", "here", "--context", "99", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"teachkit: measuring this machine ({asked[0]})")
    data = json.loads(shown.out)
    assert data["device"] == "a machine"
    assert data["peaks"] == {
        "source": "measured on this machine",
        "bytes_per_s": 3e10,
        "flops_per_s": {"bf16": 4e11},  # of the two 16-bit formats, the faster
        "link_bytes_per_s": None,
    }
    assert data["memory"]["device_bytes"] == bench.memory_bytes(asked[0])
    assert data["notes"] == ["an operation takes 2 us here however small it is: not counted"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lama-2-7b", *ON_A100], "got 'lama-2-7b'; or 'bundled', a folder"),
        (["llama-2-7b", "--device", "a100", "--context", "9"], "got 'a100'; nearest: a100-40gb, a100-80gb"),
        (["llama-2-7b", *ON_A100, "--batch", "99"], "what fits: --batch 67, or --tp 2"),
        (["llama-2-7b", *ON_A100, "--batch", "-1"], "batch: expected a whole number from 1"),
        (["llama-2-7b", *ON_A100, "--weight-bits", "nan"], "weight_bits: expected more than 0"),
        (["llama-2-7b", *ON_A100, "--weight-bits", "inf"], "weight_bits: expected more than 0"),
        (["llama-2-7b", *ON_A100, "--act-bits", "64"], "no published rate for 64-bit operands"),
        (["llama-2-7b", "--device", "m2", "--context", "9", "--tp", "2"], "no published link"),
        (["llama-2-7b", *ON_A100, "--plot", "parts.pdf"], "plot: expected a file name that ends in .png"),
        (["llama-2-7b", *ON_A100, "--plot", "no/such/folder/parts.png"], "No such file or directory"),
    ],
)
def test_bad_estimate_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(["estimate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("teachkit: ")
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 0},
        {"hidden_size": -48},
        {"head_dim": -12},
        {"num_hidden_layers": "2"},
        {"num_key_value_heads": 3},
        {"rope_scaling": 5},
        {"model_type": "bert"},
        {"max_position_embeddings": None},
    ],
    ids=str,
)
def test_estimate_of_a_config_that_cannot_be(changes, tmp_path, capsys):
    raw = {"model_type": "llama", "vocab_size": 100, "hidden_size": 48, "num_hidden_layers": 2}
    raw |= {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
    path = tmp_path / "config.json"
    for change, code in (({}, 0), (changes, 2)):
        path.write_text(json.dumps(raw | change), encoding="utf-8")
        with unchecked():
            assert cli.main(["estimate", str(path), "--device", "l4", "--context", "9"]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_estimate_without_matplotlib_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert (
        cli.main(["estimate", "bundled", *ON_A100[:2], "--context", "9", "--plot", str(tmp_path / "p.png")])
        == 2
    )
    assert "plot: needs matplotlib" in capsys.readouterr().err
