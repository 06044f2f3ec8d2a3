"""Formats of the table: which matrices change and how, what a stored number takes, which rows are chosen."""

from __future__ import annotations

import pytest
import torch

from conftest import tiny_config, tiny_model
from teachkit.cache import ContiguousCache
from teachkit.quant_cache import QuantizedCache
from teachkit.table_schemes import SCHEMES, choose

NAMES = ["fp32", "bf16", "int8", "int4-rtn", "int4-gptq", "w8a8", "int8-kv", "int4-kv"]
CALIBRATION = [torch.randint(61, (4, 50), generator=torch.Generator().manual_seed(1))]


@pytest.fixture(scope="module")
def original():
    return tiny_model(tiny_config(head_dim=16))


@pytest.mark.parametrize(
    ("name", "block", "head"),
    [
        ("fp32", "float32", "float32"),
        ("bf16", "bfloat16", "bfloat16"),
        ("int8", "int8", "int8"),
        ("int4-rtn", "int4", "int8"),
        ("int4-gptq", "int4", "int8"),
        ("w8a8", "w8a8", "int8"),
        ("int8-kv", "float32", "float32"),
        ("int4-kv", "float32", "float32"),
    ],
)
def test_which_matrices_are_quantized(name, block, head, original):
    model = SCHEMES[name].model(original, CALIBRATION)
    *blocks, last = model.kernels()
    assert {use.scheme for use in blocks} == {block}
    assert last.scheme == head
    assert {use.scheme for use in original.kernels()} == {"float32"}  # untouched
    assert model.dtype == (torch.bfloat16 if name == "bf16" else torch.float32)
    assert (model is original) == (name in ("fp32", "int8-kv", "int4-kv"))


def test_no_two_models_are_the_same(original):
    tokens = torch.arange(20)[None]
    logits = {name: SCHEMES[name].model(original, CALIBRATION)(tokens).float() for name in NAMES[:6]}
    for i, a in enumerate(logits):
        for b in list(logits)[i + 1 :]:
            assert not torch.equal(logits[a], logits[b]), (a, b)


def test_int4_is_in_asymmetric_groups_of_64(original):
    layer = SCHEMES["int4-rtn"].model(original, ()).blocks[0].mlp.down
    assert layer.group_size == 64
    assert layer.weight.zero.abs().max() > 0
    assert SCHEMES["int4-gptq"].model(original, CALIBRATION).blocks[0].mlp.down.group_size == 64


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", 32),
        ("bf16", 16),
        ("int8", 32),
        ("int8-kv", (16 + 2) * 8 / 16),  # a byte each, and a scale of two bytes, for 16 numbers
        ("int4-kv", (8 + 4) * 8 / 16),  # half a byte each, a scale and a zero
    ],
)
def test_bits_of_a_stored_number_by_hand(name, bits, original):
    scheme = SCHEMES[name]
    assert scheme.bits_of_cache(scheme.model(original, ())) == bits


def test_caches(original):
    assert isinstance(SCHEMES["int8"].cache(original, 2, 7), ContiguousCache)
    cache = SCHEMES["int4-kv"].cache(original, 2, 7)
    assert isinstance(cache, QuantizedCache)
    assert (cache.k.bits, cache.capacity, len(cache.lengths)) == (4, 7, 2)
    assert SCHEMES["int8-kv"].cache(original, 1, 7).k.bits == 8


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (None, NAMES),
        ([], ["fp32"]),
        (["w8a8", "bf16", "w8a8"], ["fp32", "bf16", "w8a8"]),  # in the order of the table, each once
    ],
)
def test_choose(asked, names):
    assert [scheme.name for scheme in choose(asked)] == names


def test_choose_unknown():
    with pytest.raises(ValueError, match=r"rows: expected some of fp32, bf16, .*; got int3, x"):
        choose(["x", "bf16", "int3"])


def test_only_gptq_looks_at_text():
    assert [scheme.name for scheme in choose(None) if scheme.calibrated] == ["int4-gptq"]
