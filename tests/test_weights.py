"""weights.py: every tensor accounted for; a checkpoint that does not fit is refused, with what and why.

That the tensors arrive where they should is shown in test_families.py.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import teachkit as tk
from families import FAMILIES, Recipe, oracle, oracle_logits, write
from teachkit import weights
from teachkit.config import ConfigError, ModelConfig
from teachkit.weights import WeightsError, find, read
from tolerance import LOGITS

TOKENS = torch.arange(11)[None]


def written(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(FAMILIES[name], tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 2: one file, fp32, untied."""
    return written("Llama 2", tmp_path_factory)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinyLlama: several files and an index, bf16, untied."""
    return written("TinyLlama", tmp_path_factory)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("SmolLM2", tmp_path_factory)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("GPT-2", tmp_path_factory)


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "checkpoint"))


def edit(folder: Path, to: Path, **changes: Tensor | None) -> Path:
    """A copy with some tensors replaced, added, or (None) removed; "__" in a name stands for a dot."""
    copied = copy(folder, to)
    tensors = load_file(copied / "model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


def assert_loads_like(folder: Path, reference: Path) -> None:
    one, other = tk.load(folder), tk.load(reference)
    assert one.config == other.config
    weights = one.state_dict()
    assert weights.keys() == other.state_dict().keys()
    assert all(torch.equal(weights[name], weight) for name, weight in other.state_dict().items())
    # Not bit for bit: where in memory a file's weights lie can decide in which order a library adds.
    torch.testing.assert_close(one(TOKENS), other(TOKENS), **LOGITS[torch.float32])


# What is given to load()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_come_in_the_dtype_asked_for(sharded: Path, dtype: torch.dtype):
    model = tk.load(sharded, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(TOKENS).dtype == dtype


def test_dtype_without_weights(single: Path):
    with pytest.raises(ValueError, match=r"dtype: expected one of torch\.float32, .*; got torch\.int8"):
        tk.load(single, dtype=torch.int8)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_device_that_is_not_there(single: Path, device: str):
    with pytest.raises(ValueError, match=f"device: '{device}' is not there"):
        tk.load(single, device=device)


def test_model_is_ready_to_run(single: Path):
    model = tk.load(str(single))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.tokenizer is None


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "./nothing", "../nothing", "/nothing/here", "org/", ""])
def test_name_of_nothing(name: str):
    with pytest.raises(FileNotFoundError, match="expected"):
        tk.load(name)


def test_folder_without_config(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: expected in a checkpoint folder, not found"):
        tk.load(tmp_path)


def test_folder_without_weights(single: Path, tmp_path: Path):
    shutil.copy(single / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected the weights, not found"):
        tk.load(tmp_path)


def test_unsupported_architecture_is_refused_before_any_weight_is_read(single: Path, tmp_path: Path):
    raw = json.loads((single / "config.json").read_text(encoding="utf-8")) | {"model_type": "mamba"}
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ConfigError, match="got 'mamba'"):
        tk.load(tmp_path)


# Files


@pytest.mark.parametrize(
    "kept", [0, 4, 100, 0.5, -1], ids=["empty", "in size", "in header", "half", "all but 1 byte"]
)
def test_truncated_file(single: Path, tmp_path: Path, kept: float):
    folder = copy(single, tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    size = int(len(data) * kept) if 0 < kept < 1 else int(kept)
    (folder / "model.safetensors").write_bytes(data[:size])
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged or truncated"):
        tk.load(folder)


def test_truncated_shard(sharded: Path, tmp_path: Path):
    folder = copy(sharded, tmp_path)
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=f"{shard.name}: damaged or truncated"):
        tk.load(folder)


def test_missing_shard(sharded: Path, tmp_path: Path):
    folder = copy(sharded, tmp_path)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"{shard.name}: named in the index, not found"):
        tk.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_damaged_index(sharded: Path, tmp_path: Path, text: str):
    folder = copy(sharded, tmp_path)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"index\.json: expected JSON with a weight_map"):
        tk.load(folder)


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt"])
def test_pickle_is_refused_unopened(single: Path, tmp_path: Path, name: str):
    marker = tmp_path / "opened"
    bomb = pickle.dumps(_Bomb(marker))
    pickle.loads(bomb)
    assert marker.exists()  # it would have gone off
    marker.unlink()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    shutil.copy(single / "config.json", folder)
    (folder / name).write_bytes(bomb)
    with pytest.raises(WeightsError, match=rf"expected safetensors, found only pickled weights \({name}\)"):
        tk.load(folder)
    assert not marker.exists()


def test_pickle_beside_safetensors_is_left_alone(single: Path, tmp_path: Path):
    folder = copy(single, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "opened")))
    assert_loads_like(folder, single)
    assert not (tmp_path / "opened").exists()


# Tensors


def test_missing_tensor(single: Path, tmp_path: Path):
    folder = edit(single, tmp_path, model__layers__1__self_attn__k_proj__weight=None)
    message = (
        r"model\.layers\.1\.self_attn\.k_proj\.weight: expected with shape \[42, 42\], not in .*checkpoint"
    )
    with pytest.raises(WeightsError, match=message):
        tk.load(folder)


def test_missing_head_when_untied(single: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"lm_head\.weight: expected with shape \[101, 42\]"):
        tk.load(edit(single, tmp_path, lm_head__weight=None))


def test_extra_tensor(single: Path, tmp_path: Path):
    folder = edit(single, tmp_path, model__layers__1__self_attn__k_proj__bias=torch.zeros(42))
    message = r"model\.layers\.1\.self_attn\.k_proj\.bias: not expected in a llama checkpoint \(1 such\)"
    with pytest.raises(WeightsError, match=message):
        tk.load(folder)


def test_more_layers_than_the_config_has(single: Path, tmp_path: Path):
    folder = copy(single, tmp_path)
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"model\.layers\.1\..*: not expected .* \(9 such\)"):
        tk.load(folder)


def test_tensor_of_wrong_shape(single: Path, tmp_path: Path):
    folder = edit(single, tmp_path, model__layers__0__mlp__down_proj__weight=torch.zeros(53, 42))
    message = r"model\.layers\.0\.mlp\.down_proj\.weight: expected shape \[42, 53\], got \[53, 42\]"
    with pytest.raises(WeightsError, match=message):
        tk.load(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_tensor_that_would_need_scales(single: Path, tmp_path: Path, dtype: torch.dtype):
    folder = edit(single, tmp_path, model__layers__0__mlp__up_proj__weight=torch.ones(53, 42).to(dtype))
    with pytest.raises(WeightsError, match=r"up_proj\.weight: expected one of F32, .*, got (I8|F8_E4M3)"):
        tk.load(folder)


def test_tied_with_another_head(tied: Path, tmp_path: Path):
    embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    other = embedding.clone()
    other[3, 5] += 1
    with pytest.raises(WeightsError, match=r"lm_head\.weight: expected equal to the embedding \(tied\)"):
        tk.load(edit(tied, tmp_path, lm_head__weight=other))


def test_tied_with_the_same_head(tied: Path, tmp_path: Path):
    embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    assert_loads_like(edit(tied, tmp_path, lm_head__weight=embedding.clone()), tied)


def test_gpt2_as_first_published(gpt2: Path, tmp_path: Path):
    """The original checkpoint has no outer module in its names, and stores the causal mask of each layer."""
    folder = copy(gpt2, tmp_path)
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(gpt2 / "model.safetensors").items()}
    tensors |= {f"h.{i}.attn.bias": torch.ones(1, 1, 67, 67).tril() for i in range(2)}
    tensors |= {"h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(tensors, folder / "model.safetensors")
    assert_loads_like(folder, gpt2)


def test_old_llama_with_stored_frequencies(single: Path, tmp_path: Path):
    frequencies = torch.ones(7)
    folder = edit(single, tmp_path, model__layers__0__self_attn__rotary_emb__inv_freq=frequencies)
    assert_loads_like(folder, single)


def test_read_gives_every_parameter_once(sharded: Path):
    config = ModelConfig.from_folder(sharded)
    state = read(sharded, config)
    assert set(state) == {name for name, _ in tk.Decoder(config).named_parameters()}
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in state.values())


# The hub


OFFLINE = """
import json, sys
import teachkit as tk
from teachkit.cli import main
parameters = sum(p.numel() for p in tk.load("org/name").parameters())
print(json.dumps({"parameters": parameters, "exit": main(["info", "--model", "nobody/nothing"])}))
"""


def test_hub_names_offline(sharded: Path, tmp_path: Path):
    """In a process of its own, which has the hub's cache and no network: one model is there, another not."""
    repository = tmp_path / "models--org--name"  # the cache's layout: refs/main names the snapshot
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    shutil.copytree(sharded, repository / "snapshots" / commit)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", OFFLINE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    parameters = sum(p.numel() for p in tk.load(sharded).parameters())
    assert json.loads(done.stdout) == {"parameters": parameters, "exit": 1}
    message = "teachkit: nobody/nothing: no such folder, and not to be had from the hub"
    assert [line.startswith(message) for line in done.stderr.splitlines()] == [True]


def test_hub_name_that_cannot_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="org/na me: no such folder, and not to be had from the hub"):
        tk.load("org/na me")


def test_only_safetensors_and_json_are_asked_from_the_hub(single: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing that can hold code, and the weights once where a repository has them twice."""
    from huggingface_hub.utils import filter_repo_objects

    asked: list[str] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(single)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert find("org/name") == single
    needed = [
        "config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    others = [
        "pytorch_model.bin",
        "modeling_name.py",
        "consolidated.safetensors",
        "original/params.json",
        "README.md",
    ]
    assert list(filter_repo_objects(needed + others, allow_patterns=asked)) == needed


def test_shards_and_single_file_give_the_same(tmp_path: Path):
    recipe = FAMILIES["Llama 3, tied"]
    sharded = write(recipe, tmp_path / "sharded")
    single = write(Recipe(recipe.kind, recipe.settings, recipe.dtype), tmp_path / "single")
    assert_loads_like(sharded, single)
    torch.testing.assert_close(
        tk.load(single)(TOKENS), oracle_logits(oracle(single), TOKENS), **LOGITS[torch.float32]
    )


def test_checkpoints_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Any folder under checkpoints/ that holds one; it comes before a folder of that name elsewhere."""
    monkeypatch.setattr(weights, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    recipe = FAMILIES["Llama 3, tied"]
    ours = write(recipe, tmp_path / "checkpoints" / "sibling")
    (tmp_path / "checkpoints" / "empty").mkdir()
    (tmp_path / "sibling").mkdir()
    assert find("sibling") == ours
    assert_loads_like(Path("sibling"), ours)
    for name in ("empty", "bundled", "../checkpoints/sibling/x", "", "."):
        with pytest.raises(FileNotFoundError):
            find(name)


def test_bundled_is_a_checkpoint_of_the_package():
    assert find("bundled") == weights.CHECKPOINTS / "bundled"
    assert tk.load("bundled").config == tk.ModelConfig.from_folder(find("bundled"))
