"""Attention maps: what transformers shows for the same weights, and no change to the model."""

from __future__ import annotations

import pytest
import torch

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.maps import RecordingStep, attention_maps
from tolerance import LOGITS, TOLERANCE

close = torch.testing.assert_close
FP32 = TOLERANCE[torch.float32]
CODE = "def area(self):\n    return self.width * self.height\n"


@pytest.fixture(scope="module")
def theirs():
    from transformers import AutoModelForCausalLM

    load = AutoModelForCausalLM.from_pretrained
    return load(tk.weights.find("bundled"), attn_implementation="eager", dtype=torch.float32).eval()


def test_equals_transformers_on_the_bundled_model(bundled, theirs):
    tokens = torch.tensor([bundled.tokenizer.encode(CODE)])
    with torch.inference_mode():
        expected = torch.cat(theirs(tokens, output_attentions=True).attentions)
    ours = attention_maps(bundled, tokens)
    assert ours.shape == (6, 4, tokens.shape[1], tokens.shape[1])
    close(ours, expected, **LOGITS[torch.float32])


def test_one_layer_by_hand():
    # All keys alike: each token reads those it sees in equal parts, in a window of 2 at most two.
    model = tiny_model(tiny_config(windows=(None, 2)))
    for block in model.blocks:
        block.attention.k.weight.zero_()
    maps = attention_maps(model, random_tokens(1, 3))
    close(maps[0, 4], torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]), **FP32)
    close(maps[1, 4], torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [0, 1 / 2, 1 / 2]]), **FP32)


@pytest.mark.parametrize("changes", [{}, {"windows": (None, 3)}, {"position": "learned"}], ids=str)
def test_rows_sum_to_one_over_the_past(changes):
    maps = attention_maps(tiny_model(tiny_config(**changes)), random_tokens(1, 11))
    assert maps.shape == (2, 15, 11, 11)
    close(maps.sum(-1), torch.ones(2, 15, 11), **FP32)
    assert (maps >= 0).all()
    assert (maps.triu(1) == 0).all()
    if "windows" in changes:
        assert (maps[1].tril(-3) == 0).all()
        assert (maps[0].tril(-3) != 0).any()


def test_maps_are_what_mixes_the_values():
    # One layer whose output is its heads' means of the values: recompute it from the map.
    model = tiny_model(tiny_config(n_layers=1), dtype=torch.float64)
    tokens = random_tokens(1, 7)
    block, maps = model.blocks[0], attention_maps(model, tokens)
    x = model.embedding(tokens)
    normed = block.attention_norm(x)
    v = block.attention.v(normed).view(1, 7, 3, 14).transpose(1, 2).repeat_interleave(5, 1)
    x = x + block.attention.o((maps @ v).transpose(1, 2).flatten(2))
    x = x + block.mlp(block.mlp_norm(x))
    close(model.project(model.norm(x)), model(tokens), **LOGITS[torch.float64])


def test_recording_changes_nothing():
    model, tokens = tiny_model(), random_tokens(2, 7)
    step = RecordingStep(model, tokens)
    assert torch.equal(model(tokens, step=step), model(tokens))
    assert [tuple(m.shape) for m in step.maps] == [(2, 15, 7, 7)] * 2
    close(step.maps[0][1:], attention_maps(model, tokens[1:])[:1], **FP32)


@pytest.mark.parametrize("rows", [0, 2])
def test_only_one_row(rows):
    with unchecked(), pytest.raises(ValueError, match=f"tokens: expected one row, got {rows}"):
        attention_maps(tiny_model(), random_tokens(rows, 3))
