"""The table for reading, as data and as records: the same numbers in all three."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from teachkit.bench import Machine
from teachkit.heldout import Texts
from teachkit.measure import Timing, append, read, result
from teachkit.table import NO_QUANTIZED_CACHE, Row, Table
from teachkit.table_report import COLUMNS, as_data, as_markdown, records
from teachkit.table_schemes import SCHEMES

PLAIN = Row(
    scheme=SCHEMES["fp32"],
    bits_per_weight=32.0,
    weight_bytes=21_889_024,
    kv_bytes=3_145_728.0,
    bound_s=0.001,
    predicted_s=0.0025,
    operations=206,
    eager=Timing((0.005, 0.004, 0.03)),
    compiled=Timing((0.002, 0.002, 0.004)),
    note="",
    bits_per_byte=1.02651,
    eager_bits_per_byte=1.02651,
    difference=0.0,
    error=0.0,
)
CACHED = replace(
    PLAIN,
    scheme=SCHEMES["int8-kv"],
    kv_bytes=811_008.0,
    compiled=None,
    note=NO_QUANTIZED_CACHE,
    bits_per_byte=1.0368,
    eager_bits_per_byte=1.0368,
    difference=0.01002,
    error=0.0004,
)
TABLE = Table(
    model="bundled",
    context=512,
    tokens=32,
    texts=Texts("35 files", ("x" * 5000,)),
    calibration=None,
    machine=Machine(
        "a machine", 2.5e10, {"fp32": 1e11}, 2e-6, (result("read bandwidth", 2.5e10, "bytes/s"),)
    ),
    bandwidths=(2.5e10, 2e10),
    rows=(PLAIN, CACHED),
)


def lines(table=TABLE):
    return as_markdown(table).splitlines()


def test_markdown_by_hand():
    head, rule, plain, cached = lines()[:4]
    assert head.split("|")[1:-1] == [f" {name} " for name in COLUMNS]
    assert rule.count("---") == len(COLUMNS)
    assert plain == "| fp32 | 32.00 | 21.89 | 3.146 | 400 | 200 | 1,000 | 500 | 1.0265 |  |"
    assert cached == (
        "| fp32, keys and values int8 | 32.00 | 21.89 | 0.811 | 400 | 200 | 1,000 | not compiled | 1.0368 "
        "| +1.00% ± 0.04% |"
    )


def test_what_stands_below():
    text = as_markdown(TABLE)
    assert "*bundled: " in text
    assert "thread" in text
    assert "PyTorch" in text
    assert "at 512 tokens: the median of 3 turns of 32 steps" in text
    assert "at the 25.0 GB/s (before and after: 20.0 to 25.0, 25% apart) and fp32 100 GFLOP/s" in text
    assert "and 2.00 us for each operation" in text
    assert "5,000 bytes, 35 files; of the object that was timed" in text
    assert f"- {NO_QUANTIZED_CACHE}: fp32, keys and values int8." in text
    assert "GPTQ was" not in text
    assert "faster than memory" not in text
    assert "by the kernels that are not compiled" not in text


def test_what_stands_below_when_there_is_more_to_say():
    quick = replace(PLAIN, bound_s=0.003, eager_bits_per_byte=1.0271)
    made = replace(TABLE, rows=(quick, CACHED), calibration=Texts("64 files", ("y" * 1234,)))
    text = as_markdown(made)
    assert "- GPTQ was calibrated with 1,234 bytes of 64 files." in text
    assert "- fp32: faster than memory allows" in text
    assert "- fp32: 1.0271 bits per byte by the kernels that are not compiled." in text


def test_a_note_stands_once_for_all_its_rows():
    made = replace(TABLE, rows=(replace(PLAIN, compiled=None, note="not compiled, x"),) * 2)
    assert lines(made)[-1] == "- not compiled, x: fp32; fp32."


def test_data_is_json_with_the_same_numbers():
    data = json.loads(json.dumps(as_data(TABLE), allow_nan=False))
    assert {"device", "threads", "versions", "commit", "date"} <= set(data)
    assert data["texts"] == {"source": "35 files", "bytes": 5000}
    assert data["bytes_per_s"] == {"before": 2.5e10, "after": 2e10}
    plain, cached = data["rows"]
    assert plain["name"] == "fp32"
    assert plain["eager_tokens_per_s"] == pytest.approx(200)
    assert plain["compiled_tokens_per_s"] == pytest.approx(500)
    assert plain["predicted_tokens_per_s"] == pytest.approx(400)
    assert plain["bound_tokens_per_s"] == pytest.approx(1000)
    assert (cached["compiled_tokens_per_s"], cached["note"]) == (None, NO_QUANTIZED_CACHE)
    assert (cached["difference"], cached["kv_bytes"], cached["operations"]) == (0.01002, 811_008.0, 206)


def test_the_error_of_a_single_window_is_left_out():
    made = replace(TABLE, rows=(PLAIN, replace(CACHED, error=math.nan)))
    json.dumps(as_data(made), allow_nan=False)
    assert "difference_error" not in as_data(made)["rows"][1]


def test_records(tmp_path):
    """One of each row and quantity, with provenance, after those of the machine."""
    append(records(TABLE), tmp_path / "table.jsonl")
    found = read(tmp_path / "table.jsonl")
    assert found[0].name == "read bandwidth"
    assert [(r.value, r.config["when"]) for r in found[1:3]] == [(2.5e10, "before"), (2e10, "after")]
    by_key = {(r.config["row"], r.name): r for r in found[3:]}
    assert len(by_key) == len(found) - 3 == 11 + 10
    assert ("int8-kv", "table.compiled_tokens_per_s") not in by_key
    timed = by_key["fp32", "table.eager_tokens_per_s"]
    assert (timed.value, timed.median, timed.n, timed.kind) == (pytest.approx(200), 0.005, 3, "measured")
    assert by_key["fp32", "table.predicted_tokens_per_s"].kind == "predicted"
    assert by_key["int8-kv", "table.bits_per_byte"].value == 1.0368
    assert all(r.device and r.date and r.config["context"] == 512 for r in found[1:])
