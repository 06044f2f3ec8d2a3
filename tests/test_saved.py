"""Saved models: the same bits come back; a folder that does not fit is refused, with what and why."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model
from families import FAMILIES, write
from teachkit.config import ConfigError, RopeScaling
from teachkit.linear import Int8Embedding
from teachkit.quant import int4, int8
from teachkit.saved import restore, save
from teachkit.schemes import SCHEMES, quantize
from teachkit.tokenizer import Tokenizer
from teachkit.weights import WeightsError, find, load

UP = "blocks.0.mlp.up"
TOKENS = random_tokens(2, 13)
BIASED = {"qkv_bias": True, "o_bias": True, "mlp_bias": True}
ROPE = RopeScaling("llama3", 8.0, 1.0, 4.0, 32)
MODELS = {
    "llama": {},
    "tied, window, scaled rope": {
        "tied": True,
        "qk_norm": True,
        "windows": (5, None),
        "rope_scaling": ROPE,
        "bos_token_id": 3,
        "eos_token_ids": (7, 11),
        "norm_eps": 1e-6 / 3,
    },
    "gpt-2": {"norm": "layer", "gated_mlp": False, "position": "learned", "activation": "gelu"} | BIASED,
    "falcon": {
        "norm": "layer",
        "gated_mlp": False,
        "parallel_residual": True,
        "parallel_norms": 1,
        "activation": "gelu",
        "family": "falcon",
    },
    "int4 by kernel, tied": {
        "d_model": 96,
        "n_heads": 6,
        "n_kv_heads": 2,
        "head_dim": 16,
        "d_ff": 160,
        "tied": True,
    },
}
each_model = pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)


def same(found, made):
    """All that makes a model what it is."""
    assert found.config == made.config
    assert found.kernels() == made.kernels()
    assert found.dtype == made.dtype
    assert isinstance(found.embedding, Int8Embedding) == isinstance(made.embedding, Int8Embedding)
    state = made.state_dict()
    assert list(found.state_dict()) == list(state)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert tensor.dtype == state[name].dtype, name
    assert torch.equal(found(TOKENS), made(TOKENS))
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())


# --- there and back ------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", ["int8", "keep"])
def test_quantized_models_come_back_bit_for_bit(tmp_path, changes, dtype, scheme, head):
    made = quantize(tiny_model(tiny_config(**changes), dtype=dtype), scheme, group_size=32, head=head)
    save(made, tmp_path / "new" / "folder")
    same(load(tmp_path / "new" / "folder"), made)


@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_one_scale_for_a_matrix(tmp_path, scheme):
    made = quantize(tiny_model(), scheme, per="tensor")
    save(made, tmp_path)
    same(load(str(tmp_path)), made)
    assert load_file(tmp_path / "model.safetensors")["blocks.0.mlp.up.scale"].shape == (1,)


@each_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_plain_models_come_back_bit_for_bit(tmp_path, changes, dtype):
    made = tiny_model(tiny_config(**changes), dtype=dtype)
    save(made, tmp_path)
    same(load(tmp_path), made)


@pytest.mark.parametrize("name", ["GPT-2", "Falcon 40B", "Falcon 11B", "Qwen3, window, biases"])
def test_models_cut_from_fused_tensors(tmp_path, name):
    """Their parts may share memory, which a file does not."""
    made = quantize(load(write(FAMILIES[name], tmp_path / "theirs")), "int4", group_size=32)
    save(made, tmp_path / "ours")
    same(load(tmp_path / "ours"), made)


def test_the_bundled_model_and_its_tokenizer(tmp_path, bundled):
    made = quantize(bundled, "int4")
    tk.save(made, tmp_path)
    found = tk.load(tmp_path)
    same(found, made)
    text = "def café(x):\n    return x  # ≤ 3\n"
    assert found.tokenizer.encode(text) == bundled.tokenizer.encode(text)
    assert found.tokenizer.decode(found.tokenizer.encode(text)) == text
    assert (found.tokenizer.bos, found.tokenizer.eos) == (bundled.tokenizer.bos, bundled.tokenizer.eos)
    assert (
        tk.generate(found, "import ", max_new_tokens=9).tokens
        == tk.generate(made, "import ", max_new_tokens=9).tokens
    )
    size = (tmp_path / "model.safetensors").stat().st_size
    other = sum(t.nbytes for n, t in made.state_dict().items() if "norm" in n)
    assert 0 <= size - made.weight_bytes() - other < 20_000, "codes, scales, norms, a header"


@pytest.mark.parametrize(("bos", "eos"), [(5, 9), (None, 9), (5, None), (None, None)])
def test_special_tokens_of_the_tokenizer(tmp_path, bos, eos):
    tokenizer = Tokenizer(find("bundled"))
    tokenizer.bos, tokenizer.eos = bos, eos
    tokenizer.save(tmp_path)
    found = Tokenizer(tmp_path)
    assert (found.bos, found.eos) == (bos, eos)


def test_tensors_are_in_the_plain_order(tmp_path):
    model = tiny_model(tiny_config(**MODELS["int4 by kernel, tied"]))
    save(quantize(model, "int4", group_size=32), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("blocks.0.attention.k", "blocks.1.mlp.down"):
        expected = int4(model.get_submodule(name).weight, group_size=32)
        for part in ("packed", "scale", "zero"):
            assert torch.equal(tensors[f"{name}.{part}"], getattr(expected, part))
    assert torch.equal(tensors["head.q"], int8(model.embedding.weight).q)
    assert "embedding.weight" not in tensors


def test_another_dtype_is_that_of_the_activations(tmp_path):
    made = quantize(tiny_model(dtype=torch.bfloat16), "int8")
    save(made, tmp_path)
    found = load(tmp_path, dtype=torch.float32)
    assert found(TOKENS).dtype == torch.float32
    assert torch.equal(found(TOKENS), made.to(torch.float32)(TOKENS))


def test_only_safetensors_json_and_nothing_pickled(tmp_path, bundled):
    save(quantize(bundled, "int8"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.safetensors",
        "teachkit.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


# --- the folder ----------------------------------------------------------------------------------------


def test_a_model_replaces_the_one_that_was_saved(tmp_path, bundled):
    save(quantize(bundled, "int8"), tmp_path)
    before = load(tmp_path)
    logits = before(TOKENS)
    made = quantize(tiny_model(), "int4")
    save(made, tmp_path)
    same(load(tmp_path), made)
    assert load(tmp_path).tokenizer is None
    assert torch.equal(before(TOKENS), logits), "a model that was read from there stays as it is"


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "model.safetensors").write_text("of someone else")
    with pytest.raises(FileExistsError, match=r"expected a new folder, .*; found model\.safetensors"):
        save(tiny_model(), tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "of someone else"


def test_an_interrupted_save_is_no_model(tmp_path, monkeypatch):
    save(tiny_model(), tmp_path)
    monkeypatch.setattr("teachkit.saved.save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(quantize(tiny_model(), "int8"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json: expected in a checkpoint folder"):
        load(tmp_path)


def test_a_model_of_several_dtypes_is_refused_before_anything_is_written(tmp_path):
    model = tiny_model()
    model.blocks[1].mlp.up.to(torch.bfloat16)
    with pytest.raises(WeightsError, match=r"1\.mlp\.up\.weight: expected F32 of shape .*, got BF16"):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- folders that do not fit ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """int4 blocks (the reference product), int8 head that the embedding is tied to, biases."""
    made = quantize(tiny_model(tiny_config(tied=True, **BIASED)), "int4", group_size=32)
    save(made, tmp_path)
    return tmp_path


def edit(folder, name, tensor):
    """Change the tensor of that name; None takes it away."""
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    (folder / "model.safetensors").unlink()
    save_file(tensors | ({} if tensor is None else {name: tensor}), folder / "model.safetensors")


def describe(folder, *keys, value):
    path = folder / "teachkit.json"
    whole = json.loads(path.read_text())
    place = whole
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            "blocks.1.mlp.up.scale",
            None,
            r"up\.scale: expected BF16 of shape \[41, 2\], not found",
        ),
        ("blocks.1.mlp.up.zero", None, r"up\.zero: expected BF16 of shape \[41, 2\], not found"),
        ("head.scale", None, r"head\.scale: expected F32 of shape \[61\], not found"),
        ("head.scale", torch.ones(1), r"head\.scale: expected F32 of shape \[61\], got F32 of shape \[1\]"),
        ("head.scale", torch.ones(61).half(), r"head\.scale: expected F32 of shape \[61\], got F16"),
        (
            "blocks.0.mlp.up.scale",
            torch.ones(41, 1).bfloat16(),
            r"up\.scale: expected BF16 of shape \[41, 2\], got BF16 of shape \[41, 1\]",
        ),
        (
            "head.q",
            torch.ones(61, 37).byte(),
            r"head\.q: expected I8 of shape \[61, 37\], got U8",
        ),
        ("head.q", torch.ones(61, 37), r"head\.q: expected I8 of shape \[61, 37\], got F32"),
        (
            "blocks.0.mlp.up.packed",
            torch.ones(41, 37).byte(),
            r"up\.packed: expected U8 of shape \[41, 19\], got U8 of shape \[41, 37\]",
        ),
        ("blocks.0.mlp.up.bias", None, r"up\.bias: expected F32 of shape \[41\], not found"),
        ("norm.weight", torch.ones(37).half(), r"norm\.weight: expected F32 of shape \[37\], got F16"),
        (
            "embedding.weight",
            torch.ones(61, 37),
            r"embedding\.weight: not expected .* \(1 such\)",
        ),
        ("blocks.0.mlp.up.weight", torch.ones(41, 37), r"up\.weight: not expected in this model"),
    ],
)
def test_tensors_that_do_not_fit(folder, name, tensor, message):
    edit(folder, name, tensor)
    with pytest.raises(WeightsError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("version",), 2, r"teachkit\.json: expected version 1, got 2; a later teachkit may read it"),
        (("dtype",), "int8", r"teachkit\.json: expected a dtype of float64, .*; got 'int8'"),
        (("quantized",), ["head"], r"expected 'quantized' to give a scheme by the name of a matrix"),
        (("quantized", "head"), "int8", r"expected 'quantized' to give a scheme by the name of a matrix"),
        (("quantized", "head"), {"scheme": "int3"}, r"head: expected a scheme of int8, w8a8; got 'int3'"),
        (
            ("quantized", "head"),
            {"scheme": "int4", "group_size": 32},
            r"int8, w8a8; got 'int4'",
        ),
        (("quantized", "head", "per"), "row", r"head: expected per 'channel' or 'tensor', got 'row'"),
        (
            ("quantized", UP, "scheme"),
            None,
            r"up: expected a scheme of int8, w8a8, int4; got None",
        ),
        (
            ("quantized", UP, "group_size"),
            48,
            r"expected a group_size of 32, 64, 128; got 48",
        ),
        (
            ("quantized", UP, "group_size"),
            64,
            r"up\.scale: expected BF16 of shape \[41, 1\], got",
        ),
        (
            ("quantized", "blocks.0.norm"),
            {"scheme": "int8", "per": "channel"},
            r"blocks\.0\.norm: expected the name of",
        ),
        (("config",), [], r"expected 'config' with the fields of a ModelConfig"),
        (("config", "depth"), 3, r"config: expected the fields of a ModelConfig in .*'depth'\)"),
        (("config", "rope_scaling"), {"kind": "linear"}, r"config: expected the fields of a ModelConfig"),
    ],
)
def test_descriptions_that_do_not_fit(folder, keys, value, message):
    describe(folder, *keys, value=value)
    of_config = len(keys) == 2 and keys[0] == "config"
    with pytest.raises(ConfigError if of_config else WeightsError, match=message):
        load(folder)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "expected a JSON object, got list")])
def test_descriptions_that_are_none(folder, text, message):
    (folder / "teachkit.json").write_text(text)
    with pytest.raises(WeightsError, match=message):
        load(folder)


def test_a_shape_that_cannot_be(folder):
    describe(folder, "config", "n_kv_heads", value=4)
    with pytest.raises(ConfigError, match="n_kv_heads: expected a divisor"):
        load(folder)


def test_a_damaged_file(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(whole[:-3])
    with pytest.raises(WeightsError, match="damaged or truncated"):
        load(folder)


def test_restore_reads_what_load_does(folder):
    same(restore(folder), load(folder))
