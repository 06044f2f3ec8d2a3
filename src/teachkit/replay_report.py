"""A replay as Markdown, as data for JSON, and as result records: the same report whoever served the trace."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from teachkit.measure import Result, provenance, result
from teachkit.outcome import Outcome, Replay

PERCENTILES = (50, 90, 99)
QUANTITIES = {"ttft": "time to first token", "tpot": "time per output token", "queue": "in the queue"}
_SHOWN = 5  # failures that are told in words; all are in the data

Settings = Mapping[str, Any]  # with what it was served: model, n_blocks, dtype, device ...


def percentiles(played: Replay) -> dict[str, dict[str, float]]:
    """Of each quantity in seconds, over the requests that have one and did not fail; empty where none has.

    Between two requests it interpolates, as numpy does: of a few requests, p99 is nearly the largest.
    """
    found = {}
    for name in QUANTITIES:
        values = [value for _, value in _values(played, name)]
        found[name] = {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES} if values else {}
    return found


def tokens_per_s(played: Replay) -> float:
    """Tokens of output per second, from the start of the trace to its end; arrivals may limit it."""
    return played.n_tokens / played.elapsed_s if played.elapsed_s else 0.0


def _values(played: Replay, name: str) -> Iterator[tuple[Outcome, float]]:
    for one in played.outcomes:
        value = getattr(one, f"{name}_s")
        if not one.failed and not math.isnan(value):
            yield one, value


def as_markdown(played: Replay, settings: Settings) -> str:
    """Throughput beside the percentiles, and what went wrong."""
    finishes = Counter(one.finish for one in played.outcomes)
    ends = ", ".join(f"{n} {finish}" for finish, n in finishes.most_common())
    prompts = sum(one.asked.n_prompt for one in played.outcomes)
    rate, total = tokens_per_s(played), played.n_tokens
    heads = " | ".join(f"p{p}" for p in PERCENTILES)
    lines = [
        f"**{played.trace.name or 'trace'}**, served by {_server(played, settings)}",
        "",
        f"| seconds | {heads} |",
        f"| --- |{' ---: |' * len(PERCENTILES)}",
    ]
    for name, found in percentiles(played).items():
        cells = " | ".join(f"{value:.4f}" for value in found.values()) or " | ".join("–" for _ in PERCENTILES)
        lines.append(f"| {QUANTITIES[name]} | {cells} |")
    lines += [
        "",
        f"- {rate:,.1f} output tokens a second, {total:,} in {played.elapsed_s:.2f} s",
        f"- {len(played.outcomes)} requests ({ends}), {prompts:,} prompt tokens",
        *_steps_lines(played, settings),
        *_failure_lines(played),
    ]
    return "\n".join(lines)


def _server(played: Replay, settings: Settings) -> str:
    return f"{played.served_by} ({settings['model']})" if "model" in settings else played.served_by


def _steps_lines(played: Replay, settings: Settings) -> Iterator[str]:
    facts = steps(played)
    if facts:
        pool = f" of {settings['n_blocks']}" if "n_blocks" in settings else ""
        yield (
            f"- {facts['steps']:,} steps, of {facts['mean_batch']:.1f} requests on average; at most "
            f"{facts['most_blocks']:,}{pool} blocks; {facts['waste']:.1%} of their slots empty; "
            f"{facts['reused_tokens']:,} tokens found in them instead of computed; "
            f"{facts['preemptions']:,} preemptions"
        )


def _failure_lines(played: Replay) -> Iterator[str]:
    for one in played.failures[:_SHOWN]:
        yield f"- request {one.index} failed: {one.error}"
    if (more := len(played.failures) - _SHOWN) > 0:
        yield f"- {more} more failed"


def steps(played: Replay) -> dict[str, Any]:
    """Of the engine's steps; empty where a server does not tell. Averages are over time, not over steps."""
    if not played.steps:
        return {}
    time_s = sum(step.time_s for step in played.steps) or 1.0
    used = sum(step.slots_used * step.time_s for step in played.steps)
    filled = sum(step.slots_filled * step.time_s for step in played.steps)
    return {
        "steps": len(played.steps),
        "mean_batch": sum(step.batch * step.time_s for step in played.steps) / time_s,
        "most_blocks": max(step.blocks_used for step in played.steps),
        "waste": 1 - filled / used if used else 0.0,
        "reused_tokens": sum(step.reused for step in played.steps),
        "preemptions": sum(len(step.preempted) for step in played.steps),
    }


def as_data(played: Replay, settings: Settings) -> dict[str, Any]:
    """Everything as numbers and strings, for JSON; None for a time that there is not."""
    return {
        "trace": played.trace.name,
        "served_by": played.served_by,
        "settings": dict(settings),
        "elapsed_s": played.elapsed_s,
        "output_tokens": played.n_tokens,
        "output_tokens_per_s": tokens_per_s(played),
        "percentiles_s": percentiles(played),
        "failed": len(played.failures),
        "engine": steps(played),
        "requests": [_outcome(one) | {"text": one.text, "error": one.error} for one in played.outcomes],
        **_where(played, settings),
    }


def _outcome(one: Outcome) -> dict[str, Any]:
    times = {f"{name}_s": getattr(one, f"{name}_s") for name in QUANTITIES}
    return {
        "request": one.index,
        "arrival_s": one.asked.arrival_s,
        "prompt_tokens": one.asked.n_prompt,
        "output_tokens": one.n_tokens,
        "finish": one.finish,
        **{name: None if math.isnan(value) else value for name, value in times.items()},
    }


def _where(played: Replay, settings: Settings) -> dict[str, Any]:
    """Where it ran. Of a server only the address is known: this machine did no more than wait for it."""
    if played.served_by == "teachkit":
        return provenance(settings.get("device", "cpu"))
    here = provenance()
    versions = {name: version for name, version in here["versions"].items() if name != "torch"}
    return here | {"device": f"server at {played.served_by}", "threads": 0, "versions": versions}


def records(played: Replay, settings: Settings) -> list[Result]:
    """TTFT, TPOT and queue time of each request; then their percentiles, and throughput."""
    common = {"trace": played.trace.name, "served_by": played.served_by, **settings}
    where = _where(played, settings)  # asked for once: it starts a program
    base = replace(result("", 0.0, "s", dtype=settings.get("dtype", "")), **where)
    found = []
    for name in QUANTITIES:
        for one, value in _values(played, name):
            about = {
                k: v for k, v in _outcome(one).items() if not k.endswith(("ttft_s", "tpot_s", "queue_s"))
            }
            found.append(replace(base, name=f"replay.{name}", value=value, config={**common, **about}))
    for name, several in percentiles(played).items():
        n = sum(1 for _ in _values(played, name))
        found += [
            replace(base, name=f"replay.{name}_{p}", value=value, n=n, config=common)
            for p, value in several.items()
        ]
    totals = (
        ("output_tokens_per_s", tokens_per_s(played), "tokens/s"),
        ("elapsed", played.elapsed_s, "s"),
        ("failed", float(len(played.failures)), "requests"),
    )
    n = len(played.outcomes)
    found += [
        replace(base, name=f"replay.{name}", value=value, unit=unit, n=n, config=common)
        for name, value, unit in totals
    ]
    return found
