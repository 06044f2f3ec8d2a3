"""Counts of FLOPs and bytes: against the model, PyTorch's own counter, hand-computed values, properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from conftest import unchecked
from teachkit import cost
from teachkit.cache import ContiguousCache
from teachkit.config import ModelConfig
from teachkit.model import Decoder

# Every size another number, so that none can stand in for another.
SMALL = ModelConfig(
    vocab_size=101, d_model=48, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, d_ff=70, context=64
)
GPT = replace(SMALL, norm="layer", activation="gelu", gated_mlp=False, position="learned", windows=())
GPT = replace(GPT, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True)
FALCON = replace(
    SMALL, norm="layer", gated_mlp=False, activation="gelu", parallel_residual=True, n_kv_heads=1
)
VARIANTS = {
    "small": SMALL,
    "tied": replace(SMALL, tied=True),
    "gpt": GPT,
    "falcon, shared norm": replace(FALCON, parallel_norms=1),
    "falcon, two norms": FALCON,
    "biases": replace(SMALL, qkv_bias=True, mlp_bias=True),
    "norms of queries and keys": replace(SMALL, qk_norm=True),
}
BITS = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}


def on_meta(config: ModelConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(config)


# --- parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_parameters_are_those_of_the_decoder(config):
    model = on_meta(config)
    expected = {
        "embedding": [model.embedding, model.position_embedding],
        "attention projections": [getattr(b.attention, name) for b in model.blocks for name in "qkvo"],
        "mlp": [b.mlp for b in model.blocks],
        "head": [model.head],
    }
    counts = {
        name: sum(p.numel() for part in parts if part is not None for p in part.parameters())
        for name, parts in expected.items()
    }
    counts["norms"] = sum(p.numel() for p in model.parameters()) - sum(counts.values())
    assert cost.parameters(config) == counts


# --- FLOPs -----------------------------------------------------------------------------------------------


def counted(config: ModelConfig, batch: int, past: int, new: int) -> int:
    """FLOPs of the matrix products that PyTorch is asked for; scores of all pairs, masked ones included."""
    model, cache = Decoder(config).eval(), ContiguousCache(config, batch, past + new)
    with torch.inference_mode():
        if past:
            model(torch.zeros(batch, past, dtype=torch.int64), cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(batch, new, dtype=torch.int64), cache=cache, last_only=True)
    return counter.get_total_flops()


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("batch", "past", "new"), [(1, 0, 1), (2, 0, 7), (3, 5, 4), (1, 11, 1)])
def test_flops_are_those_that_pytorch_counts(config, batch, past, new):
    ours = cost.prefill(config, batch, new, past=past)
    pairs = new * past + new * (new + 1) // 2
    masked = new * (past + new) - pairs  # computed by our attention, and not needed
    width = config.n_heads * config.head_dim
    assert ours.flops + 4 * batch * config.n_layers * width * masked == counted(config, batch, past, new)


def test_decode_is_a_prefill_of_one_token():
    one = cost.decode_step(SMALL, 3, 12)
    assert one.components == cost.prefill(SMALL, 3, 1, past=11).components
    assert (one.phase, one.tokens) == ("decode", 3)


@given(T=st.integers(1, 9), past=st.integers(0, 9), window=st.integers(1, 20))
def test_pairs_are_those_of_the_mask(T, past, window):
    seen = sum(past + i - window < j <= past + i for i in range(T) for j in range(past + T))
    config = replace(SMALL, n_layers=2, windows=(window, None))
    full = T * past + T * (T + 1) // 2
    attention = cost.prefill(config, 1, T, past=past)["attention scores"]
    assert attention.flops == 4 * 60 * (seen + full)


def test_training_is_three_or_four_passes():
    forward = cost.prefill(SMALL, 2, 9)
    all_logits = 2 * (2 * 9 - 2) * 48 * 101  # training needs every token's, a prompt only the last
    assert cost.train_step(SMALL, 2, 9).flops == 3 * (forward.flops + all_logits)
    assert cost.train_step(SMALL, 2, 9, recompute=True).flops == 4 * (forward.flops + all_logits)


@pytest.mark.parametrize(("recompute", "times"), [(False, 2), (True, 3)])
def test_training_exchanges_as_often_backward_as_forward(recompute, times):
    config = replace(SMALL, vocab_size=100)
    step = cost.train_step(config, 2, 9, tp=2, recompute=recompute)
    # Two all-reduces in each of 3 layers and one more; each of 2 * (2 - 1) / 2 of 18 tokens of 48 numbers.
    assert step["communication"].messages == times * (2 * 3 + 1)
    assert step["communication"].link_bytes == times * (2 * 3 + 1) * 18 * 48 * 2
    assert step["mlp"].flops == (times + 1) * cost.prefill(config, 2, 9, tp=2)["mlp"].flops


# --- bytes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_a_step_reads_every_weight_once_but_only_its_rows_of_the_embedding(config):
    step = cost.decode_step(config, 1, 5, **BITS)
    numbers = cost.parameters(config)
    tables = numbers["embedding"]
    rows = 48 * (2 if config.position == "learned" else 1)
    head = 101 * 48  # read as the head even where it is the embedding
    expected = sum(numbers.values()) - tables - numbers["head"] + rows + head
    assert step.total("weight_bytes") == 4 * expected


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_cache_is_as_large_as_the_real_one(config):
    cache = ContiguousCache(config, 3, 17)
    step = cost.decode_step(config, 3, 17, **BITS)
    assert step.total("kv_read_bytes") == cache.nbytes
    assert step.total("kv_write_bytes") == cache.nbytes / 17


def test_window_bounds_what_is_held_and_read():
    config = replace(SMALL, windows=(4, None, 4))
    token = 2 * 2 * 10 * 2  # key and value, two heads of 10, 16 bits
    assert cost.decode_step(config, 1, 20)["attention scores"].kv_read_bytes == token * (4 + 20 + 4)
    # A chunk of 3 after 17: its first query reaches back 3, so 4 + 2 keys are read.
    assert cost.prefill(config, 1, 3, past=17)["attention scores"].kv_read_bytes == token * (6 + 20 + 6)


# --- tensor parallelism ----------------------------------------------------------------------------------


def test_one_device_has_no_communication():
    step = cost.decode_step(SMALL, 2, 9)
    assert step.total("link_bytes") == step.total("messages") == 0
    assert "communication" not in [c.name for c in step.components]


def test_two_devices_halve_the_matrices_and_talk():
    config = replace(SMALL, vocab_size=100)
    one, two = cost.decode_step(config, 2, 9), cost.decode_step(config, 2, 9, tp=2)
    for name in ("attention projections", "mlp", "head"):
        assert two[name].flops == one[name].flops / 2
        assert two[name].weight_bytes == one[name].weight_bytes / 2
    assert two["attention scores"].kv_bytes == one["attention scores"].kv_bytes / 2
    assert two["norms"] == one["norms"]
    # Two all-reduces a layer and one more, each of 2 * (2 - 1) / 2 of 2 tokens of 48 numbers of 2 bytes.
    assert two["communication"].link_bytes == 7 * 2 * 48 * 2
    assert two["communication"].messages == 7


def test_more_devices_than_key_value_heads_hold_copies():
    config = replace(SMALL, n_heads=8, n_kv_heads=2, d_ff=72, vocab_size=104)
    two, four = (cost.decode_step(config, 1, 9, tp=tp)["attention scores"] for tp in (2, 4))
    assert four.kv_bytes == two.kv_bytes
    assert four.flops == two.flops / 2


# --- properties ------------------------------------------------------------------------------------------

steps = st.builds(
    lambda batch, context, w, a, kv: (batch, context, {"weight_bits": w, "act_bits": a, "kv_bits": kv}),
    st.integers(1, 40),
    st.integers(1, 63),
    *[st.sampled_from([4, 4.5, 8, 16, 32])] * 3,
)


@given(steps)
def test_parts_sum_to_the_total_and_nothing_is_negative(case):
    batch, context, bits = case
    step = cost.decode_step(SMALL, batch, context, **bits)
    for count in ("flops", "bytes", "weight_bytes", "activation_bytes", "kv_bytes"):
        values = [getattr(part, count) for part in step.components]
        assert min(values) >= 0
        assert step.total(count) == pytest.approx(sum(values), rel=0)
    assert step.bytes == pytest.approx(
        step.total("weight_bytes") + step.total("activation_bytes") + step.total("kv_bytes")
    )
    assert step.intensity == step.flops / step.bytes


@given(steps)
def test_more_of_anything_is_never_cheaper(case):
    batch, context, bits = case
    step = cost.decode_step(SMALL, batch, context, **bits)
    larger = cost.decode_step(SMALL, batch + 1, context, **bits)
    longer = cost.decode_step(SMALL, batch, context + 1, **bits)
    assert larger.flops > step.flops
    assert longer.flops > step.flops
    assert larger.bytes > step.bytes
    assert longer.bytes > step.bytes
    for name in bits:
        wider = cost.decode_step(SMALL, batch, context, **{**bits, name: bits[name] + 1})
        assert wider.bytes > step.bytes
        assert wider.flops == step.flops


def test_parts_have_names():
    step = cost.decode_step(SMALL, 1, 2)
    assert step["mlp"].name == "mlp"
    with pytest.raises(KeyError, match="attention scores"):
        step["attention"]


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((0, 5), {}, "batch: expected a whole number of at least 1, got 0"),
        ((1.5, 5), {}, "batch: expected a whole number"),
        ((1, 0), {}, "tokens: expected a whole number of at least 1, got 0"),
        ((1, 65), {}, "context: expected at most the model's 64 tokens, got 65"),
        ((1, 5), {"past": 60}, "got 65"),
        ((1, 5), {"past": -1}, "past: expected at least 0, got -1"),
        ((1, 5), {"weight_bits": 0}, "weight_bits: expected more than 0"),
        ((1, 5), {"kv_bits": -4}, "kv_bits: expected more than 0"),
        ((1, 5), {"act_bits": float("nan")}, "act_bits: expected more than 0"),
        ((1, 5), {"tp": 0}, "tp: expected a whole number of at least 1, got 0"),
        ((1, 5), {"tp": 4}, r"tp: expected a divisor of n_heads \(6\), got 4"),
        ((1, 5), {"tp": 3}, r"tp: expected a divisor of d_ff \(70\), got 3"),
    ],
)
def test_bad_input_is_named(arguments, options, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        cost.prefill(SMALL, *arguments, **options)


def test_bad_input_of_the_others():
    with pytest.raises(ValueError, match="context: expected a whole number of at least 1, got 0"):
        cost.decode_step(SMALL, 1, 0)
    uneven = replace(SMALL, n_heads=12, n_kv_heads=4, d_ff=72, vocab_size=102)
    with pytest.raises(ValueError, match=r"n_kv_heads \(4\), got 6"):
        cost.decode_step(uneven, 1, 5, tp=6)
