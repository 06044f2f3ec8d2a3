"""The safetensors files of a folder. What a checkpoint must hold is tested in test_weights.py."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from teachkit.stored import Stored, WeightsError


def test_tensors_of_all_files(tmp_path):
    parts = {"a": torch.arange(6).view(2, 3).to(torch.int8), "b": torch.ones(5, dtype=torch.bfloat16)}
    for name, tensor in parts.items():
        save_file({name: tensor}, tmp_path / f"model-{name}.safetensors")
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in parts}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    stored = Stored(tmp_path)
    assert stored.names == {"a", "b"}
    assert [stored.shape_and_kind(name) for name in "ab"] == [((2, 3), "I8"), ((5,), "BF16")]
    for name, tensor in parts.items():
        assert torch.equal(stored.read(name), tensor)
        assert stored.read(name).dtype == tensor.dtype


def test_one_file(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert Stored(tmp_path).names == {"a"}


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected the weights, not found"):
        Stored(tmp_path)


def test_file_of_the_index_that_is_not_there(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-a.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"model-a\.safetensors: named in the index, not found"):
        Stored(tmp_path)
    index.write_text('{"weights": {}}')
    with pytest.raises(WeightsError, match=r"index\.json: expected JSON with a weight_map"):
        Stored(tmp_path)


def test_damaged_file(tmp_path):
    save_file({"a": torch.ones(200)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged or truncated"):
        Stored(tmp_path)


def test_pickles_are_not_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"would run code")
    with pytest.raises(WeightsError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        Stored(tmp_path)
