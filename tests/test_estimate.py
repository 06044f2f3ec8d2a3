"""What a model asks of a device: by hand, against the modules that count, and every argument at its worst."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from conftest import unchecked
from teachkit import cost, roofline
from teachkit.config import ConfigError, ModelConfig
from teachkit.estimate import estimate, find_config
from teachkit.hardware import DEVICES, device
from teachkit.memory import memory
from teachkit.report import as_data, as_text
from teachkit.shapes import SHAPES, shape

A100 = device("a100-80gb")
LLAMA = shape("llama-2-7b").config


def of(config=LLAMA, part=A100, **sizes):
    return estimate("a model", config, part, **({"batch": 8, "context": 4096} | sizes))


# --- which config --------------------------------------------------------------------------------------


def test_a_published_name_in_any_spelling():
    assert find_config("llama-2-7b") is find_config("Llama 2 7B") is LLAMA


def test_the_bundled_model_a_folder_and_a_path(bundled, tmp_path):
    assert find_config("bundled") == bundled.config
    raw = {"model_type": "llama", "vocab_size": 100, "hidden_size": 48, "num_hidden_layers": 2}
    raw |= {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    (tmp_path / "other.json").write_text(json.dumps(raw | {"hidden_size": 64}), encoding="utf-8")
    assert find_config(str(tmp_path)) == find_config(str(tmp_path / "config.json"))
    assert find_config(str(tmp_path)).d_model == 48
    assert find_config(str(tmp_path / "other.json")).d_model == 64


def test_a_published_name_means_the_same_in_every_folder(tmp_path, monkeypatch):
    (tmp_path / "llama-2-7b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_config("llama-2-7b") is LLAMA
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        find_config("./llama-2-7b")


def test_a_config_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"such as llama-2-7b.*got 'lama-2-7b'; or 'bundled', a folder"):
        find_config("lama-2-7b")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model_type: expected one of .*; got 'bert'"):
        find_config(str(tmp_path))


# --- what comes out ------------------------------------------------------------------------------------


def test_llama_on_an_a100_by_hand():
    """A step reads 6.6e9 weights and 2 GiB a sequence, and writes the new tokens': 15 ms at 2,039 GB/s."""
    found = of()
    read = 2 * (LLAMA.n_layers * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096) + 8 * 2**31
    assert found.decode.bound.seconds == pytest.approx(read / 2039e9, rel=2e-3)
    assert found.decode.bound.side == "memory"
    assert found.prefill.bound.side == "compute"
    assert found.decode.tokens_per_s == 8 / found.decode.bound.seconds
    assert found.prefill.tokens_per_s == 8 * 4096 / found.prefill.bound.seconds
    assert found.critical_batch == pytest.approx(312e12 / 2039e9)
    assert found.turning_batch is None
    assert found.largest_batch == 33


def test_a_million_tokens_cost_what_the_hours_cost():
    found = of(tp=4)
    hours = 1e6 / found.decode.tokens_per_s / 3600
    assert found.decode.usd_per_million_tokens == pytest.approx(hours * 4 * A100.price_usd_per_hour)
    free = replace(A100, price_usd_per_hour=None, price_date=None, price_source=None)
    assert of(part=free).decode.usd_per_million_tokens is None
    assert as_data(of(part=free))["price"] is None
    assert "USD" not in as_text(of(part=free))


def test_arguments_reach_the_counts():
    bits = {"weight_bits": 4.5, "act_bits": 16, "kv_bits": 8}
    found = of(prompt=100, tp=2, **bits)
    assert found.decode.cost == cost.decode_step(LLAMA, 8, 4096, tp=2, **bits)
    assert found.prefill.cost == cost.prefill(LLAMA, 8, 100, tp=2, **bits)
    assert found.memory == memory(LLAMA, 8, 4096, tp=2, **bits)
    assert found.decode.bound == roofline.time_bound(found.decode.cost, A100)
    assert found.turning_batch == roofline.turning_batch(LLAMA, A100, 4096, tp=2, **bits)
    assert found.critical_batch == roofline.critical_batch(A100, weight_bits=4.5)


def test_a_vocabulary_that_tp_does_not_divide_is_padded_and_said_so():
    gpt3 = shape("gpt-3").config
    found = of(gpt3, batch=4, context=2048, tp=8)
    assert found.notes == ("vocabulary padded from 50,257 to 50,264, so that 8 devices share it evenly",)
    assert found.decode.cost == cost.decode_step(replace(gpt3, vocab_size=50264), 4, 2048, tp=8)
    assert as_data(found)["parameters"] == sum(cost.parameters(gpt3).values()) == 174_604_259_328
    assert of(tp=8).notes == of(gpt3, batch=1, context=9, part=device("h200"), weight_bits=4).notes == ()


@pytest.mark.parametrize("part", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("name", SHAPES)
def test_every_published_pair_gives_finite_numbers_or_one_line(name, part):
    config, sizes = SHAPES[name].config, {"batch": 2, "context": 1024}
    if memory(config, **sizes).total_bytes > part.memory_bytes:
        with pytest.raises(ValueError, match=r"^batch: 2 sequences of 1,024 tokens need ") as raised:
            estimate(name, config, part, **sizes)
        assert re.search(r"; (what fits: --|take a device with more memory)[^\n]*$", str(raised.value))
        return
    found = estimate(name, config, part, **sizes)
    assert json.loads(json.dumps(as_data(found), allow_nan=False))["decode"]["seconds"] > 0
    assert not {"nan", "inf", "None"} & set(as_text(found).split())


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        *(
            ({name: 0}, f"{name}: expected a whole number from 1")
            for name in ("batch", "context", "prompt", "tp")
        ),
        ({"batch": 10**400}, "batch: expected a whole number from 1 to 1000000000, got 1000"),
        ({"batch": 1.5}, "batch: expected a whole number of at least 1, got 1.5"),
        ({"prompt": 4097}, "prompt: expected at most the context of 4096 tokens, got 4097"),
        ({"context": 4097}, "context: expected at most the model's 4096 tokens, got 4097"),
        ({"weight_bits": 0}, "weight_bits: expected more than 0"),
        ({"act_bits": float("nan")}, "act_bits: expected more than 0"),
        ({"act_bits": 64}, "no published rate for 64-bit operands"),
        ({"tp": 5}, r"tp: expected a divisor of n_heads \(32\), got 5"),
        ({"tp": 2, "part": device("m2")}, "tp: Apple M2 has no published link between devices; take tp=1"),
        (
            {"weight_bits": 8, "act_bits": 8, "kv_bits": 8, "part": device("v100-16gb")},
            "V100 .* has no published rate for 8-bit operands: expected one of fp32, fp16",
        ),
    ],
)
def test_arguments_that_cannot_be(sizes, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        of(**sizes)


@pytest.mark.parametrize(
    ("name", "part", "sizes", "ways"),
    [
        ("llama-2-7b", "a100-80gb", {"batch": 64, "context": 4096}, "--batch 33, or --tp 2"),
        ("gpt-3", "a100-80gb", {"batch": 4, "context": 2048}, "--tp 8"),  # on 4 even the weights do not fit
        ("llama-3-8b", "m2", {"batch": 73, "context": 1024}, "--batch 72, or --weight-bits 8"),
        ("llama-3-70b", "pi-5", {"batch": 1, "context": 10}, None),
    ],
)
def test_what_does_not_fit_is_told_what_does(name, part, sizes, ways):
    with pytest.raises(ValueError, match=r"^batch: .* GB per device .*, got .* GB on ") as raised:
        estimate(name, shape(name).config, device(part), **sizes)
    assert str(raised.value).endswith(f"what fits: {ways}" if ways else "take a device with more memory")


@pytest.mark.parametrize("changes", [{"--batch": 33}, {"--tp": 2}])
def test_the_way_told_is_one(changes):
    sizes = {"batch": 64, "context": 4096} | {name[2:]: value for name, value in changes.items()}
    assert of(**sizes).memory.total_bytes <= A100.memory_bytes


def test_head_counts_that_do_not_divide_are_not_told_as_a_way():
    odd = ModelConfig(
        vocab_size=32000, d_model=4224, n_layers=32, n_heads=33, head_dim=128, d_ff=11008, context=4096
    )
    with pytest.raises(ValueError, match=r"what fits: --batch \d+$"):
        of(odd, batch=64, weight_bits=4)
