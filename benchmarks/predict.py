"""Predicted against measured: seconds of decode steps and prefills on this machine.

    python benchmarks/predict.py --out benchmarks/results/predict.jsonl

Bandwidth, arithmetic rate and overhead of an operation are measured first, by programs that hold no model
(teachkit.bench); nothing is fitted. Predicted is the roofline bound of the step, plus the overhead of each
operation that PyTorch runs in it. Weights are random and read in full, as real ones are. Steps of one model
take turns (A B A B), so that a slow spell of the machine falls on all of them alike; so do the products.

A model of over 500 MB whose step is off by more than a quarter is taken apart: each matrix product alone,
over the same weights, against its own bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import teachkit as tk
from teachkit import bench, cost, estimate, measure, roofline

SHAPES = ("bundled", "smollm2-135m", "llama-3.2-1b")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTEXT = 256
LARGE_BYTES, WITHIN = 500e6, 0.25
BUDGET_S = 25  # of the repeats of one model's steps or prefills: six models within a few minutes
PRODUCT_REPEATS = 5
HEADER = (
    f"{'shape':14}{'dtype':7}{'step':15}{'MB':>8}{'predicted':>11}{'measured':>11}{'ratio':>7}{'MBU':>6}"
    "  waits for"
)


@dataclass(frozen=True)
class Step:
    """One kind of step of one model: ``batch`` rows of ``tokens`` new ones at ``context``."""

    phase: str
    batch: int
    tokens: int
    context: int

    @property
    def name(self) -> str:
        return f"{self.phase} {self.batch} x {self.tokens}"

    def cost(self, config: tk.ModelConfig, bits: int) -> cost.Cost:
        widths: dict[str, Any] = {"weight_bits": bits, "act_bits": bits, "kv_bits": bits}
        return cost.prefill(config, self.batch, self.tokens, past=self.context - self.tokens, **widths)


STEPS = (
    Step("decode", 1, 1, CONTEXT),
    Step("decode", 8, 1, CONTEXT),
    Step("prefill", 1, CONTEXT, CONTEXT),
)


def random_model(config: tk.ModelConfig, dtype: torch.dtype) -> tk.Decoder:
    """A decoder of this shape. Its weights are one block of random numbers over and over: made in the time
    that writing takes, and every page of memory is really there to be read."""
    with torch.device("meta"):
        model = tk.Decoder(config)
    block = (torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * config.d_model**-0.5).to(dtype)
    state = {}
    for name, weight in model.state_dict().items():
        n = weight.numel()
        state[name] = block.repeat(-(-n // len(block)))[:n].view(weight.shape)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def call_of(model: tk.Decoder, step: Step) -> Callable[[], object]:
    """The step as a function that leaves the cache as it found it."""
    config, dtype = model.config, model.embedding.weight.dtype
    held = tk.cache.ContiguousCache(config, step.batch, step.context, dtype=dtype)
    tokens = torch.randint(config.vocab_size, (step.batch, step.context))
    past = step.context - step.tokens

    @torch.inference_mode()
    def call() -> None:
        model(tokens[:, past:], cache=held, last_only=True)
        for row in range(step.batch):
            held.truncate(row, past)

    if past:
        with torch.inference_mode():
            model(tokens[:, :past], cache=held, last_only=True)
    return call


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step: the roofline bound, and the overhead of its operations."""

    cost: cost.Cost
    bound: roofline.Bound
    operations: int
    overhead_s: float

    @property
    def seconds(self) -> float:
        return self.bound.seconds + self.overhead_s

    @property
    def side(self) -> str:
        return "overhead" if self.overhead_s > self.bound.seconds else self.bound.side


def predict(cost: cost.Cost, operations: int, machine: bench.Machine) -> Prediction:
    bound = roofline.time_bound(cost, machine.device())
    return Prediction(cost, bound, operations, operations * machine.overhead_s)


def records(
    name: str, config: dict[str, Any], predicted_s: float, timing: measure.Timing, dtype: torch.dtype
) -> list[measure.Result]:
    """Predicted, measured, and the residual as a share of the prediction; all under one config."""
    residual = timing.median_s / predicted_s - 1
    return [
        measure.result(f"{name}.predicted", predicted_s, "s", kind="predicted", config=config, dtype=dtype),
        measure.result(f"{name}.measured", timing.median_s, "s", timing=timing, config=config, dtype=dtype),
        measure.result(f"{name}.residual", residual, "of predicted", config=config, dtype=dtype),
    ]


def compare(
    shape: str, dtype: str, steps: Iterable[Step], machine: bench.Machine, repeats: int
) -> Iterator[measure.Result]:
    """Measure the steps of one model, print a line for each, take apart those that are far off."""
    config = replace(estimate.find_config(shape), context=CONTEXT)
    model = random_model(config, DTYPES[dtype])
    weights_bytes = sum(weight.nbytes for weight in model.parameters())
    calls = {step: call_of(model, step) for step in steps}
    predicted = {
        step: predict(step.cost(config, bits_of(dtype)), bench.count_operations(call), machine)
        for step, call in calls.items()
    }
    timings: dict[str, measure.Timing] = {}
    for phase in dict.fromkeys(step.phase for step in calls):  # apart: a prefill is as long as many steps
        group = {step: call for step, call in calls.items() if step.phase == phase}
        n = affordable(sum(predicted[step].seconds for step in group), repeats)
        timings |= measure.time_calls({step.name: call for step, call in group.items()}, warmup=1, repeats=n)
    for step, found in predicted.items():
        timing = timings[step.name]
        print(table_line(shape, dtype, step, found, timing, machine), flush=True)
        about = {
            "shape": shape,
            "phase": step.phase,
            "batch": step.batch,
            "tokens": step.tokens,
            "context": step.context,
            "weights_bytes": weights_bytes,
            "flops": found.cost.flops,
            "bytes": found.cost.bytes,
            "operations": found.operations,
            "bound_s": found.bound.seconds,
            "side": found.side,
            "mbu": mbu(found, timing, machine),
        }
        yield from records("predict.step", about, found.seconds, timing, DTYPES[dtype])
        if weights_bytes > LARGE_BYTES and abs(timing.median_s / found.seconds - 1) > WITHIN:
            yield from take_apart(model, shape, dtype, step, timing.median_s - found.seconds, machine)


def bits_of(dtype: str) -> int:
    return torch.finfo(DTYPES[dtype]).bits


def affordable(round_s: float, repeats: int) -> int:
    """Repeats within the budget if each takes twice the prediction; at least 3, and odd for the median."""
    n = max(3, min(repeats, int(BUDGET_S / (2 * round_s))))
    return n - 1 + n % 2


def mbu(found: Prediction, timing: measure.Timing, machine: bench.Machine) -> float:
    return roofline.mbu(found.cost, machine.device(), timing.median_s)


def table_line(
    shape: str, dtype: str, step: Step, found: Prediction, timing: measure.Timing, machine: bench.Machine
) -> str:
    return (
        f"{shape:14}{dtype:7}{step.name:15}{found.cost.bytes / 1e6:>8,.0f}{found.seconds * 1e3:>11,.2f}"
        f"{timing.median_s * 1e3:>11,.2f}{timing.median_s / found.seconds:>7.2f}"
        f"{mbu(found, timing, machine):>6.2f}  {found.side}"
    )


# Where a large model's time went


def products(model: tk.Decoder, step: Step) -> dict[tuple[int, int, int], list[torch.Tensor]]:
    """Matrix products with weights, by (rows, k, n); of each all weights, so that none stays in a cache."""
    found: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    rows = step.batch * step.tokens
    for module in model.blocks.modules():
        if isinstance(module, torch.nn.Linear):
            found.setdefault((rows, module.in_features, module.out_features), []).append(module.weight)
    head = model.embedding.weight if model.head is None else model.head.weight
    found.setdefault((step.batch, head.shape[1], head.shape[0]), []).append(head)
    return found


def product_bound(rows: int, weights: list[torch.Tensor], machine: bench.Machine) -> tuple[float, int]:
    """Seconds that products of ``rows`` rows with these weights take at least, and the bytes they move."""
    n, k = weights[0].shape
    one = weights[0].element_size()
    moved = len(weights) * (n * k + rows * (n + k)) * one
    flops = len(weights) * 2 * rows * n * k
    peak = machine.device().peak(8 * one)
    return max(flops / peak, moved / machine.bytes_per_s) + len(weights) * machine.overhead_s, moved


def take_apart(
    model: tk.Decoder,
    shape: str,
    dtype: str,
    step: Step,
    excess_s: float,
    machine: bench.Machine,
) -> Iterator[measure.Result]:
    """Each matrix product of the step alone: which misses its bound, and how much of the excess that is."""
    print(f"  {step.name} is off by {excess_s * 1e3:+,.1f} ms; its matrix products alone, in ms:")
    explained_s = 0.0
    calls, groups = {}, products(model, step)
    for key, weights in groups.items():
        x = torch.randn(key[0], key[1]).to(DTYPES[dtype])
        calls[str(key)] = torch.inference_mode()(
            lambda x=x, weights=weights: [F.linear(x, w) for w in weights]
        )
    timings = measure.time_calls(calls, warmup=1, repeats=PRODUCT_REPEATS)
    for (rows, k, n), weights in groups.items():
        timing = timings[str((rows, k, n))]
        bound_s, moved = product_bound(rows, weights, machine)
        missed_s = timing.median_s - bound_s
        explained_s += missed_s
        print(
            f"    {len(weights):>3} of ({rows}, {k}) by ({k}, {n}): bound {bound_s * 1e3:,.1f}, "
            f"measured {timing.median_s * 1e3:,.1f}, {timing.median_s / bound_s:.2f} times; "
            f"{moved / timing.median_s / 1e9:.1f} of {machine.bytes_per_s / 1e9:.1f} GB/s; "
            f"{missed_s / excess_s:.0%} of what the step is off"
        )
        about = {"shape": shape, "step": step.name, "rows": rows, "k": k, "n": n, "times": len(weights)}
        yield from records("predict.product", about, bound_s, timing, DTYPES[dtype])
    rest = excess_s - explained_s
    print(f"    all else (attention, norms, activations, rotary positions): {rest * 1e3:+,.1f} ms")


# The run


def usable(dtypes: Iterable[str], machine: bench.Machine) -> Iterator[str]:
    """Formats that run, leaving out what takes several times as long as fp32 would."""
    for dtype in dtypes:
        rate = machine.flops.get(dtype, 0.0)
        if rate < machine.flops["fp32"] / 4:
            print(f"{dtype} left out: {rate / 1e9:,.1f} GFLOP/s here")
        else:
            yield dtype


def describe(machine: bench.Machine) -> str:
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in machine.flops.items())
    return (
        f"{machine.name}, {torch.get_num_threads()} threads: reads {machine.bytes_per_s / 1e9:.1f} GB/s, "
        f"{rates}, {machine.overhead_s * 1e6:.2f} us an operation"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="published names, or 'bundled'")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=15, help="at most; fewer where a step takes seconds")
    parser.add_argument("--quick", action="store_true", help="three repeats, and nothing is written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/predict.jsonl"))
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    # fp16 is left out: where both are there, 16 bits would mean it, and no model here has it.
    machine = bench.this_machine(formats=tuple(DTYPES))
    print(describe(machine))
    print(HEADER)
    found = list(machine.results)
    for shape in args.shapes:
        for dtype in usable(args.dtypes, machine):
            found += compare(shape, dtype, STEPS, machine, 3 if args.quick else args.repeats)
    after = bench.read_bandwidth(bench.READ_BYTES, repeats=3)
    drift = after.value / machine.bytes_per_s - 1
    print(
        f"afterwards it reads {after.value / 1e9:.1f} GB/s ({drift:+.0%}): how far the machine itself moved"
    )
    if args.quick:
        return
    measure.append([*found, after], args.out)
    print(f"{len(found) + 1} result records added to {args.out}")


if __name__ == "__main__":
    main()
