"""The table: every column against a computation of its own, on a tiny random model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import teachkit as tk
from conftest import tiny_config, tiny_model
from teachkit import cost, table
from teachkit.bench import Machine
from teachkit.evaluate import bits_per_byte, window_nats
from teachkit.heldout import Texts
from teachkit.quant_cache import QuantizedCache
from teachkit.table_schemes import SCHEMES
from teachkit.tokenizer import Tokenizer

V, CONTEXT = 272, 20
CONFIG = tiny_config(
    vocab_size=V, d_model=64, d_ff=128, n_heads=4, n_kv_heads=2, head_dim=16, context=40, tied=True
)
JUDGED = Texts("judged", ("def f(x):\n    return x\n" * 4, "é – ∞", "import os\n" * 9))
CALIBRATION = Texts("calibration", ("class A:\n    pass\n" * 20,))
SLOW_MEMORY = Machine("a machine", 1e6, {"fp32": 1e30, "bf16": 1e30}, overhead_s=0.0, results=())
ALL = list(SCHEMES)


class Bytes(Tokenizer):
    """One token per byte of UTF-8."""

    def __init__(self):
        self.bos, self.eos = 256, None

    def encode(self, text, *, special=True):
        return ([self.bos] if special else []) + list(text.encode())


@pytest.fixture(scope="module")
def model():
    made = tiny_model(CONFIG)
    made.tokenizer = Bytes()
    return made


def run(model, machine=SLOW_MEMORY, **options):
    options = {
        "tokens": 1,
        "turns": 2,
        "context": CONTEXT,
        "compiling": False,
        "measure": lambda: machine,
    } | options
    return table.run("tiny", model, JUDGED, CALIBRATION, **options)


@pytest.fixture(scope="module")
def found(model):
    return {row.scheme.name: row for row in run(model).rows}


# --- bytes, by hand ------------------------------------------------------------------------------------

L, C, F, HEAD = 2, 64, 128, V * 64
BLOCKS = L * (C * (64 + 32 + 32 + 64) + 3 * C * F)  # q, k, v, o, and gate, up, down
ROWS = L * (64 + 32 + 32 + 64 + F + F + C)  # outputs of these
GROUPS = L * (64 + 32 + 32 + 64 + F + F + 2 * C)  # groups of 64 in these: two in a row of down, one elsewhere
INT8_HEAD = HEAD + 4 * V  # and a scale in fp32 for each row
BYTES = {
    "fp32": 4 * (BLOCKS + HEAD),
    "bf16": 2 * (BLOCKS + HEAD),
    "int8": BLOCKS + 4 * ROWS + INT8_HEAD,
    "int4-rtn": BLOCKS // 2 + 4 * GROUPS + INT8_HEAD,  # scale and zero of two bytes each
    "int4-gptq": BLOCKS // 2 + 4 * GROUPS + INT8_HEAD,
    "w8a8": BLOCKS + 4 * ROWS + INT8_HEAD,
    "int8-kv": 4 * (BLOCKS + HEAD),
    "int4-kv": 4 * (BLOCKS + HEAD),
}
STORED = 2 * L * 2 * CONTEXT  # keys and values, layers, heads, tokens: rows of 16 numbers
KV_BYTES = dict.fromkeys(ALL, STORED * 64) | {
    "bf16": STORED * 32,
    "int8-kv": STORED * (16 + 2),
    "int4-kv": STORED * (8 + 4),
}


@pytest.mark.parametrize("name", ALL)
def test_bytes_by_hand(name, found):
    row = found[name]
    assert row.weight_bytes == BYTES[name]
    assert row.bits_per_weight == pytest.approx(8 * BYTES[name] / (BLOCKS + HEAD))
    assert row.kv_bytes == pytest.approx(KV_BYTES[name])


# --- predictions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_predicted_is_bytes_over_bandwidth_when_the_rest_is_free(name, found):
    """Weights, past, new token; and the cost model's norms, row of the embedding, and activations."""
    bits = 16 if name == "bf16" else 32
    plain = cost.decode_step(CONFIG, 1, CONTEXT, weight_bits=bits, act_bits=bits, kv_bits=bits)
    rest = (
        plain.bytes
        - (BLOCKS + HEAD) * bits / 8
        - plain.total("kv_read_bytes")
        - plain.total("kv_write_bytes")
    )
    n_bytes = BYTES[name] + KV_BYTES[name] * (1 + 1 / CONTEXT) + rest
    row = found[name]
    assert row.bound_s == pytest.approx(n_bytes / 1e6)
    assert row.predicted_s == row.bound_s


def test_overhead_is_that_of_the_operations_that_are_run(model):
    machine = replace(SLOW_MEMORY, overhead_s=0.5)
    for row in run(model, machine, rows=["int4-kv"]).rows:
        assert row.operations > 20 * L
        assert row.predicted_s == pytest.approx(row.bound_s + 0.5 * row.operations)
    plain, quantized = run(model, machine, rows=["int4-kv"]).rows
    assert quantized.operations > plain.operations


def test_arithmetic_binds_where_memory_is_free(model):
    """2 FLOPs a weight, 4 * H * D for each token of the past and layer; bf16 as fast as fp32 at least."""
    machine = Machine("a machine", 1e30, {"fp32": 2e6, "bf16": 1e6}, overhead_s=0.0, results=())
    flops = 2 * (BLOCKS + HEAD) + L * 4 * 4 * 16 * CONTEXT
    for row in run(model, machine, rows=["bf16", "int8"]).rows:
        assert row.bound_s == pytest.approx(flops / 2e6)
    quick = replace(machine, flops={"fp32": 2e6, "bf16": 8e6})
    assert run(model, quick, rows=["bf16"]).rows[1].bound_s == pytest.approx(flops / 8e6)


def test_bandwidth_is_measured_before_and_after_and_the_larger_counts(model):
    machines = iter([SLOW_MEMORY, replace(SLOW_MEMORY, bytes_per_s=4e6)])
    made = run(model, rows=["fp32"], measure=lambda: next(machines))
    assert made.bandwidths == (1e6, 4e6)
    assert made.rows[0].bound_s == pytest.approx(run(model, rows=["fp32"]).rows[0].bound_s / 4)


# --- quality -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_bits_per_byte_are_those_of_the_evaluation(name, model, found):
    scheme, row = SCHEMES[name], found[name]
    judged = scheme.model(model, CALIBRATION.texts)
    cache = None
    if scheme.kv_bits is not None:
        cache = lambda rows, tokens: QuantizedCache(CONFIG, rows, tokens, bits=scheme.kv_bits)  # noqa: E731
    expected = bits_per_byte(judged, JUDGED.texts, window=CONFIG.context, cache=cache)
    assert row.bits_per_byte == pytest.approx(expected, rel=1e-9)
    assert row.eager_bits_per_byte == row.bits_per_byte
    assert row.difference == pytest.approx(expected / found["fp32"].bits_per_byte - 1, abs=1e-9)


def test_each_format_has_a_quality_of_its_own(found):
    assert len({row.bits_per_byte for row in found.values()}) == len(ALL)
    assert found["fp32"].difference == 0
    assert found["int8"].error < found["int4-rtn"].error  # the weights are random: both may gain or lose


def test_standard_error_by_hand(model, found):
    assert table.standard_error(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx(math.sqrt(3 * 7))
    assert math.isnan(table.standard_error(torch.tensor([1.0])))
    quantized = tk.quantize(model, "int4", group_size=64)
    plain, other = (window_nats(m, JUDGED.texts, window=40) for m in (model, quantized))
    error = (other - plain).std().item() * math.sqrt(len(plain)) / plain.sum().item()
    assert found["int4-rtn"].error == pytest.approx(error)
    assert found["fp32"].error == 0


# --- what is timed -------------------------------------------------------------------------------------


def test_the_object_that_is_timed_is_the_one_that_is_judged(model, monkeypatch):
    """The compiled one where there is one. Here "compiling" moves the head, so that its quality shows it."""
    made = []

    def compiling(plain):
        other = tk.quantize(plain, "int8") if plain is model else plain
        made.append(other)
        return other

    monkeypatch.setattr(table, "fast", compiling)
    rows = {row.scheme.name: row for row in run(model, compiling=True, rows=["int8-kv"]).rows}
    assert len(made) == 1  # none for the quantized cache
    row = rows["fp32"]
    assert row.note == ""
    assert len(row.compiled.times_s) == 2
    judged = bits_per_byte(made[0], JUDGED.texts, window=CONFIG.context)
    assert row.bits_per_byte == pytest.approx(judged, rel=1e-9)
    assert row.weight_bytes == BYTES["int8"]
    assert rows["int8-kv"].compiled is None
    assert rows["int8-kv"].note == table.NO_QUANTIZED_CACHE


def test_other_kernels_are_judged_apart(model, monkeypatch):
    """Where the compiled model multiplies several rows by other kernels, the plain one is judged, too."""

    class Other(tk.Decoder):
        def kernels(self, rows=1):
            return [replace(use, kernel="another") for use in super().kernels(rows)]

    def compiling(plain):
        other = Other(plain.config, plain.tokenizer).eval().requires_grad_(False)
        other.load_state_dict({n: 1.1 * t for n, t in plain.state_dict().items()})
        return other

    monkeypatch.setattr(table, "fast", compiling)
    row = run(model, compiling=True, rows=["fp32"]).rows[0]
    assert row.eager_bits_per_byte == pytest.approx(bits_per_byte(model, JUDGED.texts, window=40), rel=1e-9)
    assert row.bits_per_byte != pytest.approx(row.eager_bits_per_byte, rel=1e-4)


def test_what_cannot_be_compiled_says_so(model, monkeypatch):
    def without_compiler(plain):
        raise RuntimeError("no C++ compiler\nand more words")

    monkeypatch.setattr(table, "fast", without_compiler)
    row = run(model, compiling=True, rows=["fp32"]).rows[0]
    assert (row.compiled, row.note) == (None, "not compiled, because no C++ compiler")


def test_rows_take_turns_at_the_context(model, monkeypatch):
    """Each step is of the last of CONTEXT tokens, A B A B; the time is of one step."""
    asked = []

    def recorded(self, tokens, **rest):
        asked.append((self.dtype, tokens.shape[1], int(rest["cache"].lengths[0])))
        return forward(self, tokens, **rest)

    forward = tk.Decoder.forward
    monkeypatch.setattr(table.evaluate, "window_nats", lambda *_, **__: torch.ones(2, dtype=torch.float64))
    monkeypatch.setattr(tk.Decoder, "forward", recorded)
    made = run(model, rows=["bf16"], tokens=3, turns=2)
    a, b = torch.float32, torch.bfloat16
    steps = [(dtype, n) for dtype, tokens, n in asked if tokens == 1]
    before = [a, b, *[a] * 3, *[b] * 3]  # operations are counted, and a warm-up
    assert [dtype for dtype, _ in steps] == before + 2 * ([a] * 3 + [b] * 3)
    assert {n for _, n in steps} == {CONTEXT - 1}
    assert [(dtype, n) for dtype, n, held in asked if n > 1] == [(a, CONTEXT - 1), (b, CONTEXT - 1)]
    assert all(len(row.eager.times_s) == 2 for row in made.rows)


def test_time_is_of_one_step(model, monkeypatch):
    calls = []

    def timed(calls_by_name, *, warmup, repeats):
        calls.append((warmup, repeats))
        return {name: table.Timing((6.0, 3.0, 9.0)) for name in calls_by_name}

    monkeypatch.setattr(table, "time_calls", timed)
    row = run(model, rows=["fp32"], tokens=3, turns=3).rows[0]
    assert row.eager.times_s == (2.0, 1.0, 3.0)
    assert calls == [(1, 3)]


def test_short_text_is_read_over_again(model):
    one = Texts("one", ("ab",))
    assert table._context_ids(model, one, 5) == [97, 98, 97, 98, 97]


def test_order_and_progress(model):
    told = []
    made = run(model, rows=["int4-kv", "int8", "bf16"], progress=told.append)
    assert [row.scheme.name for row in made.rows] == ["fp32", "bf16", "int8", "int4-kv"]
    assert told[0] == "measuring the machine"
    assert told[-1] == f"judging int4-kv by {JUDGED.n_bytes} bytes"
    assert made.calibration is None  # no row looked at it


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ["int3"]}, "rows: expected some of fp32, .*; got int3"),
        ({"tokens": 0}, "tokens, turns: expected at least 1, got 0 and 2"),
        ({"turns": 0}, "tokens, turns: expected at least 1, got 1 and 0"),
        ({"context": 41}, "context: expected 2 to the model's 40, got 41"),
        ({"context": 1}, "context: expected 2 to the model's 40, got 1"),
    ],
)
def test_bad_input(options, message, model):
    with pytest.raises(ValueError, match=message):
        run(model, **options)


def test_calibration_that_is_missing_or_judged_by(model):
    asked = {"rows": ["int4-gptq"], "measure": lambda: SLOW_MEMORY}
    with pytest.raises(ValueError, match="calibration: expected text for GPTQ, got none"):
        table.run("tiny", model, JUDGED, None, **asked)
    with pytest.raises(ValueError, match="calibration: expected other text than that to be judged by"):
        table.run("tiny", model, JUDGED, Texts("x", (JUDGED.texts[0][:30],)), **asked)


@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_a_model_that_is_not_in_fp32(name, model):
    with pytest.raises(ValueError, match=r"model: expected all matrices in float32, got (bfloat16|int8)"):
        run(SCHEMES[name].model(model, ()))
