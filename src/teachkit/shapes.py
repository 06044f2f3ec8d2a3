"""Published shapes of models, so that a cost can be estimated without a download. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from teachkit.config import ModelConfig, RopeScaling


@dataclass(frozen=True)
class Shape:
    """A published model: its config, and where that stands."""

    config: ModelConfig
    source: str


def shape(name: str) -> Shape:
    """The shape of a published model; case, and "-", "_" or " " between words, do not matter.

    Raises  ValueError: no such name; the message lists the nearest

    >>> shape("Llama 2 7B").config.d_model
    4096
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key not in SHAPES:
        near = get_close_matches(key, SHAPES, n=3, cutoff=0.4) or sorted(SHAPES)
        raise ValueError(f"model: expected a published name such as {', '.join(near)}; got {name!r}")
    return SHAPES[key]


def _llama(**sizes: Any) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 32000, "context": 2048, **sizes})


def _hub(name: str) -> str:
    return f"https://huggingface.co/{name}/blob/main/config.json"


_LLAMA_1 = "https://arxiv.org/abs/2302.13971"  # table 2; widths of the MLP: the released checkpoints
_LLAMA_3 = {"vocab_size": 128256, "rope_theta": 500_000.0}
_SCALED = RopeScaling("llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)

SHAPES: Mapping[str, Shape] = {
    "llama-7b": Shape(_llama(d_model=4096, n_layers=32, n_heads=32, d_ff=11008), _LLAMA_1),
    "llama-13b": Shape(_llama(d_model=5120, n_layers=40, n_heads=40, d_ff=13824), _LLAMA_1),
    "llama-33b": Shape(_llama(d_model=6656, n_layers=60, n_heads=52, d_ff=17920), _LLAMA_1),
    "llama-65b": Shape(_llama(d_model=8192, n_layers=80, n_heads=64, d_ff=22016), _LLAMA_1),
    "llama-2-7b": Shape(
        _llama(d_model=4096, n_layers=32, n_heads=32, d_ff=11008, context=4096),
        _hub("meta-llama/Llama-2-7b-hf"),
    ),
    "llama-2-70b": Shape(
        _llama(d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28672, context=4096),
        _hub("meta-llama/Llama-2-70b-hf"),
    ),
    "llama-3-8b": Shape(
        _llama(d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336, context=8192, **_LLAMA_3),
        _hub("meta-llama/Meta-Llama-3-8B"),
    ),
    "llama-3-70b": Shape(
        _llama(d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28672, context=8192, **_LLAMA_3),
        _hub("meta-llama/Meta-Llama-3-70B"),
    ),
    "llama-3.2-1b": Shape(
        _llama(
            d_model=2048,
            n_layers=16,
            n_heads=32,
            n_kv_heads=8,
            d_ff=8192,
            context=131_072,
            tied=True,
            rope_scaling=_SCALED,
            **_LLAMA_3,
        ),
        _hub("meta-llama/Llama-3.2-1B"),
    ),
    "mistral-7b": Shape(
        _llama(
            d_model=4096,
            n_layers=32,
            n_heads=32,
            n_kv_heads=8,
            d_ff=14336,
            context=32768,
            windows=(4096,) * 32,
            family="mistral",
        ),
        _hub("mistralai/Mistral-7B-v0.1"),
    ),
    "qwen2.5-7b": Shape(
        ModelConfig(
            vocab_size=152064,
            d_model=3584,
            n_layers=28,
            n_heads=28,
            n_kv_heads=4,
            d_ff=18944,
            context=131_072,
            rope_theta=1_000_000.0,
            qkv_bias=True,
            family="qwen2",
        ),
        _hub("Qwen/Qwen2.5-7B"),
    ),
    "smollm2-135m": Shape(
        ModelConfig(
            vocab_size=49152,
            d_model=576,
            n_layers=30,
            n_heads=9,
            n_kv_heads=3,
            d_ff=1536,
            context=8192,
            rope_theta=100_000.0,
            tied=True,
        ),
        _hub("HuggingFaceTB/SmolLM2-135M"),
    ),
    "tinyllama-1.1b": Shape(
        _llama(d_model=2048, n_layers=22, n_heads=32, n_kv_heads=4, d_ff=5632),
        _hub("TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ),
    "gpt-2": Shape(
        ModelConfig(
            vocab_size=50257,
            d_model=768,
            n_layers=12,
            n_heads=12,
            d_ff=3072,
            context=1024,
            norm="layer",
            activation="gelu_tanh",
            gated_mlp=False,
            position="learned",
            qkv_bias=True,
            o_bias=True,
            mlp_bias=True,
            tied=True,
            family="gpt2",
        ),
        _hub("openai-community/gpt2"),
    ),
    # Layers, widths and heads: table 2.1. What the paper leaves to GPT-2 is GPT-2's.
    "gpt-3": Shape(
        ModelConfig(
            vocab_size=50257,
            d_model=12288,
            n_layers=96,
            n_heads=96,
            d_ff=49152,
            context=2048,
            norm="layer",
            activation="gelu_tanh",
            gated_mlp=False,
            position="learned",
            qkv_bias=True,
            o_bias=True,
            mlp_bias=True,
            tied=True,
            family="gpt2",
        ),
        "https://arxiv.org/abs/2005.14165",
    ),
    "falcon-7b": Shape(
        ModelConfig(
            vocab_size=65024,
            d_model=4544,
            n_layers=32,
            n_heads=71,
            n_kv_heads=1,
            d_ff=18176,
            context=2048,
            norm="layer",
            activation="gelu",
            gated_mlp=False,
            parallel_residual=True,
            parallel_norms=1,
            tied=True,
            family="falcon",
        ),
        _hub("tiiuae/falcon-7b"),
    ),
}
