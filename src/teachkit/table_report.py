"""The table of :mod:`teachkit.table` as Markdown, as data for JSON, and as result records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from teachkit.measure import Kind, Result, Timing, provenance, result
from teachkit.table import Row, Table

COLUMNS = (
    "format",
    "bits per weight",
    "weights, MB a token",
    "keys and values, MB a token",
    "predicted, eager",
    "measured, eager",
    "predicted, compiled",
    "measured, compiled",
    "bits per byte",
    "from fp32",
)


def as_markdown(table: Table) -> str:
    """The table, where its numbers are from, and what its rows leave out."""
    lines = [_line(COLUMNS), _line(("---",) + ("---:",) * (len(COLUMNS) - 1))]
    lines += [_line(_cells(row)) for row in table.rows]
    return "\n".join([*lines, "", *_notes(table)])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    base = row.scheme.name == "fp32"
    return (
        row.scheme.label,
        f"{row.bits_per_weight:.2f}",
        f"{row.weight_bytes / 1e6:,.2f}",
        f"{row.kv_bytes / 1e6:,.3f}",
        f"{1 / row.predicted_s:,.0f}",
        f"{1 / row.eager.median_s:,.0f}",
        f"{1 / row.bound_s:,.0f}",
        "not compiled" if row.compiled is None else f"{1 / row.compiled.median_s:,.0f}",
        f"{row.bits_per_byte:.4f}",
        "" if base else f"{row.difference:+.2%} ± {row.error:.2%}",
    )


def _notes(table: Table) -> Iterator[str]:
    made, machine = provenance(), table.machine
    versions = f"PyTorch {made['versions']['torch']}, Python {made['versions']['python']}"
    threads = f"{made['threads']} thread{'s' if made['threads'] > 1 else ''}"
    commit = f", commit {made['commit']}" if made["commit"] else ""
    yield f"*{table.model}: {made['device']}, {threads}, {versions}{commit}, {made['date']}*"
    low, high = (rate / 1e9 for rate in sorted(table.bandwidths))
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in machine.flops.items())
    yield ""
    yield (
        f"- Speeds are tokens per second of one sequence at {table.context} tokens: the median of "
        f"{len(table.rows[0].eager.times_s)} turns of {table.tokens} steps, all rows in turn."
    )
    yield (
        f"- Predicted, compiled: bytes and arithmetic of a step alone, at the {high:.1f} GB/s (before and "
        f"after: {low:.1f} to {high:.1f}, {high / low - 1:.0%} apart) and {rates} of this run. "
        f"Predicted, eager: that, and {machine.overhead_s * 1e6:.2f} us for each operation that PyTorch runs."
    )
    yield (
        f"- Bits per byte: {table.texts.n_bytes:,} bytes, {table.texts.source}; of the object that was "
        "timed, the compiled one where there is one. ± is one standard error of the paired difference over "
        "windows of this text."
    )
    yield "- int8, int4 and W8A8: the matrices of the blocks; the head is in int8, all else in fp32."
    if table.calibration is not None:
        yield f"- GPTQ was calibrated with {table.calibration.n_bytes:,} bytes of {table.calibration.source}."
    for note in dict.fromkeys(row.note for row in table.rows if row.note):
        yield f"- {note}: {'; '.join(row.scheme.label for row in table.rows if row.note == note)}."
    for row in table.rows:
        yield from _row_notes(row)


def _row_notes(row: Row) -> Iterator[str]:
    name, measured = row.scheme.label, row.eager if row.compiled is None else row.compiled
    if measured.median_s < row.bound_s:
        yield f"- {name}: faster than memory allows; its weights stay in the processor's caches."
    if f"{row.eager_bits_per_byte:.4f}" != f"{row.bits_per_byte:.4f}":
        yield f"- {name}: {row.eager_bits_per_byte:.4f} bits per byte by the kernels that are not compiled."


def as_data(table: Table) -> dict[str, Any]:
    """Everything as numbers and strings, for JSON."""
    return {
        "model": table.model,
        "context": table.context,
        "tokens": table.tokens,
        "turns": len(table.rows[0].eager.times_s),
        "texts": {"source": table.texts.source, "bytes": table.texts.n_bytes},
        "calibration": table.calibration
        and {"source": table.calibration.source, "bytes": table.calibration.n_bytes},
        "bytes_per_s": {"before": table.bandwidths[0], "after": table.bandwidths[1]},
        "flops_per_s": table.machine.flops,
        "overhead_s": table.machine.overhead_s,
        "rows": [_row_data(row) for row in table.rows],
        **provenance(),
    }


def _row_data(row: Row) -> dict[str, Any]:
    numbers = {name: value for name, value, *_ in _quantities(row)}
    words = {"name": row.scheme.name, "label": row.scheme.label, "note": row.note}
    return words | {"operations": row.operations} | {"compiled_tokens_per_s": None} | numbers


def _quantities(row: Row) -> Iterator[tuple[str, float, str, Kind, Timing | None]]:
    """Name, value, unit, kind, and the turns of what was timed. The error of a single window is none."""
    yield "bits_per_weight", row.bits_per_weight, "bits", "measured", None
    yield "weight_bytes", float(row.weight_bytes), "bytes", "measured", None
    yield "kv_bytes", row.kv_bytes, "bytes", "predicted", None
    yield "bound_tokens_per_s", 1 / row.bound_s, "tokens/s", "predicted", None
    yield "predicted_tokens_per_s", 1 / row.predicted_s, "tokens/s", "predicted", None
    yield "eager_tokens_per_s", 1 / row.eager.median_s, "tokens/s", "measured", row.eager
    if row.compiled is not None:
        yield "compiled_tokens_per_s", 1 / row.compiled.median_s, "tokens/s", "measured", row.compiled
    yield "bits_per_byte", row.bits_per_byte, "bits/byte", "measured", None
    yield "eager_bits_per_byte", row.eager_bits_per_byte, "bits/byte", "measured", None
    yield "difference", row.difference, "of fp32", "measured", None
    if row.error == row.error:
        yield "difference_error", row.error, "of fp32", "measured", None


def records(table: Table) -> list[Result]:
    """One for each row and quantity, after those of the machine."""
    about = {
        "model": table.model,
        "context": table.context,
        "tokens": table.tokens,
        "texts": table.texts.source,
        "text_bytes": table.texts.n_bytes,
    }
    before, after = table.bandwidths
    found = [
        *table.machine.results,
        result("table.bandwidth", before, "bytes/s", config={**about, "when": "before"}),
        result("table.bandwidth", after, "bytes/s", config={**about, "when": "after"}),
    ]
    for row in table.rows:
        config = {**about, "row": row.scheme.name, "note": row.note}
        for name, value, unit, kind, timing in _quantities(row):
            found.append(
                result(
                    f"table.{name}", value, unit, kind=kind, timing=timing, config=config,
                    dtype=row.scheme.dtype,
                )
            )  # fmt: skip
    return found
