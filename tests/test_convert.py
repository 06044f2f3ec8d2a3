"""convert.py: a model with fewer key/value heads, exact where nothing is lost, equal to hand-made means.

The oracle is the way back: a grouped model whose heads are repeated is a multi-head model with equal heads in
each group, and must convert to the grouped model that it came from.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.cache import ContiguousCache
from teachkit.convert import group_heads
from teachkit.model import Decoder
from teachkit.tokenizer import Tokenizer
from teachkit.weights import find
from tolerance import LOGITS, TOLERANCE

F64 = torch.float64
TOKENS = random_tokens(2, 17)
SHAPES = {
    "llama": {},
    "biases": {"qkv_bias": True, "o_bias": True, "mlp_bias": True},
    "qk_norm": {"qk_norm": True},
    "tied": {"tied": True},
    "learned positions": {"position": "learned", "norm": "layer", "gated_mlp": False, "qkv_bias": True},
    "parallel": {"parallel_residual": True, "parallel_norms": 1, "norm": "layer", "gated_mlp": False},
}
each_shape = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())


def kv_names(model):
    return [n for n in model.state_dict() if n.split(".")[-2] in ("k", "v")]


def repeated(model, n_kv_heads, *, interleaved=False):
    """The same function with more heads: each written several times, as neighbours or in turns."""
    config = model.config
    times = n_kv_heads // config.n_kv_heads
    wide = Decoder(replace(config, n_kv_heads=n_kv_heads)).to(model.embedding.weight.dtype)
    state = model.state_dict()
    for name in kv_names(model):
        heads = state[name].unflatten(0, (config.n_kv_heads, config.head_dim))
        copies = [heads] * times
        stacked = torch.cat(copies) if interleaved else torch.stack(copies, 1).flatten(0, 1)
        state[name] = stacked.flatten(0, 1)
    wide.load_state_dict(state)
    return wide.eval().requires_grad_(False)


# --- what it computes ----------------------------------------------------------------------------------


@each_shape
@pytest.mark.parametrize("method", ["mean", "first"])
def test_equal_heads_convert_without_loss(changes, method):
    grouped = tiny_model(tiny_config(**changes), dtype=F64)
    multi_head = repeated(grouped, 15)
    expected = multi_head(TOKENS)
    torch.testing.assert_close(expected, grouped(TOKENS), **LOGITS[F64])
    converted = group_heads(multi_head, 3, method)
    torch.testing.assert_close(converted(TOKENS), expected, **LOGITS[F64])


@pytest.mark.parametrize("n_kv_heads", [1, 3, 5])
def test_neighbours_form_a_group(n_kv_heads):
    """Heads that repeat in turns hold the same set, in the order that grouped attention does not read."""
    grouped = tiny_model(tiny_config(n_kv_heads=n_kv_heads), dtype=F64)
    in_turns = repeated(grouped, 15, interleaved=True)
    converted = group_heads(in_turns, n_kv_heads)
    same = torch.allclose(converted(TOKENS), grouped(TOKENS), **LOGITS[F64])
    assert same == (n_kv_heads == 1)  # one group: no order to confuse


def test_each_head_is_read_by_its_own_group_of_queries():
    """A query head is silenced by its columns of o: then nothing depends on a group that only it read."""
    model = tiny_model(tiny_config(n_heads=6, n_kv_heads=6, n_layers=1), dtype=F64)
    D = model.config.head_dim
    model.blocks[0].attention.o.weight[:, : 3 * D] = 0  # only heads 3, 4, 5 are heard
    converted = group_heads(model, 2)
    before = converted(TOKENS)
    converted.blocks[0].attention.v.weight[:D] += 1.0
    torch.testing.assert_close(converted(TOKENS), before, **LOGITS[F64])
    converted.blocks[0].attention.v.weight[D:] += 1.0
    assert not torch.allclose(converted(TOKENS), before, **LOGITS[F64])


def by_hand(letter="k", method="mean"):
    """Four heads of width 2 over a residual stream of 2, converted to two heads."""
    config = tiny_config(d_model=2, n_heads=4, n_kv_heads=4, head_dim=2, n_layers=1, qkv_bias=True)
    model = tiny_model(config)
    layer = getattr(model.blocks[0].attention, letter)
    layer.weight.copy_(
        torch.tensor([[1, 2], [3, 4], [5, 10], [7, 0], [-1, -1], [0, 8], [1, 3], [2, -8]], dtype=torch.float)
    )
    layer.bias.copy_(torch.tensor([0, 10, 2, 20, 1, 1, 1, -3], dtype=torch.float))
    converted = getattr(group_heads(model, 2, method).blocks[0].attention, letter)
    return converted.weight.tolist(), converted.bias.tolist()


@pytest.mark.parametrize("letter", ["k", "v"])
def test_mean_by_hand(letter):
    weight, bias = by_hand(letter)
    assert weight == [[3, 6], [5, 2], [0, 1], [1, 0]]
    assert bias == [1, 15, 1, -1]


@pytest.mark.parametrize("letter", ["k", "v"])
def test_first_by_hand(letter):
    weight, bias = by_hand(letter, "first")
    assert weight == [[1, 2], [3, 4], [-1, -1], [0, 8]]
    assert bias == [0, 10, 1, 1]


@each_shape
@pytest.mark.parametrize("method", ["mean", "first"])
def test_as_many_heads_as_before_is_the_identity(changes, method):
    model = tiny_model(tiny_config(n_kv_heads=5, **changes), dtype=torch.bfloat16)
    same = group_heads(model, 5, method)
    assert same.config == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(same.state_dict()[name], weight), name


def test_conversion_in_two_steps_is_that_in_one():
    model = tiny_model(tiny_config(n_kv_heads=15), dtype=F64)
    direct, by_stages = group_heads(model, 1), group_heads(group_heads(model, 5), 1)
    for name in kv_names(model):
        torch.testing.assert_close(by_stages.state_dict()[name], direct.state_dict()[name], **TOLERANCE[F64])


def test_mean_of_bf16_is_rounded_once():
    """A sum in bf16 would be rounded too: 256 + 4 + 1 is 260 there, and a third of it 86.5."""
    model = tiny_model(tiny_config(n_heads=3, n_kv_heads=3, n_layers=1), dtype=torch.bfloat16)
    weight = model.blocks[0].attention.k.weight
    D = model.config.head_dim
    weight[:D], weight[D : 2 * D], weight[2 * D :] = 256.0, 4.0, 1.0
    converted = group_heads(model, 1).blocks[0].attention.k.weight
    assert converted.dtype == torch.bfloat16
    assert set(converted.flatten().tolist()) == {87.0}  # 261 / 3


def test_random_heads_keep_the_scale_and_nothing_else():
    model = tiny_model(tiny_config(n_heads=30, n_kv_heads=30, d_model=101, qkv_bias=True))
    random = group_heads(model, 15, "random", seed=1)
    for name in kv_names(model):
        old, new = model.state_dict()[name], random.state_dict()[name]
        assert new.square().mean().sqrt().item() == pytest.approx(
            old.square().mean().sqrt().item(), rel=0.15 if old.ndim == 1 else 0.03
        )
        pooled = group_heads(model, 15).state_dict()[name]
        correlation = torch.corrcoef(torch.stack((new.flatten(), pooled.flatten())))[0, 1].item()
        assert abs(correlation) < 4 * new.numel() ** -0.5
    again = group_heads(model, 15, "random", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(random.parameters(), again.parameters(), strict=True))
    other = group_heads(model, 15, "random", seed=2)
    assert not torch.equal(other.blocks[0].attention.k.weight, random.blocks[0].attention.k.weight)
    k, v = random.blocks[0].attention.k.weight, random.blocks[0].attention.v.weight
    assert not torch.equal(k / k.std(), v / v.std())


# --- what it leaves alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mean", "first", "random"])
@pytest.mark.parametrize("n_kv_heads", [1, 5])
def test_the_original_is_untouched_and_shares_nothing(method, n_kv_heads):
    model = tiny_model(tiny_config(n_kv_heads=5, qkv_bias=True, tied=True))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    converted = group_heads(model, n_kv_heads, method)
    for weight in converted.parameters():
        weight.add_(1.0)
    assert model.config.n_kv_heads == 5
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


@each_shape
def test_only_keys_and_values_change(changes):
    model = tiny_model(tiny_config(n_kv_heads=15, **changes))
    converted = group_heads(model, 5).state_dict()
    changed = {n for n, w in model.state_dict().items() if not torch.equal(w, converted[n])}
    assert changed == set(kv_names(model))


def test_config_tokenizer_mode_and_dtype_come_along():
    model = tiny_model(tiny_config(n_kv_heads=15, windows=(7, None)), dtype=F64)
    model.tokenizer = Tokenizer(find("bundled"))  # any: it is handed on, not looked at
    converted = group_heads(model, 5)
    assert converted.config == replace(model.config, n_kv_heads=5)
    assert converted.tokenizer is model.tokenizer
    assert {w.dtype for w in converted.parameters()} == {F64}
    assert not converted.training
    assert not any(w.requires_grad for w in converted.parameters())
    trainable = model.train().requires_grad_(True)
    converted = group_heads(trainable, 5)
    assert converted.training
    assert all(w.requires_grad and w.is_leaf for w in converted.parameters())


def test_tied_head_stays_tied():
    converted = group_heads(tiny_model(tiny_config(n_kv_heads=15, tied=True)), 5)
    before = converted(TOKENS)
    assert converted.head is None
    converted.embedding.weight.mul_(2.0)
    assert not torch.allclose(converted(TOKENS), before)


def test_cache_shrinks_by_the_group():
    model = tiny_model(tiny_config(n_kv_heads=15))
    converted = group_heads(model, 3)
    nbytes = [ContiguousCache(m.config, 1, 11).nbytes for m in (model, converted)]
    assert nbytes[0] == 5 * nbytes[1]
    cache = ContiguousCache(converted.config, 2, 17)
    stepwise = torch.cat([converted(TOKENS[:, i : i + 1], cache=cache) for i in range(17)], 1)
    torch.testing.assert_close(stepwise, converted(TOKENS), **LOGITS[torch.float32])


# --- what it refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_kv_heads", "message"),
    [
        (4, "n_kv_heads: expected a divisor of the 6 heads there, got 4"),
        (12, "n_kv_heads: expected at most the 6 key/value heads there, got 12"),
        (0, "n_kv_heads: expected at least 1, got 0"),
        (-2, "n_kv_heads: expected at least 1, got -2"),
    ],
)
def test_refuses_a_number_of_heads(n_kv_heads, message):
    model = tiny_model(tiny_config(n_heads=12, n_kv_heads=6))
    with pytest.raises(ValueError, match=f"^{message}$"):
        group_heads(model, n_kv_heads)


def test_refuses_an_unknown_method():
    model = tiny_model()
    message = "method: expected one of mean, first, random; got 'median'"
    with unchecked(), pytest.raises(ValueError, match=f"^{message}$"):
        group_heads(model, 1, "median")


def test_refuses_projections_that_are_not_plain():
    class Packed(nn.Module):
        """Stands for a quantized layer, which has no weight to average."""

    model = tiny_model()
    model.blocks[1].attention.v = Packed()
    with pytest.raises(ValueError, match=r"^blocks\.1\.attention\.v: expected an nn\.Linear .*got Packed$"):
        group_heads(model, 1)
