"""The benchmark that holds the predictor against a machine: what it counts, predicts and writes."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import tiny_config, unchecked
from teachkit import bench, cost, measure
from teachkit.measure import Timing

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "predict.py"
SPEC = importlib.util.spec_from_file_location("benchmark_predict", PATH)
predict = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = predict
SPEC.loader.exec_module(predict)

# 1 GB/s, 10 GFLOP/s, a microsecond for each operation.
MACHINE = bench.Machine("a machine", 1e9, {"fp32": 1e10, "bf16": 1e10}, overhead_s=1e-6, results=())
CONFIG = tiny_config(context=16)
STEPS = (
    predict.Step("decode", 1, 1, 16),
    predict.Step("decode", 3, 1, 16),
    predict.Step("prefill", 2, 11, 11),
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(predict.estimate, "find_config", lambda _: CONFIG)
    monkeypatch.setattr(predict, "CONTEXT", 16)
    with unchecked():  # as users run it
        yield


def test_steps_are_those_that_the_cost_model_counts():
    bits = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}
    assert STEPS[1].cost(CONFIG, 32).components == cost.decode_step(CONFIG, 3, 16, **bits).components
    assert STEPS[2].cost(CONFIG, 32) == cost.prefill(CONFIG, 2, 11, **bits)


@pytest.mark.parametrize("dtype", predict.DTYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_models_are_random_finite_and_of_the_dtype(dtype, tied):
    model = predict.random_model(replace(CONFIG, tied=tied), predict.DTYPES[dtype])
    weights = list(model.parameters())
    assert sum(w.numel() for w in weights) == sum(cost.parameters(model.config).values())
    assert {w.dtype for w in weights} == {predict.DTYPES[dtype]}
    assert all(w.ndim == 1 or len(set(w.flatten().tolist())) > 10 for w in weights)
    with torch.inference_mode():
        assert torch.isfinite(model(torch.randint(61, (1, 5)))).all()


@pytest.mark.parametrize("step", STEPS)
def test_a_call_leaves_the_cache_as_it_was(step):
    call = predict.call_of(predict.random_model(CONFIG, torch.float32), step)
    held = next(c.cell_contents for c in call.__wrapped__.__closure__ if hasattr(c.cell_contents, "lengths"))
    before = held.lengths.tolist()
    assert before == [step.context - step.tokens] * step.batch
    call()
    assert held.lengths.tolist() == before


def test_prediction_is_the_bound_and_the_overhead():
    step = STEPS[0].cost(CONFIG, 32)
    found = predict.predict(step, 7, MACHINE)
    assert found.overhead_s == pytest.approx(7e-6)
    assert found.seconds == found.bound.seconds + found.overhead_s
    assert found.bound.seconds == pytest.approx(step.bytes / 1e9)  # all parts wait for memory here
    assert found.side == "memory"
    assert predict.predict(step, 10**6, MACHINE).side == "overhead"


def test_products_are_all_matrices_once():
    """Their weights are those that the cost model counts, the embedding's rows left out."""
    for tied in (True, False):
        model = predict.random_model(replace(CONFIG, tied=tied), torch.bfloat16)
        found = predict.products(model, STEPS[2])
        counted = STEPS[2].cost(model.config, 16)
        parts = ("attention projections", "mlp", "head")
        read = sum(counted[part].weight_bytes for part in parts)
        assert sum(w.nbytes for weights in found.values() for w in weights) == read
        flops = sum(2 * rows * k * n * len(weights) for (rows, k, n), weights in found.items())
        assert flops == sum(counted[part].flops for part in parts)


def test_bound_of_products_by_hand():
    weights = [torch.zeros(30, 20)] * 2  # 2,400 bytes each; x and y of 5 rows: 1,000
    assert predict.product_bound(5, weights, MACHINE) == (pytest.approx(2 * 3400 / 1e9 + 2e-6), 6800)
    slow = replace(MACHINE, flops={"fp32": 1e6})
    assert predict.product_bound(5, weights, slow)[0] == pytest.approx(2 * 2 * 5 * 600 / 1e6 + 2e-6)


def test_repeats_within_the_budget():
    assert predict.affordable(1e-3, 15) == 15
    assert predict.affordable(1e-3, 14) == 13
    assert predict.affordable(100.0, 15) == 3
    assert predict.affordable(2.0, 15) == 5  # six fit, and the median wants an odd number


def test_formats_without_a_fast_kernel_are_left_out(capsys):
    slow = replace(MACHINE, flops={"fp32": 1e11, "bf16": 1e9})
    assert list(predict.usable(["fp32", "bf16"], slow)) == ["fp32"]
    assert capsys.readouterr().out == "bf16 left out: 1.0 GFLOP/s here\n"


def test_records_come_in_threes_under_one_config(tiny, capsys):
    found = list(predict.compare("tiny", "fp32", STEPS[:2], MACHINE, 3))
    assert [r.name for r in found] == [f"predict.step.{k}" for k in ("predicted", "measured", "residual")] * 2
    for predicted, measured, residual in (found[:3], found[3:]):
        assert (predicted.kind, measured.kind) == ("predicted", "measured")
        assert predicted.config == measured.config == residual.config
        assert residual.value == pytest.approx(measured.value / predicted.value - 1)
        assert (measured.n, measured.dtype, measured.median) == (3, "float32", measured.value)
        moved = predicted.config["bytes"]
        assert predicted.config["mbu"] == pytest.approx(moved / 1e9 / measured.value)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines] == [["tiny", "fp32", "decode", n, "x"] for n in "13"]


def test_a_large_model_that_is_far_off_is_taken_apart(tiny, monkeypatch, capsys):
    monkeypatch.setattr(predict, "LARGE_BYTES", 0)
    monkeypatch.setattr(
        measure, "time_calls", lambda calls, **_: {name: Timing((1.0,) * 3) for name in calls}
    )
    found = list(predict.compare("tiny", "fp32", STEPS[:1], MACHINE, 3))
    products = [r for r in found if r.name == "predict.product.measured"]
    assert len(products) == len(predict.products(predict.random_model(CONFIG, torch.float32), STEPS[0]))
    assert all(r.config["step"] == "decode 1 x 1" and r.value == 1.0 for r in products)
    out = capsys.readouterr().out
    assert re.search(r"decode 1 x 1 is off by \+\d[\d,.]* ms; its matrix products alone", out)
    assert re.search(
        r"of \(1, 37\) by \(37, 210\): bound .*, measured 1,000\.0, .* of 1\.0 GB/s; 100% of", out
    )
    assert "all else (attention, norms, activations, rotary positions): -" in out


def test_a_quick_run_writes_nothing_and_another_adds_records(tiny, monkeypatch, tmp_path, capsys):
    out = tmp_path / "predict.jsonl"
    monkeypatch.setattr(bench, "this_machine", lambda **_: MACHINE)
    monkeypatch.setattr(bench, "READ_BYTES", 2**16)
    monkeypatch.setattr(predict, "STEPS", STEPS[:2])
    predict.main(["--shapes", "tiny", "--dtypes", "fp32", "--quick", "--out", str(out)])
    assert not out.exists()
    predict.main(["--shapes", "tiny", "--dtypes", "fp32", "--repeats", "3", "--out", str(out)])
    assert [r.kind for r in measure.read(out)] == ["predicted", "measured", "measured"] * 2 + ["measured"]
    assert "how far the machine itself moved" in capsys.readouterr().out
