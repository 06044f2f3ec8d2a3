"""Limits of this machine: what is timed does what it says; no test asserts a time."""

from __future__ import annotations

import pytest
import torch

from teachkit import bench, cost, roofline
from teachkit.cache import ContiguousCache
from teachkit.config import ModelConfig
from teachkit.measure import Timing
from teachkit.model import Decoder

SMALL = ModelConfig(vocab_size=101, d_model=48, n_layers=3, n_heads=6, n_kv_heads=2, d_ff=70, context=64)


@pytest.fixture
def machine():
    return bench.this_machine(read_bytes=2**16, size=64, repeats=3, formats=("fp32", "bf16"))


def test_every_limit_is_a_record_with_provenance(machine):
    assert [r.name for r in machine.results] == [
        "read bandwidth",
        "matrix product",
        "matrix product",
        "overhead of an operation",
    ]
    assert [r.unit for r in machine.results] == ["bytes/s", "FLOP/s", "FLOP/s", "s"]
    assert all(r.kind == "measured" and r.value > 0 and r.n >= 3 and r.device for r in machine.results)
    assert machine.bytes_per_s == machine.results[0].value
    assert machine.flops == {"fp32": machine.results[1].value, "bf16": machine.results[2].value}
    assert machine.overhead_s == machine.results[3].value


def test_a_measured_machine_bounds_a_step(machine):
    step = cost.decode_step(SMALL, 1, 9, weight_bits=32, act_bits=32, kv_bits=32)
    bound = roofline.time_bound(step, machine.device())
    assert bound.seconds >= step.bytes / machine.bytes_per_s
    with pytest.raises(ValueError, match="no published rate for 8"):
        machine.device().peak(8)


def test_rates_are_amount_over_the_fastest_time(monkeypatch):
    monkeypatch.setattr(bench, "time_call", lambda *_, **__: Timing((0.004, 0.002, 0.003)))
    assert bench.read_bandwidth(4096).value == 4096 / 0.002
    assert bench.gemm(torch.float32, 64).value == 2 * 64**3 / 0.002
    assert bench.operation_overhead().value == pytest.approx(0.002 / bench.CALLS)
    assert bench.gemm(torch.float32, 64).median == 0.003


def test_a_slow_format_is_measured_on_small_matrices(monkeypatch):
    monkeypatch.setattr(bench, "time_call", lambda *_, **__: Timing((1.0, 1.0, 1.0)))
    assert bench.gemm(torch.float16, 64).config == {"m": 8, "n": 8, "k": 8}


def test_a_missing_kernel_leaves_the_format_out(monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(bench, "time_call", missing)
    assert bench.gemm(torch.float16, 64) is None


def test_a_slow_spell_is_no_slow_kernel(monkeypatch):
    """Nine calls of ten are held up; the tenth shows what the kernel takes."""
    held_up = Timing((1.0,) * 9 + (1e-6,))
    monkeypatch.setattr(bench, "time_call", lambda *_, **__: held_up)
    assert bench.gemm(torch.bfloat16, 64).config == {"m": 64, "n": 64, "k": 64}


def test_a_busy_spell_is_no_slow_kernel(monkeypatch):
    """All of the first try is held up; the second one shows what the kernel takes."""
    timings = [Timing((1.0,) * 3), Timing((1e-6,) * 3), Timing((1e-3,) * 3)]
    monkeypatch.setattr(bench, "time_call", lambda *_, **__: timings.pop(0))
    assert bench.gemm(torch.bfloat16, 64).config == {"m": 64, "n": 64, "k": 64}


def test_memory_of_this_machine(monkeypatch):
    assert 2**28 < bench.memory_bytes("cpu") < 2**50
    monkeypatch.setattr(bench.os, "sysconf_names", {})
    monkeypatch.setattr(bench.sys, "platform", "somewhere")
    with pytest.raises(ValueError, match="does not say how much memory 'cpu' has"):
        bench.memory_bytes("cpu")


def test_int8_is_a_product_of_int8(monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "time_call", lambda call, **_: seen.append(call()) or Timing((1.0,) * 3))
    bench.gemm(torch.int8, 256)
    assert seen[0].dtype == torch.int32


def test_unknown_format_is_named():
    with pytest.raises(ValueError, match="got int3"):
        bench.this_machine(formats=("int3",))


def test_operations_are_counted_and_views_are_not():
    x = torch.ones(4, 4)
    assert bench.count_operations(lambda: (x + x).T[None] * 2) == 2
    model, cache = Decoder(SMALL).eval(), ContiguousCache(SMALL, 1, 9)
    with torch.inference_mode():
        deeper = bench.count_operations(lambda: model(torch.zeros(1, 1, dtype=torch.int64), cache=cache))
    assert 3 * 15 < deeper < 3 * 80, "some dozens a layer"
