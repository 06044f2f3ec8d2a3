"""config.py: published configs give the published numbers; what cannot be honoured is a clear error."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import teachkit as tk
from conftest import tiny_config, tiny_model, unchecked
from teachkit.config import ConfigError, ModelConfig, RopeScaling
from teachkit.model import Decoder

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 84,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 97,
    "max_position_embeddings": 67,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def like(model_type: str, **values: Any) -> dict[str, Any]:
    return {"model_type": model_type, **values}


def llama_like(
    model_type: str, V: int, C: int, L: int, H: int, Hkv: int, F: int, **more: Any
) -> dict[str, Any]:
    return like(
        model_type,
        vocab_size=V,
        hidden_size=C,
        num_hidden_layers=L,
        num_attention_heads=H,
        num_key_value_heads=Hkv,
        intermediate_size=F,
        **{"max_position_embeddings": 2048} | more,
    )


# Shapes as in the config.json of each model; counts as the model cards or safetensors headers give them.
PUBLISHED = {
    "Llama-2-7B": (llama_like("llama", 32000, 4096, 32, 32, 32, 11008), 6_738_415_616),
    "Llama-3.2-1B": (
        llama_like(
            "llama",
            128256,
            2048,
            16,
            32,
            8,
            8192,
            head_dim=64,
            tie_word_embeddings=True,
            rope_scaling=LLAMA3_ROPE,
        ),
        1_235_814_400,
    ),
    "TinyLlama-1.1B": (llama_like("llama", 32000, 2048, 22, 32, 4, 5632), 1_100_048_384),
    "SmolLM2-135M": (
        llama_like("llama", 49152, 576, 30, 9, 3, 1536, tie_word_embeddings=True),
        134_515_008,
    ),
    "Mistral-7B-v0.1": (
        llama_like("mistral", 32000, 4096, 32, 32, 8, 14336, sliding_window=4096),
        7_241_732_096,
    ),
    "Qwen2.5-0.5B": (
        llama_like(
            "qwen2",
            151936,
            896,
            24,
            14,
            2,
            4864,
            tie_word_embeddings=True,
            use_sliding_window=False,
            sliding_window=32768,
        ),
        494_032_768,
    ),
    "Qwen3-0.6B": (
        llama_like("qwen3", 151936, 1024, 28, 16, 8, 3072, head_dim=128, tie_word_embeddings=True),
        596_049_920,
    ),
    "GPT-2": (
        like("gpt2", vocab_size=50257, n_embd=768, n_layer=12, n_head=12, n_positions=1024, n_ctx=1024),
        124_439_808,
    ),
    "Falcon-7B": (
        like(
            "falcon",
            vocab_size=65024,
            hidden_size=4544,
            num_hidden_layers=32,
            num_attention_heads=71,
            num_kv_heads=71,
            multi_query=True,
            parallel_attn=True,
            new_decoder_architecture=False,
            bias=False,
            alibi=False,
        ),
        6_921_720_704,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_have_the_published_parameter_counts(name: str):
    raw, expected = PUBLISHED[name]
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_hugging_face(raw))
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-2-7B", 2 * 32 * 32 * 128 * 2),  # 512 KiB
        ("Llama-3.2-1B", 2 * 16 * 8 * 64 * 2),
        ("Qwen3-0.6B", 2 * 28 * 8 * 128 * 2),  # head_dim is not d_model / n_heads
        ("Falcon-7B", 2 * 32 * 1 * 64 * 2),  # multi-query, whatever num_kv_heads says
    ],
)
def test_kv_bytes_per_token(name: str, expected: int):
    assert ModelConfig.from_hugging_face(PUBLISHED[name][0]).kv_bytes_per_token(itemsize=2) == expected


def test_defaults_are_derived():
    config = ModelConfig(vocab_size=7, d_model=30, n_layers=2, n_heads=3, d_ff=11)
    assert (config.n_kv_heads, config.head_dim, config.group_size, config.windows) == (3, 10, 1, (None, None))


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        tiny_config().d_model = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: 0}, f"{name}: expected a positive integer, got 0")
            for name in ("vocab_size", "n_layers", "d_ff")
        ),
        ({"d_model": "256"}, "d_model: expected a positive integer, got '256'"),
        ({"context": 2048.0}, "context: expected a positive integer, got 2048.0"),
        ({"n_layers": "2"}, "n_layers: expected a positive integer, got '2'"),
        ({"head_dim": -14}, "head_dim: expected a positive integer, got -14"),
        ({"head_dim": "14"}, "head_dim: expected a positive integer, got '14'"),
        ({"n_heads": -1}, "n_heads: expected a positive integer, got -1"),
        ({"n_kv_heads": 4}, r"n_kv_heads: expected a divisor of n_heads \(15\), got 4"),
        ({"head_dim": 0}, r"d_model: expected a multiple of n_heads \(15\), got 37; or give head_dim"),
        ({"head_dim": 7}, "head_dim: rotary positions turn pairs, expected an even number, got 7"),
        ({"windows": (3,)}, r"windows: expected one per layer \(2\), got 1"),
        ({"windows": (3, 0)}, r"windows: expected positive sizes or None, got \(3, 0\)"),
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, Any], message: str):
    with unchecked(), pytest.raises(ConfigError, match=message):
        tiny_config(**changes)


def test_odd_head_dim_is_fine_without_rotary_positions():
    assert tiny_config(head_dim=7, position="learned").head_dim == 7


def test_rope_scaling_factor_below_one():
    with pytest.raises(ConfigError, match=r"rope factor: expected at least 1, got 0\.5"):
        RopeScaling("linear", 0.5)


def test_rope_scaling_factors_in_the_wrong_order():
    with pytest.raises(
        ConfigError, match=r"high_freq_factor: expected more than low_freq_factor \(4\.0\), got 1\.0"
    ):
        RopeScaling("llama3", 8.0, low_freq_factor=4.0, high_freq_factor=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "bert"},
            "model_type: expected one of falcon, gpt2, llama, mistral, qwen2, qwen3; got 'bert'",
        ),
        ({"model_type": None}, "model_type: expected one of .*; got None"),
        ({"hidden_size": None}, "hidden_size: expected in config.json of a llama model, not found"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected plain .* weights"),
        ({"hidden_act": "relu"}, "hidden_act: expected one of silu; got 'relu'"),
        ({"pretraining_tp": 2}, "pretraining_tp: expected 1, got 2"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type: expected one of .*; got 'yarn'"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope_type: expected one of .*; got 'dynamic'",
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type: expected one of .*; got 'longrope'"),
        ({"rope_scaling": {"type": "linear"}}, "rope factor: expected with rope_type 'linear', not found"),
        (
            {"rope_scaling": {k: v for k, v in LLAMA3_ROPE.items() if k != "low_freq_factor"}},
            "rope low_freq_factor: expected with rope_type 'llama3', not found",
        ),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor: expected 1\.0"),
        (
            {"rope_scaling": 5},
            r"config\.json: a value of a type that cannot be .*'int' object is not iterable",
        ),
        ({"hidden_act": ["silu"]}, r"config\.json: a value of a type that cannot be .*unhashable"),
        ({"model_type": ["llama"]}, r"model_type: expected one of .*; got \['llama'\]"),
    ],
)
def test_llama_configs_that_cannot_be_honoured(changes: dict[str, Any], message: str):
    with unchecked(), pytest.raises(ConfigError, match=message):
        ModelConfig.from_hugging_face(LLAMA | changes)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            PUBLISHED["Falcon-7B"][0] | {"alibi": True},
            "alibi: expected False, got True, which is not supported",
        ),
        (PUBLISHED["Falcon-7B"][0] | {"activation": "relu"}, "activation: expected one of gelu; got 'relu'"),
        (
            PUBLISHED["GPT-2"][0] | {"activation_function": "tanh"},
            "activation_function: expected one of gelu_new",
        ),
        (
            PUBLISHED["GPT-2"][0] | {"scale_attn_weights": False},
            "scale_attn_weights: expected True, got False",
        ),
        (
            PUBLISHED["GPT-2"][0] | {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx: expected False, got True",
        ),
        (
            PUBLISHED["GPT-2"][0] | {"add_cross_attention": True},
            "add_cross_attention: expected False, got True",
        ),
        (
            PUBLISHED["Mistral-7B-v0.1"][0] | {"layer_types": ["chunked_attention"] * 32},
            r"layer_types: expected full_attention or sliding_attention, got \['chunked_attention'\]",
        ),
    ],
)
def test_configs_of_other_families_that_cannot_be_honoured(raw: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_hugging_face(raw)


def test_windows_of_each_family():
    mistral, qwen = PUBLISHED["Mistral-7B-v0.1"][0], PUBLISHED["Qwen2.5-0.5B"][0] | {"num_hidden_layers": 3}
    on = qwen | {"use_sliding_window": True, "sliding_window": 11, "max_window_layers": 1}
    types = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    expected = {
        (4096,) * 32: mistral,
        (None,) * 32: mistral | {"sliding_window": None},
        (None,) * 3: qwen,
        (None, 11, 11): on,
        (11, None, 11): on | types,
    }
    for windows, raw in expected.items():
        assert ModelConfig.from_hugging_face(raw).windows == windows


def test_end_of_text_tokens_one_several_none():
    def ids(value: object) -> tuple[int, ...]:
        return ModelConfig.from_hugging_face(LLAMA | {"eos_token_id": value}).eos_token_ids

    assert (ids(2), ids([128001, 128009]), ids(None)) == ((2,), (128001, 128009), ())
    assert ids(0) == (0,)  # a token as good as any other


def test_config_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        ModelConfig.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[1]", "expected a JSON object, got list")]
)
def test_config_file_that_is_damaged(tmp_path: Path, text: str, message: str):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"config\.json: {message}"):
        ModelConfig.from_folder(tmp_path)


def test_config_file_is_read(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert ModelConfig.from_folder(tmp_path) == ModelConfig.from_hugging_face(LLAMA)
    assert ModelConfig.from_folder(tmp_path / "config.json") == ModelConfig.from_hugging_face(LLAMA)


def test_config_knows_nothing_of_torch():
    import subprocess
    import sys

    import teachkit.config

    code = "import runpy, sys; runpy.run_path(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, teachkit.config.__file__], check=True)


# --- what teachkit.saved writes ------------------------------------------------------------------------

SAVED = [
    {},
    {"tied": True, "windows": (None, 7), "eos_token_ids": (3, 5), "qkv_bias": True},
    {"rope_scaling": RopeScaling("linear", 4.0)},
]


@pytest.mark.parametrize("changes", SAVED, ids=["plain", "tuples", "rope scaling"])
def test_config_of_a_saved_quantized_model(changes: dict[str, Any], tmp_path: Path):
    config = tiny_config(**changes)
    tk.save(tk.quantize(tiny_model(config), "int4", group_size=32), tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert ModelConfig.from_folder(tmp_path) == config
    assert ModelConfig.from_folder(tmp_path / "teachkit.json") == config


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([], "expected a JSON object, got list"),
        ({}, r"config: expected the fields of a ModelConfig in teachkit\.json"),
        (
            {"config": {"depth": 3}},
            r"expected the fields of a ModelConfig in teachkit\.json \(.*'depth'\)",
        ),
        ({"config": {"rope_scaling": {"kind": "linear"}}}, "config: expected the fields of a ModelConfig"),
        ({"config": asdict(tiny_config()) | {"n_kv_heads": 4}}, "n_kv_heads: expected a divisor of n_heads"),
    ],
    ids=["list", "nothing", "unknown field", "rope without factor", "heads"],
)
def test_saved_config_that_cannot_be_read(description: Any, message: str, tmp_path: Path):
    (tmp_path / "teachkit.json").write_text(json.dumps(description), encoding="utf-8")
    with unchecked(), pytest.raises(ConfigError, match=message):
        ModelConfig.from_folder(tmp_path)
