"""What an estimate is shown as: the data add up, and the text says what the data say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from teachkit.estimate import estimate
from teachkit.hardware import device
from teachkit.report import as_data, as_text
from teachkit.shapes import shape


def of(**sizes):
    config = shape("llama-2-7b").config
    return estimate("a model", config, device("a100-80gb"), **({"batch": 8, "context": 4096} | sizes))


def test_parts_sum_to_the_total_in_the_data():
    data = as_data(of(tp=2))
    for phase in ("prefill", "decode"):
        for count in ("flops", "bytes", "seconds"):
            parts = sum(part[count] for part in data[phase]["parts"])
            assert parts == pytest.approx(data[phase][count])
    held = data["memory"]
    assert held["total_bytes"] == held["weights_bytes"] + held["kv_bytes"] + held["activations_bytes"]
    assert data["decode"]["parts"][-1]["link_bytes"] > 0


def test_the_text_says_what_the_data_say():
    found = of()
    lines = {line[:26].strip(): line[26:].split() for line in as_text(found).splitlines()}
    assert lines["parameters"] == ["6,738,415,616"]
    assert lines["weights"] == ["13.477", "12.551"]  # GB, GiB
    assert lines["cache, 8 x 4,096"] == ["17.180", "16.000"]
    assert lines["there is"] == ["85.899", "80.000"]
    assert lines["largest batch"] == ["33", "x", "4,096", "tokens"]
    assert lines["total"] == ["122.89", "30.440", "14.929", "memory"]  # of the decode step, which is last
    assert lines["tokens written"][0] == "536"
    assert lines["critical batch"][0] == "153.0:"
    assert lines["turning batch"][0] == "none:"


def test_the_text_names_devices_formats_prices_and_what_waits_for_the_link():
    text = as_text(of(tp=2, act_bits=8, weight_bits=8))
    assert text.startswith("a model on 2 x NVIDIA A100 SXM4 80GB\n")
    assert "counts of each of 2 devices" in text
    assert "fp16 312 TFLOP/s, int8 624" in text or "int8 624 TFLOP/s, fp16 312" in text
    assert "2.79 USD an hour and device on 2026-09-20, Lambda" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("communication")] == [
        "link"
    ] * 2


def test_a_turning_batch_that_does_not_fit_is_said_not_to():
    found = of(batch=1, context=64)
    assert found.turning_batch is not None
    assert f"{found.turning_batch:,}: from there" in as_text(found)
    assert "more than fits" in as_text(replace(found, largest_batch=found.turning_batch - 1))
