"""Tiny random checkpoints of every family, written by transformers: the oracle for weights and model.

No tensor is left at a value that would hide its absence: norms are not ones, biases not zeros. Sizes are
pairwise distinct where the architecture allows it, so that a transposed or misread axis has another shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

CONTEXT = 67
VOCAB = 101


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: the class of its config, what is not default in it, how it is stored."""

    kind: str
    settings: dict[str, Any]
    dtype: torch.dtype = torch.float32
    sharded: bool = False


def _llama(kind: str = "Llama", **settings: Any) -> tuple[str, dict[str, Any]]:
    common = {"vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "num_hidden_layers": 2}
    return kind, common | settings


def _falcon(**settings: Any) -> tuple[str, dict[str, Any]]:
    return _llama("Falcon", layer_norm_epsilon=1e-5, **settings)


def _heads(n_heads: int, n_kv_heads: int, d_model: int, d_ff: int, **more: Any) -> dict[str, Any]:
    return {
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "hidden_size": d_model,
        "intermediate_size": d_ff,
        **more,
    }


# Wavelengths of 14-wide heads run from 6 to 17,000 tokens: with these numbers some pairs keep their
# frequency, some are blended, some stretched.
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}
_THETA = {"rope_type": "default", "rope_theta": 100_000.0}
_WINDOWED = {"use_sliding_window": True, "sliding_window": 11, "max_window_layers": 1, "num_hidden_layers": 3}

FAMILIES: dict[str, Recipe] = {
    "Llama 2": Recipe(*_llama(**_heads(3, 3, 42, 53), rms_norm_eps=1e-5)),
    "Llama 3, tied": Recipe(
        *_llama(**_heads(6, 2, 84, 97), rope_parameters=_LLAMA3_ROPE, tie_word_embeddings=True),
        dtype=torch.bfloat16,
        sharded=True,
    ),
    "Llama, linear rope, biases": Recipe(
        *_llama(**_heads(6, 3, 60, 71), rope_parameters=_LINEAR_ROPE, attention_bias=True, mlp_bias=True),
        dtype=torch.float16,
    ),
    "SmolLM2": Recipe(
        *_llama(**_heads(9, 3, 54, 73), rope_parameters=_THETA, tie_word_embeddings=True),
        dtype=torch.bfloat16,
    ),
    "TinyLlama": Recipe(*_llama(**_heads(8, 2, 80, 89)), dtype=torch.bfloat16, sharded=True),
    "Mistral, window": Recipe(
        *_llama("Mistral", **_heads(6, 2, 43, 59, head_dim=10), sliding_window=7), sharded=True
    ),
    "Mistral, no window": Recipe(*_llama("Mistral", **_heads(6, 2, 60, 47), sliding_window=None)),
    "Qwen2, tied": Recipe(
        *_llama("Qwen2", **_heads(6, 2, 84, 41), tie_word_embeddings=True), dtype=torch.bfloat16
    ),
    "Qwen2.5, window": Recipe(*_llama("Qwen2", **_heads(6, 3, 36, 61) | _WINDOWED), sharded=True),
    "Qwen3, tied": Recipe(
        *_llama("Qwen3", **_heads(6, 2, 29, 79, head_dim=14), tie_word_embeddings=True), dtype=torch.float16
    ),
    "Qwen3, window, biases": Recipe(
        *_llama("Qwen3", **_heads(6, 3, 31, 83, head_dim=10) | _WINDOWED, attention_bias=True)
    ),
    "GPT-2": Recipe(
        "GPT2", {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 33, "n_head": 3, "n_layer": 2}
    ),
    "GPT-2, untied, exact GELU": Recipe(
        "GPT2",
        {
            "vocab_size": VOCAB,
            "n_positions": CONTEXT,
            "n_embd": 35,
            "n_head": 5,
            "n_layer": 2,
            "n_inner": 43,
            "activation_function": "gelu",
            "tie_word_embeddings": False,
        },
        dtype=torch.float16,
        sharded=True,
    ),
    "Falcon 7B": Recipe(*_falcon(num_attention_heads=5, hidden_size=30), dtype=torch.bfloat16),
    "Falcon, sequential, multi-head, biases": Recipe(
        *_falcon(
            num_attention_heads=5,
            hidden_size=70,
            multi_query=False,
            parallel_attn=False,
            bias=True,
            ffn_hidden_size=103,
            tie_word_embeddings=False,
        ),
        sharded=True,
    ),
    "Falcon, parallel, multi-head": Recipe(
        *_falcon(num_attention_heads=3, hidden_size=42, multi_query=False, bias=True)
    ),
    "Falcon, sequential, multi-query": Recipe(
        *_falcon(num_attention_heads=3, hidden_size=30, parallel_attn=False, rope_parameters=_LINEAR_ROPE)
    ),
    "Falcon 40B": Recipe(
        *_falcon(num_attention_heads=6, num_kv_heads=2, hidden_size=84, new_decoder_architecture=True),
        dtype=torch.float16,
        sharded=True,
    ),
    "Falcon 11B": Recipe(
        *_falcon(
            num_attention_heads=6,
            num_kv_heads=3,
            hidden_size=60,
            new_decoder_architecture=True,
            num_ln_in_parallel_attn=1,
            tie_word_embeddings=False,
            bias=True,
        )
    ),
}


def random_weights(model: torch.nn.Module, seed: int) -> None:
    """Norms around 1, biases around 0, matrices that keep the scale; large queries, for uneven attention."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith((".wte.weight", ".wpe.weight", "embed_tokens.weight", "word_embeddings.weight")):
                weight.copy_(noise)
            elif weight.ndim == 2:
                wide = any(part in name for part in (".q_proj", ".c_attn", ".query_key_value"))
                fan_in = weight.shape[0] if ".c_" in name else weight.shape[1]  # GPT-2 stores inputs first
                weight.copy_(noise * (1.5 if wide else 1.0) * fan_in**-0.5)
            else:
                weight.copy_(0.4 * noise + (0.0 if name.endswith("bias") else 1.0))


def write(recipe: Recipe, folder: Path, seed: int = 0) -> Path:
    """Save the checkpoint as transformers does."""
    config = getattr(transformers, f"{recipe.kind}Config")(**recipe.settings)
    suffix = "LMHeadModel" if recipe.kind == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{recipe.kind}{suffix}")(config)
    random_weights(model, seed)
    model.to(recipe.dtype).save_pretrained(folder, max_shard_size="20KB" if recipe.sharded else "5GB")
    return folder


def oracle(folder: Path) -> transformers.PreTrainedModel:
    """The folder as transformers loads it, in fp32, with its plain attention."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.inference_mode()
def oracle_logits(model: transformers.PreTrainedModel, tokens: Tensor) -> Tensor:
    """One pass without a cache: (B, T) to (B, T, V)."""
    return model(tokens, use_cache=False).logits
