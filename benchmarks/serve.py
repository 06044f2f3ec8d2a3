"""Many requests: continuous batching beside its alternatives, on the same weights, dtype and threads.

    python benchmarks/serve.py                       # all contestants, seeds 0 to 2: most of an hour
    python benchmarks/serve.py --seeds 0 --only ours static

The trace: 128 requests, prompts and outputs of lognormal length (medians 64 and 48, sigma 0.8, at most 512
each), all there at the start. One contestant at a time serves all of them:

    ours                  teachkit.engine: continuous batching over a paged cache
    ours-32               the same, at most 32 requests at a time
    ours-scattered        the same in a pool of four times the size, whose blocks are given in random order:
                          as after long service, when most of a pool holds beginnings that may come again
    alone, alone-fast     teachkit.generate, one request after the other; with tk.fast
    static                teachkit, batches of 32 in order of arrival, each until its longest output is done
    static-64, static-128 larger batches
    transformers-static   model.generate over the same batches of 32, padded on the left
    transformers-cb       transformers' own continuous batching

The order of the contestants turns by one from seed to seed.

Throughput is output tokens a second. Beside it stand the percentiles of the time to the first token (TTFT)
and the time per output token (TPOT), since one can be bought with the other. With --latency the requests
arrive at random (Poisson) at 70 % of the rate that ours has just reached. --prefix times one request alone of
which 0, 50 and 90 % of the prompt are stored already. --attention times the ways to attend to a paged past,
--products the two orders of the factors in a product of few rows.

Every contestant gives every request as many tokens as the trace says: nothing ends early. Greedy outputs are
compared with those of "ours": the share that is equal, token for token.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decode import transformers_model
from predict import random_model

import teachkit as tk
from teachkit import kernels, measure
from teachkit.block_attention import BlockReads, block_attention
from teachkit.cache import ContiguousCache
from teachkit.request import StepMetrics
from teachkit.shapes import shape as published
from teachkit.trace import make

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BLOCK_SIZE, BATCH_TOKENS, BATCH = 16, 256, 32
LONGEST = 512


@dataclass(frozen=True)
class Job:
    """One request of the trace: its prompt, how many tokens it gets, when it comes."""

    prompt: list[int]
    n_new: int
    arrival_s: float = 0.0


@dataclass
class Served:
    """What became of one trace: outputs, and for each the times of its tokens from its arrival on."""

    tokens: list[list[int]]
    times_s: list[list[float]]
    total_s: float
    steps: list[StepMetrics] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return sum(map(len, self.tokens)) / self.total_s

    def percentiles(self) -> dict[str, float]:
        ttft = [times[0] for times in self.times_s]
        tpot = [(t[-1] - t[0]) / (len(t) - 1) for t in self.times_s if len(t) > 1]
        named = {"ttft": ttft, "tpot": tpot}
        return {f"{n}_p{p}_s": float(np.percentile(v, p)) for n, v in named.items() for p in (50, 90, 99)}


def trace(seed: int, n: int, vocab_size: int, rate_per_s: float | None = None) -> list[Job]:
    """The requests of one seed, as ``teachkit replay`` makes them; with a rate, by a Poisson process."""
    arrivals = "at once" if rate_per_s is None else "poisson"
    made = make(n, seed=seed, arrivals=arrivals, rate_per_s=rate_per_s, cap=LONGEST).filled(vocab_size)
    return [Job(list(r.prompt), r.max_new_tokens, r.arrival_s) for r in made.requests]


def ours(
    model: tk.Decoder, jobs: Sequence[Job], max_batch: int | None = None, scattered: bool = False
) -> Served:
    engine = tk.Engine(
        model, n_blocks=n_blocks(jobs) * (4 if scattered else 1), block_size=BLOCK_SIZE,
        max_batch_tokens=BATCH_TOKENS, max_batch=max_batch,
    )  # fmt: skip
    if scattered:
        blocks = [engine.pool.allocate() for _ in range(engine.pool.n_blocks)]
        for at in torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0)).tolist():
            engine.pool.release(blocks[at])
    started = engine.clock()
    left, requests, steps = list(jobs), [], []
    while left or not engine.idle:
        now = engine.clock() - started
        while left and left[0].arrival_s <= now:
            job = left.pop(0)
            requests.append(engine.submit(job.prompt, job.n_new))
            requests[-1].submitted_s = started + job.arrival_s  # it may have come during the last step
        step = engine.step()
        if step is None:
            time.sleep(max(0.0, left[0].arrival_s - (engine.clock() - started)))
        else:
            steps.append(step)
    total_s = engine.clock() - started
    times_s = [[t - r.submitted_s for t in r.times_s] for r in requests]
    return Served([r.tokens for r in requests], times_s, total_s, steps)


def n_blocks(jobs: Sequence[Job]) -> int:
    """Room for all at once: what is compared is the batching, not a lack of memory."""
    return sum(-(-(len(job.prompt) + job.n_new) // BLOCK_SIZE) for job in jobs)


def alone(model: tk.Decoder, jobs: Sequence[Job]) -> Served:
    tokens, times_s, started = [], [], time.perf_counter()
    for job in jobs:
        before = time.perf_counter() - started
        out = tk.generate(model, job.prompt, job.n_new)
        tokens.append(out.tokens)
        times_s.append([before + t for t in out.times_s])
    return Served(tokens, times_s, time.perf_counter() - started)


@torch.inference_mode()
def static(model: tk.Decoder, jobs: Sequence[Job], rows: int = BATCH) -> Served:
    """Rows padded to the longest prompt, decoded until the longest output is done."""
    tokens, times_s, started = [], [], time.perf_counter()
    for at in range(0, len(jobs), rows):
        batch = jobs[at : at + rows]
        longest = max(len(job.prompt) for job in batch)
        steps = max(job.n_new for job in batch)
        cache = ContiguousCache(model.config, len(batch), longest + steps, dtype=model.dtype)
        padded = torch.tensor([job.prompt + [0] * (longest - len(job.prompt)) for job in batch])
        step = cache.plan([len(job.prompt) for job in batch])
        chosen, seen = [], []
        new = model(padded, step=step, last_only=True)[:, -1].argmax(-1)
        for _ in range(steps):
            chosen.append(new.tolist())
            seen.append(time.perf_counter() - started)
            if len(chosen) < steps:
                new = model(new[:, None], cache=cache)[:, -1].argmax(-1)
        for row, job in enumerate(batch):
            tokens.append([step[row] for step in chosen[: job.n_new]])
            times_s.append(seen[: job.n_new])
    return Served(tokens, times_s, time.perf_counter() - started)


@torch.inference_mode()
def transformers_static(model: Any, jobs: Sequence[Job]) -> Served:
    tokens, times_s, started = [], [], time.perf_counter()
    for at in range(0, len(jobs), BATCH):
        batch = jobs[at : at + BATCH]
        longest, steps = max(len(job.prompt) for job in batch), max(job.n_new for job in batch)
        ids = torch.tensor([[0] * (longest - len(job.prompt)) + job.prompt for job in batch])
        mask = torch.tensor([[0] * (longest - len(j.prompt)) + [1] * len(j.prompt) for j in batch])
        seen: list[float] = []

        def watch(ids: torch.Tensor, scores: object, seen: list[float] = seen, **_: object) -> torch.Tensor:
            seen.append(time.perf_counter() - started)
            return torch.zeros(len(ids), dtype=torch.bool)

        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
            stopping_criteria=[watch],
        )  # fmt: skip
        for row, job in enumerate(batch):
            tokens.append(out[row, longest : longest + job.n_new].tolist())
            times_s.append(seen[: job.n_new])
    return Served(tokens, times_s, time.perf_counter() - started)


def transformers_cb(model: Any, jobs: Sequence[Job]) -> Served:
    from transformers import ContinuousBatchingConfig

    settings = ContinuousBatchingConfig(
        num_blocks=n_blocks(jobs), page_size=BLOCK_SIZE, max_batch_tokens=BATCH_TOKENS
    )
    model.generation_config.do_sample = False
    with model.continuous_batching_context_manager(
        generation_config=model.generation_config, continuous_batching_config=settings, warmup=False
    ) as manager:
        started = time.perf_counter()
        names = [
            manager.add_request(job.prompt, max_new_tokens=job.n_new, record_timestamps=True, eos_token_id=-1)
            for job in jobs
        ]
        done: dict[str, Any] = {}
        while len(done) < len(names):
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("transformers' continuous batching stopped")
            elif result.is_finished():
                done[result.request_id] = result
        total_s = time.perf_counter() - started
    times_s = [[t - started for t in done[name].timestamps] for name in names]
    return Served([done[name].generated_tokens for name in names], times_s, total_s)


def waste(steps: Sequence[StepMetrics]) -> dict[str, float]:
    """The share of reserved slots in which nothing lies: by blocks, and had every request its maximum."""
    filled, used = sum(s.slots_filled for s in steps), sum(s.slots_used for s in steps)
    reserved = sum(s.batch * 2 * LONGEST for s in steps)
    return {
        "waste_mean_of_steps": statistics.fmean(s.waste for s in steps),
        "waste_of_all_slots": 1 - filled / used,
        "waste_of_reserving_the_maximum": 1 - filled / reserved,
    }


def equal_outputs(one: Served, other: Served) -> float:
    pairs = list(zip(one.tokens, other.tokens, strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


def prefix(model: tk.Decoder, length: int = 512, repeats: int = 7) -> dict[int, float]:
    """Median TTFT of a request alone, by the percentage of its prompt that is stored; in turns."""
    times: dict[int, list[float]] = {0: [], 50: [], 90: []}
    rng = np.random.default_rng(0)
    for turn in range(repeats + 1):
        for percent, found in times.items():
            engine = tk.Engine(model, n_blocks=2 * length // BLOCK_SIZE, block_size=BLOCK_SIZE,
                               max_batch_tokens=length)  # fmt: skip
            prompt = rng.integers(0, model.config.vocab_size, length).tolist()
            shared = length * percent // 100
            if shared:
                engine.submit(prompt[:shared], 1)
                engine.run()
            request = engine.submit(prompt, 1)
            engine.run()
            if turn:
                found.append(request.ttft_s)
    return {percent: statistics.median(found) for percent, found in times.items()}


def attention(model: tk.Decoder, jobs: Sequence[Job], size: int, rows: int = 48) -> dict[str, measure.Timing]:
    """One layer's attention in a step of decoding: the past gathered and padded to the longest, gathered row
    by row, and block by block: where it lies if most of the pool is read, a copy otherwise.

    size  of the pool, in blocks for each one that is read: 1 when all are, more in one that has served long.
          The order of the blocks is random
    """
    config, generator = model.config, torch.Generator().manual_seed(0)
    lengths = [len(job.prompt) + job.n_new // 2 for job in jobs[:rows]]
    counts = [-(-length // BLOCK_SIZE) for length in lengths]
    order = torch.randperm(size * sum(counts), generator=generator)
    tables = [part.tolist() for part in order[: sum(counts)].split(counts)]
    shape = (len(order), config.n_kv_heads, BLOCK_SIZE, config.head_dim)
    k, v = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    q = torch.randn(len(lengths), config.n_heads, config.head_dim, generator=generator)
    padded = torch.zeros(len(tables), max(counts), dtype=torch.long)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = torch.tensor(table)
    seen = torch.arange(max(counts) * BLOCK_SIZE) < torch.tensor(lengths)[:, None]
    reads = BlockReads(tables, lengths, BLOCK_SIZE)
    attend = tk.attention.scaled_dot_product_attention

    def gather_all() -> torch.Tensor:
        keys, values = (pool[padded].transpose(1, 2).flatten(2, 3) for pool in (k, v))
        return attend(q[:, :, None], keys, values, mask=seen[:, None, None])[:, :, 0]

    def gather_rows() -> torch.Tensor:
        outs = []
        for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
            keys, values = (pool[table].transpose(0, 1).flatten(1, 2)[None, :, :length] for pool in (k, v))
            outs.append(attend(q[row, None, :, None], keys, values)[0, :, 0])
        return torch.stack(outs)

    def by_block() -> torch.Tensor:
        parts = (reads.parts(pool, pool.dtype) for pool in (k, v))
        return block_attention(q, *parts, reads)

    ways = {"gathered, padded": gather_all, "gathered row by row": gather_rows, "block by block": by_block}
    for way in ways.values():
        torch.testing.assert_close(way(), gather_all())
    return measure.time_calls(ways, repeats=20)


@torch.inference_mode()
def products(model: tk.Decoder) -> dict[int, float]:
    """By rows: time of all products of a step with the activations first over that with the weights first."""
    weights = [p for p in model.parameters() if p.dim() == 2]
    usual, ours = torch.nn.functional.linear, kernels.in_order
    found = {}
    for rows in (2, 8, 32, 64, 128, 256):
        inputs = {w.shape[1]: torch.randn(rows, w.shape[1], dtype=w.dtype) for w in weights}
        pairs = [(inputs[w.shape[1]], w) for w in weights]
        ways = {
            "usual": lambda pairs=pairs: [usual(*pair) for pair in pairs],
            "ours": lambda pairs=pairs: [ours(*pair) for pair in pairs],
        }
        timing = measure.time_calls(ways, repeats=7)
        found[rows] = timing["usual"].median_s / timing["ours"].median_s
    return found


Contestant = Callable[[Sequence[Job]], Served]


def contestants(model: tk.Decoder, wanted: Sequence[str]) -> dict[str, Contestant]:
    runs: dict[str, Contestant] = {}
    if any(name.startswith("transformers") for name in wanted):
        theirs = as_transformers(model)
        runs |= {
            "transformers-static": lambda jobs: transformers_static(theirs, jobs),
            "transformers-cb": lambda jobs: transformers_cb(theirs, jobs),
        }
    runs |= {
        "ours": lambda jobs: ours(model, jobs),
        "ours-32": lambda jobs: ours(model, jobs, max_batch=BATCH),
        "ours-scattered": lambda jobs: ours(model, jobs, scattered=True),
        "static": lambda jobs: static(model, jobs),
        "static-64": lambda jobs: static(model, jobs, 64),
        "static-128": lambda jobs: static(model, jobs, 128),
        "alone": lambda jobs: alone(model, jobs),
    }
    if "alone-fast" in wanted:
        quick = tk.fast(model)
        runs["alone-fast"] = lambda jobs: alone(quick, jobs)
    return {name: runs[name] for name in wanted}


def as_transformers(model: tk.Decoder) -> Any:
    """The same weights in transformers."""
    theirs: Any = transformers_model(model.config, model.dtype)
    parts = {
        "attention_norm": "input_layernorm",
        **{f"attention.{name}": f"self_attn.{name}_proj" for name in "qkvo"},
        "mlp_norm": "post_attention_layernorm",
        **{f"mlp.{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    }
    names = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    for layer in range(model.config.n_layers):
        for a, b in parts.items():
            names[f"blocks.{layer}.{a}.weight"] = f"model.layers.{layer}.{b}.weight"
    weights = {names[name]: weight for name, weight in model.state_dict().items()}
    missing = theirs.load_state_dict(weights, strict=False).missing_keys
    assert missing == ["lm_head.weight"], missing  # tied to the embedding
    theirs.set_attn_implementation("sdpa")
    return theirs


NAMES = (
    "ours", "ours-32", "ours-scattered", "static", "static-64", "static-128",
    "transformers-static", "transformers-cb", "alone-fast", "alone",
)  # fmt: skip
USUAL = [name for name in NAMES if name not in ("static-64", "static-128")]


def turn(runs: dict[str, Contestant], jobs: Sequence[Job], by: int) -> dict[str, Served]:
    """All contestants on one trace, the first of them ``by`` places on; in the usual order again."""
    names = list(runs)
    names = names[by % len(names) :] + names[: by % len(names)]
    served = {}
    for name in names:
        gc.collect()
        served[name] = runs[name](jobs)
        if [len(t) for t in served[name].tokens] != [job.n_new for job in jobs]:
            raise SystemExit(f"{name}: not as many tokens as the trace says")
        print(f"  {name}: {served[name].tokens_per_s:.1f} tokens/s", flush=True)
    return {name: served[name] for name in runs}


def report(name: str, seed: int, served: Served, first: Served) -> None:
    p = served.percentiles()
    columns = "".join(f"{p[f'ttft_p{q}_s']:9.2f}" for q in (50, 90, 99))
    columns += "".join(f"{1e3 * p[f'tpot_p{q}_s']:8.0f}" for q in (50, 90, 99))
    print(
        f"{name:22}{seed:5}{served.tokens_per_s:10.1f}{first.tokens_per_s / served.tokens_per_s:8.2f}"
        f"{columns}{equal_outputs(first, served):8.0%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=USUAL)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--prefix", action="store_true")
    parser.add_argument("--attention", action="store_true")
    parser.add_argument("--products", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve.jsonl"))
    args = parser.parse_args()
    torch.manual_seed(0)
    config = replace(published(args.shape).config, eos_token_ids=())
    model = random_model(config, DTYPES[args.dtype])
    runs = contestants(model, list(dict.fromkeys(["ours", *args.only])))
    common = {"shape": args.shape, "requests": args.requests, "block_size": BLOCK_SIZE}

    def record(name: str, value: float, unit: str, **more: Any) -> None:
        found = measure.result(name, value, unit, config=common | more, dtype=args.dtype)
        measure.append([found], args.out)

    print(
        f"{measure.device_name()}, {torch.get_num_threads()} threads, {args.dtype}, {args.requests} requests"
    )
    print(f"{'':22}{'seed':>5}{'tokens/s':>10}{'ours x':>8}{'TTFT p50':>9}{'p90':>9}{'p99 s':>9}"
          f"{'TPOT p50':>8}{'p90':>8}{'p99 ms':>8}{'equal':>8}")  # fmt: skip
    for run in runs.values():  # a few requests first: nothing is measured cold
        run(trace(99, 4, config.vocab_size))
    capacity = []
    for seed in args.seeds:
        jobs = trace(seed, args.requests, config.vocab_size)
        found_by = turn(runs, jobs, seed)
        first = found_by["ours"]
        for name, served in found_by.items():
            report(name, seed, served, first)
            if name == "ours":
                capacity.append(len(jobs) / served.total_s)
            more = served.percentiles() | (waste(served.steps) if served.steps else {})
            more |= {"seed": seed, "equal_outputs": equal_outputs(first, served)}
            record(f"serve.{name}", served.tokens_per_s, "output tokens/s", **more)
            if served.steps:
                print("  waste: " + ", ".join(f"{k} {v:.1%}" for k, v in waste(served.steps).items()))
    if args.latency:
        rate = 0.7 * statistics.median(capacity)
        for seed in args.seeds:
            served = ours(model, trace(seed, args.requests, config.vocab_size, rate))
            report("ours, Poisson at 70 %", seed, served, served)
            more = served.percentiles() | waste(served.steps) | {"seed": seed, "rate_per_s": rate}
            record("serve.poisson", served.tokens_per_s, "output tokens/s", **more)
    if args.prefix:
        found = prefix(model)
        for percent, seconds in found.items():
            print(f"prompt of 512 tokens, {percent} % stored: TTFT {seconds:.3f} s, {seconds / found[0]:.2f}")
            record("serve.prefix_ttft", seconds, "s", stored_percent=percent, of_none=seconds / found[0])
    if args.attention:
        for size in (1, 2, 4):
            ways = attention(model, trace(0, args.requests, config.vocab_size), size)
            print(f"one layer, 48 rows, a pool of {size} times the blocks that are read")
            for name, timing in ways.items():
                times = timing.median_s / ways["block by block"].median_s
                print(f"  {name:20}{timing.median_s * 1e3:8.2f} ms, {times:.1f} times block by block")
                record("serve.attention", timing.median_s, "s", way=name, pool=size, of_by_block=times)
    if args.products:
        for rows, times in products(model).items():
            print(f"{rows:3} rows: the weights first are {times:.2f} times as fast")
            record("serve.products", times, "times", rows=rows)


if __name__ == "__main__":
    main()
