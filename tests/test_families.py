"""Every family against transformers: logits of tiny random checkpoints agree to 1e-4 in fp32.

What is compared is a pass of transformers without a cache, so our cache has an oracle that has none.
``pytest tests/test_families.py -k table -s`` prints the errors; build/parity.json keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import teachkit as tk
from families import CONTEXT, FAMILIES, VOCAB, Recipe, oracle, oracle_logits, write
from teachkit.cache import ContiguousCache
from teachkit.config import ModelConfig, RopeScaling
from teachkit.model import Decoder
from tolerance import LOGITS

ROOT = Path(__file__).resolve().parent.parent
LIMIT = LOGITS[torch.float32]["atol"]
T, PROMPT, CHUNK = 31, 21, 8  # 31 tokens: longer than every window; 21 + 10 steps; 4 chunks, the last short
ROWS = (31, 17, 5)  # lengths of a ragged batch
Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The folder of a family, written once."""

    @cache
    def folder(name: str) -> Path:
        return write(FAMILIES[name], tmp_path_factory.mktemp("family"), seed=list(FAMILIES).index(name))

    return folder


@cache
def pair(folder: Path) -> tuple[Decoder, Tensor, Tensor]:
    """Our model, three rows of tokens, and the logits of transformers for each row alone (3, T, V)."""
    tokens = torch.randint(VOCAB, (len(ROWS), T), generator=torch.Generator().manual_seed(1))
    model = oracle(folder)
    return tk.load(folder), tokens, torch.cat([oracle_logits(model, row[None]) for row in tokens])


def full(model: Decoder, tokens: Tensor, theirs: Tensor) -> Tensor:
    return model(tokens) - theirs


def cached_steps(model: Decoder, tokens: Tensor, theirs: Tensor) -> Tensor:
    """Prefill, then one token at a time."""
    kv = ContiguousCache(model.config, len(tokens), T)
    steps = [tokens[:, :PROMPT], *tokens[:, PROMPT:].split(1, dim=1)]
    return torch.cat([model(step, cache=kv) for step in steps], dim=1) - theirs


def chunked_prefill(model: Decoder, tokens: Tensor, theirs: Tensor) -> Tensor:
    kv = ContiguousCache(model.config, len(tokens), T)
    return torch.cat([model(chunk, cache=kv) for chunk in tokens.split(CHUNK, dim=1)], dim=1) - theirs


def ragged_batch(model: Decoder, tokens: Tensor, theirs: Tensor) -> Tensor:
    """Rows of different lengths, padded on the right, in three uneven steps; one leaves the last row out."""
    kv = ContiguousCache(model.config, len(ROWS), T)
    done, errors = [0] * len(ROWS), []
    for n_new in ([13, 11, 2], [5, 6, 0], [13, 0, 3]):
        padded = torch.full((len(ROWS), max(n_new)), VOCAB - 1)
        for row, n in enumerate(n_new):
            padded[row, :n] = tokens[row, done[row] : done[row] + n]
        logits = model(padded, step=kv.plan(n_new))
        for row, n in enumerate(n_new):
            errors.append((logits[row, :n] - theirs[row, done[row] : done[row] + n]).flatten())
            done[row] += n
    assert done == list(ROWS)
    return torch.cat(errors)


MODES = {f.__name__: f for f in (full, cached_steps, chunked_prefill, ragged_batch)}


@cache
def max_error(folder: Path, mode: str) -> float:
    return MODES[mode](*pair(folder)).abs().max().item()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_agree_with_transformers(name: str, mode: str, checkpoint: Checkpoint):
    assert max_error(checkpoint(name), mode) < LIMIT


@pytest.mark.parametrize("name", FAMILIES)
def test_random_logits_are_worth_comparing(name: str, checkpoint: Checkpoint):
    """An agreement to 1e-4 says something only if logits are of unit size and every position differs."""
    *_, theirs = pair(checkpoint(name))
    assert theirs.std() > 0.3
    assert theirs.diff(dim=1).abs().amax(-1).min() > 0.1


def test_parity_table(checkpoint: Checkpoint):
    """Writes build/parity.json and prints the largest error of each family and mode."""
    table = {name: {mode: max_error(checkpoint(name), mode) for mode in MODES} for name in FAMILIES}
    out = ROOT / "build" / "parity.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"\n{'max |logit error| against transformers':40}" + "".join(f"{mode:>17}" for mode in MODES))
    for name, errors in table.items():
        print(f"{name:40}" + "".join(f"{error:17.1e}" for error in errors.values()))
    assert max(max(errors.values()) for errors in table.values()) < LIMIT


def test_recipes_cover_every_way_of_storing():
    """fp32, bf16, fp16; one file and shards; tied and untied, in more than one family each."""
    ways = [(r.dtype, r.sharded) for r in FAMILIES.values()]
    assert {dtype for dtype, _ in ways} == {torch.float32, torch.bfloat16, torch.float16}
    assert {(d, s) for d, s in ways} >= {
        (d, s) for d in (torch.float32, torch.bfloat16, torch.float16) for s in (True, False)
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpoint_is_stored_as_its_recipe_says(name: str, checkpoint: Checkpoint):
    folder, recipe = checkpoint(name), FAMILIES[name]
    files = sorted(folder.glob("*.safetensors"))
    assert (len(files) > 1) == recipe.sharded == (folder / "model.safetensors.index.json").exists()
    stored = {"torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16"}[str(recipe.dtype)]
    for file in files:
        with safe_open(str(file), framework="pt") as handle:
            assert {handle.get_slice(key).get_dtype() for key in handle.keys()} == {stored}  # noqa: SIM118


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_counts(name: str, checkpoint: Checkpoint):
    """Any tensor replaced by what its absence would be, 1 for norms and 0 elsewhere, changes the logits.

    So a tensor that were read and then dropped could not pass the comparison with transformers. One is
    without effect by nature: a bias on the keys, without rotary positions, adds the same to all scores of
    a query.
    """
    model, tokens, theirs = pair(checkpoint(name))
    without_effect = []
    for key, weight in model.named_parameters():
        kept = weight.clone()
        weight.fill_(1.0 if "norm" in key and key.endswith("weight") else 0.0)
        if full(model, tokens, theirs).abs().max() < 100 * LIMIT:
            without_effect.append(key)
        weight.copy_(kept)
    keys = [f"blocks.{i}.attention.k.bias" for i in range(model.config.n_layers)]
    assert without_effect == (keys if model.config.family == "gpt2" else [])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Mistral, window", {"windows": ()}),
        ("Mistral, window", {"windows": (8, 8)}),
        ("Mistral, window", {"windows": (6, 6)}),
        ("Qwen2.5, window", {"windows": (11, 11, 11)}),
        ("Qwen3, window, biases", {"windows": ()}),
        ("Llama 3, tied", {"rope_scaling": None}),
        ("Llama 3, tied", {"rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 64)}),
        ("Llama, linear rope, biases", {"rope_scaling": None}),
        ("Falcon, sequential, multi-query", {"rope_scaling": None}),
        ("SmolLM2", {"rope_theta": 10_000.0}),
        ("GPT-2", {"activation": "gelu"}),
        ("GPT-2, untied, exact GELU", {"activation": "gelu_tanh"}),
        ("Falcon 11B", {"parallel_residual": False, "parallel_norms": 2}),
    ],
)
def test_every_setting_counts(name: str, changes: dict[str, Any], checkpoint: Checkpoint):
    """A setting read wrongly would show in the comparison: the same weights under another config differ."""
    model, tokens, theirs = pair(checkpoint(name))
    other = Decoder(replace(model.config, **changes)).eval()
    state = model.state_dict()
    if "parallel_residual" in changes:  # sequential blocks have a norm of their own before the MLP
        for i in range(model.config.n_layers):
            for kind in ("weight", "bias"):
                state[f"blocks.{i}.mlp_norm.{kind}"] = state[f"blocks.{i}.attention_norm.{kind}"]
    other.load_state_dict(state)
    with torch.inference_mode():
        assert full(other, tokens, theirs).abs().max() > 3 * LIMIT


def test_config_files_of_transformers_4_are_read_alike(tmp_path: Path, checkpoint: Checkpoint):
    """rope_theta and rope_scaling at the top level, torch_dtype: what most folders on the hub hold."""
    for name in ("Llama 3, tied", "Llama, linear rope, biases", "SmolLM2"):
        raw = json.loads((checkpoint(name) / "config.json").read_text(encoding="utf-8"))
        rope = raw.pop("rope_parameters")
        old = raw | {
            "rope_theta": rope.pop("rope_theta"),
            "rope_scaling": None,
            "torch_dtype": raw.pop("dtype"),
        }
        if rope["rope_type"] == "linear":
            rope = {"type": "linear", "factor": rope["factor"]}
        if rope.get("rope_type") != "default":
            old["rope_scaling"] = rope
        assert ModelConfig.from_hugging_face(old) == pair(checkpoint(name))[0].config


@pytest.mark.parametrize(
    ("kind", "settings", "dropped"),
    [
        ("Mistral", {"sliding_window": 4096}, ["sliding_window"]),
        ("Qwen2", {"use_sliding_window": True}, ["sliding_window", "max_window_layers", "layer_types"]),
        ("Qwen3", {"num_hidden_layers": 2}, ["head_dim", "layer_types"]),
        (
            "Llama",
            {},
            ["tie_word_embeddings", "rms_norm_eps", "attention_bias", "mlp_bias", "rope_parameters"],
        ),
    ],
)
def test_absent_keys_mean_what_transformers_takes(
    kind: str, settings: dict[str, Any], dropped: list[str], tmp_path: Path
):
    import transformers

    written = getattr(transformers, f"{kind}Config")(**settings)
    raw = written.to_dict() | {"rope_theta": 10_000.0}
    complete = ModelConfig.from_hugging_face(raw)
    assert ModelConfig.from_hugging_face({k: v for k, v in raw.items() if k not in dropped}) == complete


def test_base_model_without_its_outer_module_loads(tmp_path: Path):
    """``LlamaModel.save_pretrained`` leaves out the prefix "model." and, when tied, nothing else."""
    import transformers

    folder = write(FAMILIES["SmolLM2"], tmp_path / "whole")
    model = oracle(folder)
    assert isinstance(model, transformers.LlamaForCausalLM)
    model.model.save_pretrained(tmp_path / "base")
    tokens = torch.arange(T)[None]
    with torch.inference_mode():
        ours = tk.load(tmp_path / "base")(tokens)
    torch.testing.assert_close(ours, oracle_logits(model, tokens), **LOGITS[torch.float32])


def test_tokens_up_to_the_context(tmp_path: Path):
    """The last position that the config allows, learned and rotary alike."""
    for name in ("GPT-2", "Llama 2"):
        folder = write(FAMILIES[name], tmp_path / name)
        tokens = torch.arange(CONTEXT)[None]
        with torch.inference_mode():
            ours = tk.load(folder)(tokens)
        torch.testing.assert_close(ours, oracle_logits(oracle(folder), tokens), **LOGITS[torch.float32])


def test_norm_epsilon_is_read(tmp_path: Path):
    """At an epsilon as large as the variance it cannot be mistaken."""
    for kind, key in (
        ("Llama", "rms_norm_eps"),
        ("GPT-2", "layer_norm_epsilon"),
        ("Falcon 7B", "layer_norm_epsilon"),
    ):
        base = FAMILIES["Llama 2" if kind == "Llama" else kind]
        folder = write(Recipe(base.kind, base.settings | {key: 0.5}), tmp_path / kind)
        tokens = torch.arange(T)[None]
        with torch.inference_mode():
            ours = tk.load(folder)(tokens)
        torch.testing.assert_close(ours, oracle_logits(oracle(folder), tokens), **LOGITS[torch.float32])
