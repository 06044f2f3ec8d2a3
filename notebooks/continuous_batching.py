# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   teachkit:
#     stem: continuous_batching
#     modules: [scheduler, engine, request]
#     objectives:
#       - Count what static batching computes and nobody reads, and say on which property of the requests it depends
#       - Write a scheduler that decides anew at every step, in which prefill and decode are one case
#       - Serve requests of any length in one packed row, with the tokens that each would get alone
#       - Choose a token budget from limits on the time to first token and on the longest wait between tokens
#     minutes: 80
#     lab: continuous_batching
# ---

# %% [markdown]
# # Continuous batching
#
# Sixteen requests come to a server that takes eight at a time. It is busy from the first second to the last, every pass of the model has all eight rows in it, and yet more than half of what it computes is thrown away. **Where?**
#
# Write down where you would look. Section 1 counts it.
#
# **Afterwards you can**
#
# - count what static batching computes and nobody reads, and say on which property of the requests it depends;
# - write a scheduler that decides anew at every step, in which prefill and decode are one case;
# - serve requests of any length in one packed row, with the tokens that each would get alone;
# - choose a token budget from limits on the time to first token and on the longest wait between tokens;
# - say what it costs to take a running request's memory away (*preemption*), and why the order of service decides whether everybody is served at all;
# - say what becomes of the time to the first token when a server nears its capacity.
#
# **You need** the lessons on generation (TTFT, the time to the first token, and TPOT, the mean time per token after it), on the KV cache, on latency and throughput, and on the paged cache (blocks, block tables, kept blocks). No GPU and no network once `teachkit` is installed. Allow an
# hour and twenty minutes.

# %% tags=["setup", "hide-input"]
# Set-up. If teachkit is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lesson carries; a copy without an address says what to do. If teachkit is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachkit") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachkit is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that teachkit can work with stays as it is.
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True
    )

# %% tags=["nbval-ignore-output", "hide-input", "remove-output"]
import bisect
import itertools
import json
import math
import random
import statistics
import string
import time
from collections import deque
from pathlib import Path

import torch
from IPython.display import Markdown, display

import teachkit as tk
from teachkit import figures, shapes
from teachkit.blocks import BlockPool
from teachkit.engine import Engine
from teachkit.paged import PagedMemory, Run
from teachkit.scheduler import Scheduler, Sequence
from teachkit.trace import make

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. Static batching
#
# Sixteen requests with lognormal lengths, as in the lesson on the paged cache; their prompts are cut from Python code that the model was not trained on. All come at once.

# %%
model = tk.load("bundled")
config = model.config
folder = Path(tk.__file__).parent / "checkpoints" / "bundled"
code = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))["functools.py"]
ids = model.tokenizer.encode(code, special=False)
requests = make(16, seed=0, source=ids).requests
NAMES = string.ascii_uppercase[:16]
print("request ", *(f"{name:>4}" for name in NAMES))
print("prompt  ", *(f"{len(r.prompt):4}" for r in requests))
print("answer  ", *(f"{r.max_new_tokens:4}" for r in requests))

# %% [markdown]
# *Static batching* takes the first eight, pads their prompts to the longest, and runs the batch until its longest answer is done. Then it takes the next eight. What a row computes after its own answer has ended nobody reads.
#
# **Predict.** In the first batch, A to H, the answers add up to 538 tokens and the longest has 162; the first token of each comes from the prefill. In the passes that decode, which share of the rows gives a token that somebody wants? And which share of the prompts' padded rectangle is prompt?


# %%
def static(model, requests, rows):
    """Batches of `rows`, one after the other: (passes, seconds at which each token came)

    A pass: when it began, how long it took, columns computed, {request: useful columns}
    """
    passes, times, began = [], [[] for _ in requests], time.perf_counter()
    for first in range(0, len(requests), rows):
        batch = requests[first : first + rows]
        counts = [len(r.prompt) for r in batch]
        width, longest = max(counts), max(r.max_new_tokens for r in batch)
        cache = tk.cache.ContiguousCache(model.config, len(batch), width + longest)
        new = torch.tensor([[*r.prompt, *[0] * (width - len(r.prompt))] for r in batch])
        for step in range(longest):
            start = time.perf_counter()
            x = model.hidden(new, cache.plan(counts))
            last = x[range(len(batch)), [n - 1 for n in counts]]
            new = model.readout(last[None])[0].argmax(-1, keepdim=True)
            end = time.perf_counter()
            wants = [step < r.max_new_tokens for r in batch]
            useful = {first + row: n * wants[row] for row, n in enumerate(counts)}
            passes.append((start - began, end - start, width, useful))
            for row in itertools.compress(range(len(batch)), wants):
                times[first + row].append(end - began)
            counts, width = [1] * len(batch), 1
    return passes, times


model(torch.tensor([ids[:64]]))  # warm up
passes, _ = static(model, requests, 8)
first = [p for p in passes if max(p[3]) < 8]
parts = {}
for name, some in {"A to H": first, "all": passes}.items():
    parts[f"{name}, prefill"] = [p for p in some if p[2] > 1]
    parts[f"{name}, decode"] = [p for p in some if p[2] == 1]
parts["all"] = passes
print("                 passes  computed  wanted")
for name, some in parts.items():
    computed = sum(width * len(useful) for _, _, width, useful in some)
    wanted = sum(sum(useful.values()) for *_, useful in some)
    print(f"{name:16} {len(some):6} {computed:9,} {wanted:7,}  {wanted / computed:.0%}")

# %% [markdown]
# **Explain.** That is where it goes: into prompts padded to the longest, and into rows whose answer has ended. A batch of $B$ rows computes $B$ times the longest and keeps the sum of all, so the share that is wanted is the **mean length over the longest**. It depends on how much lengths differ: in the second batch one prompt of 274 lies among seven that are mostly short. And it falls with the batch, since the longest of many is longer. Equal lengths would waste nothing.
#
# A second waste does not show here. A request that came just after the batch had started would wait for the longest of eight strangers. This is *head-of-line blocking*: those who could go on stand behind one who cannot.
#
# ## 2. A decision at every step
#
# The batch need not be decided for longer than one step ([Yu et al. 2022](https://www.usenix.org/conference/osdi22/presentation/yu), Orca): after each, whoever has ended leaves, and whoever waits takes the place. This is *continuous batching*.
#
# A newcomer has a prompt to be computed while the others need one token each. One observation makes this simple. A sequence is a list of known tokens. Of its beginning the keys and values are stored; the rest is *pending*: at first the whole prompt, in decoding one token. **A
# step takes pending tokens, in the order in which the requests came, up to a budget.** Prefill and decode are one case, and a prompt longer than the budget is cut by itself: *chunked prefill*.
#
# **Build.** Blocks are left out here; memory is plenty.


# %%
class Mine:
    """A request: its known tokens, how many it may have, how many are computed"""

    def __init__(self, name, request):
        self.name, self.tokens = name, list(request.prompt)
        self.end = len(self.tokens) + request.max_new_tokens
        self.computed = 0


def my_plan(running, waiting, budget, most):
    """[(sequence, first token, how many)] of the next step"""
    while waiting and len(running) < most:
        running.append(waiting.popleft())
    plan = []
    for sequence in running:  # in the order in which they came
        n = min(budget, len(sequence.tokens) - sequence.computed)
        if n:
            plan.append((sequence, sequence.computed, n))
        budget -= n
    return plan


def my_steps(requests, budget, most):
    """Every step until all are done, as {name: (first token, how many)}; tokens are made up"""
    waiting, running, steps = deque(map(Mine, NAMES, requests)), [], []
    while plan := my_plan(running, waiting, budget, most):
        steps.append({sequence.name: (start, n) for sequence, start, n in plan})
        for sequence, start, n in plan:
            sequence.computed = start + n
            if sequence.computed == len(sequence.tokens):  # the model would tell the next
                sequence.tokens.append(0)
                if len(sequence.tokens) == sequence.end:
                    running.remove(sequence)
    return steps


# %% [markdown]
# `teachkit.scheduler` has this rule and, in addition, counts blocks. Its plan is a list of *chunks*: `n` tokens of a `sequence` from position `start`. A chunk that reaches the last known token `samples`: the model then tells the next.
#
# It knows nothing of tensors, so whole traces can be played with made-up tokens on a made-up clock. `play` does that: by default a step takes one unit of time.


# %%
def play(scheduler, arrivals, step_time=lambda plan: 1):
    """Serve [(time, sequence)]: (plans, how long each took, {sequence: time of each token})"""
    arrivals, plans, took, times, now = deque(arrivals), [], [], {}, 0
    while arrivals or scheduler.waiting or scheduler.running:
        while arrivals and arrivals[0][0] <= now:
            scheduler.add(arrivals.popleft()[1])
        plan = scheduler.plan()
        if not plan.chunks:  # nobody is here
            now = arrivals[0][0]
            continue
        plans.append(plan)
        took.append(step_time(plan))
        now += took[-1]
        for sequence in [chunk.sequence for chunk in plan.chunks if chunk.samples]:
            times.setdefault(sequence, []).append(now)
        finish(scheduler, plan)
    return plans, took, times


def finish(scheduler, plan):
    """What the engine does after a step, with made-up tokens"""
    scheduler.advance(plan)
    for sequence in [chunk.sequence for chunk in plan.chunks if chunk.samples]:
        sequence.tokens.append(len(sequence.tokens))
        if sequence.complete:
            scheduler.remove(sequence)


def sequences(requests, pool):
    return [Sequence(r.prompt, r.max_new_tokens, pool) for r in requests]


pool = BlockPool(512, 16)
scheduler = Scheduler(pool, max_batch_tokens=256, max_batch=8)
served = sequences(requests, pool)
name_of = dict(zip(served, NAMES))
plans, _, _ = play(scheduler, [(0, s) for s in served])
theirs = [{name_of[c.sequence]: (c.start, c.n) for c in plan.chunks} for plan in plans]
mine = my_steps(requests, 256, 8)
print(f"{len(mine)} steps, equal to teachkit's: {mine == theirs}")
for number in (0, 1, 2, 16, 17, 18):
    step = mine[number]
    said = "  ".join(f"{name} {n}" for name, (_, n) in step.items())
    print(f"step {number + 1:2}: {sum(n for _, n in step.values()):3} tokens   {said}")

# %% tags=["hide-input"]
computed = sum(plan.n_tokens for plan in plans)
least = sum(len(r.prompt) + r.max_new_tokens - 1 for r in requests)
Markdown(
    f"""**Explain.** The prompts of A to D take 250 of 256 tokens, so E begins with a chunk of 6 and goes on in the next step, behind one token each of the four. In step 17 D gets the last of its {requests[3].max_new_tokens} tokens; in step 18 its place is I's, whose whole prompt joins seven who decode. Static batching took {len(passes)} passes, this takes {len(mine)} steps. It computes {computed:,} tokens, and the requests need {least:,}: nothing is thrown away."""
)

# %% [markdown]
# ## 3. One row for all
#
# A step now holds chunks of different lengths. Padding them into rows would bring the waste back. But matrices, norms and MLP treat each token separately, so all tokens can go through them as **one row**. Only the rotation, which turns by a token's position *in its sequence*, and attention ask whose a
# token is. Both ask the plan of the step, as in the lesson on the paged cache: it has `positions`, and for each layer a view with `attend`.
#
# **Predict.** The row of step 18 begins with one token each of A, B, C, E, F, G and H; behind them come the 206 of I's prompt. For A's token and for I's first two: at which position is it turned, and how many keys does it see?
#
# **Build.** New keys and values go to the blocks of the sequence's own table. Its queries read those: all tokens before the chunk, and of the chunk what is not later.


# %%
class OneRow:
    """A step of several sequences, all tokens in one row; pools k, v (L, N, Hkv, P, D)"""

    def __init__(self, k, v, chunks):
        self.k, self.v, self.chunks = k, v, chunks
        places = [torch.arange(c.start, c.start + c.n) for c in chunks]
        self.positions = torch.cat(places)[None]
        self.valid = torch.ones_like(self.positions, dtype=torch.bool)  # nothing is padding

    def layer(self, index):
        return RowLayer(self.k[index], self.v[index], self.chunks)


class RowLayer:
    def __init__(self, k, v, chunks):
        self.k, self.v, self.chunks = k, v, chunks

    def attend(self, q, k, v):
        """q (1, H, N, D), k and v (1, Hkv, N, D): cut into chunks, each by itself, joined"""
        counts = [c.n for c in self.chunks]
        parts = zip(self.chunks, *(x[0].split(counts, 1) for x in (q, k, v)))
        return torch.cat([self.attend_own(*part) for part in parts], 1)[None]

    def attend_own(self, chunk, q, k, v):
        """Queries (H, n, D) of a chunk over the (Hkv, end, D) that its sequence has stored"""
        end, blocks = chunk.start + chunk.n, torch.tensor(chunk.sequence.table.blocks)
        new = torch.arange(chunk.start, end)
        size = self.k.shape[2]
        self.k[blocks[new // size], :, new % size] = k.transpose(0, 1)
        self.v[blocks[new // size], :, new % size] = v.transpose(0, 1)
        keys, values = (
            pool[blocks].transpose(0, 1).flatten(1, 2)[:, :end].repeat_interleave(G, 0)
            for pool in (self.k, self.v)
        )
        later = torch.arange(end) > new[:, None]
        scores = (q @ keys.mT / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
        return scores.softmax(-1) @ values


G = config.n_heads // config.n_kv_heads  # query heads that share a key
packed = OneRow(None, None, plans[17].chunks)
owners = [name_of[c.sequence] for c in packed.chunks for _ in range(c.n)]
for place in (0, 7, 8):
    position = int(packed.positions[0, place])
    print(f"place {place}: {owners[place]}, position {position}, keys seen {position + 1}")

# %% [markdown]
# **Measure.** Every step goes through our row and through `teachkit`'s; in the end each sequence goes through the model alone, without a cache.


# %%
def forward(plan, step):
    """Logits (chunks, V) after the last token of each chunk, all tokens in one row (1, N)"""
    tokens = torch.tensor([[token for c in plan.chunks for token in c.tokens]])
    ends = itertools.accumulate(c.n for c in plan.chunks)
    return model.readout(model.hidden(tokens, step)[:, [end - 1 for end in ends]])[0]


def serve(requests, budget, most):
    """{sequence: logits of its greedy answer}, and how far teachkit's logits are from ours"""
    pool, memory = BlockPool(512, 16), PagedMemory(config, 512, 16)
    k, v, apart = torch.zeros_like(memory.k), torch.zeros_like(memory.v), []
    scheduler = Scheduler(pool, max_batch_tokens=budget, max_batch=most)
    logits_of = {sequence: [] for sequence in sequences(requests, pool)}
    for sequence in logits_of:
        scheduler.add(sequence)
    while (plan := scheduler.plan()).chunks:
        logits = forward(plan, OneRow(k, v, plan.chunks))
        runs = [Run(c.sequence.table.blocks, c.start, c.n) for c in plan.chunks]
        theirs = forward(plan, memory.step(runs, packed=True))
        apart.append((logits - theirs).abs().max().item())
        scheduler.advance(plan)
        for chunk, row in zip(plan.chunks, logits):
            if chunk.samples:
                logits_of[chunk.sequence].append(row)
                chunk.sequence.tokens.append(int(row.argmax()))
                if chunk.sequence.complete:
                    scheduler.remove(chunk.sequence)
    return logits_of, apart


def alone(sequence):
    """Logits of its answer, from one pass over all of it"""
    return model(torch.tensor([sequence.tokens[:-1]]))[0, sequence.n_prompt - 1 :]


logits_of, apart = serve(requests[:6], 64, 4)
differ = [(torch.stack(rows) - alone(s)).abs().max() for s, rows in logits_of.items()]
print(f"{len(apart)} steps, the largest logit {max(map(torch.max, map(alone, logits_of))):.0f}")
print(f"equal to 0.001: teachkit's row and ours {max(apart) < 1e-3}", end="")
print(f", each sequence alone and in our row {max(differ) < 1e-3}")


# %% [markdown]
# **Explain.** A's token has 43 of its prompt and 16 of its answer before it. I's first stands behind seven others in the row, but is turned by position 0 and sees itself alone. `teachkit`'s step differs in how it reads: all single queries attend together, to blocks in place; a chunk's past is brought together once, as here.
#
# `Engine` is this loop with streaming, sampling, stop strings, cancelling and a clock. (`ignore_eos` plays the lengths of the trace, whatever the model writes.)


# %%
def engine_of(model, budget, most=None, **options):
    return Engine(
        model, n_blocks=512, block_size=16, max_batch_tokens=budget, max_batch=most, **options
    )


def submit(engine, requests):
    return [engine.submit(r.prompt, r.max_new_tokens, ignore_eos=True) for r in requests]


engine = engine_of(model, 64, 4)
answers = submit(engine, requests[:6])
steps = engine.run()
print("answers equal:", [s.output for s in logits_of] == [a.tokens for a in answers])
print("step  requests  prompt  decode  waiting")
for number, step in enumerate(steps[:6], start=1):
    print(f"{number:4} {step.batch:9} {step.prefill:7} {step.decode:7} {step.waiting:8}")

# %% [markdown]
# **Predict.** Does a request's answer depend on who else is served? Nine requests, sampled at temperature 0.8, each with a seed of its own, through an engine with a budget of 40; then each alone, through `tk.generate`.

# %%
sampler = tk.sampler(temperature=0.8)
asked = [(list(r.prompt), min(r.max_new_tokens, 20)) for r in requests[:9]]
engine = engine_of(model, 40, 5)
together = [engine.submit(p, n, sampler, seed=i) for i, (p, n) in enumerate(asked)]
engine.run()
alone = [tk.generate(model, p, n, sampler, seed=i) for i, (p, n) in enumerate(asked)]
same = [a.tokens == b.tokens for a, b in zip(together, alone)]
print(f"{sum(same)} of {len(same)} answers have the same tokens")
print(f"{sum(len(a.tokens) for a in together)} tokens, in all")

# %% [markdown]
# **Explain.** No other request's keys can be reached through a sequence's block table, and its random numbers are its own. What differs is the last bits, hence "to 0.001" above: a product with more rows may be cut into other pieces by the library, and sums in another order round differently. Where two tokens are nearly equal in probability, that can decide. A
# server that promises the same answer every time needs products whose order of adding does not depend on the batch.
#
# ### What a request is told
#
# The engine reads a clock. Ours counts passes through the model. Two requests, one at a time:

# %%
done = []
counting = model.embedding.register_forward_hook(lambda *_: done.append("a pass"))
engine = engine_of(model, 8, 1, clock=lambda: len(done))
first = engine.submit(ids[:4], 3, ignore_eos=True)
second = engine.submit(ids[:12], 5, ignore_eos=True)
engine.run()
counting.remove()
for name, r in (("first", first), ("second", second)):
    print(
        f"{name:6} queue {r.queue_s}, TTFT {r.ttft_s}, TPOT {r.tpot_s:.2f}, tokens at {r.times_s}"
    )

# %% [markdown]
# The second waits for the three passes of the first, then needs two for a prompt of 12 tokens under a budget of 8. TTFT counts from submission: it is queue *and* prefill.
#
# ## 4. What it gives
#
# **Predict.** Twenty-four such requests, eight rows. Static batching computes more than twice the tokens. Will continuous batching write more than twice as many tokens per second? What happens to TTFT, and to TPOT?
#
# Both serve the same trace with the same model and threads, in turn. A step of the bundled model is mostly the price of starting its operations. So we also take the shape of SmolLM2-135M, whose step is mostly reading its weights: random ones, since time does not depend on them, and sixteen
# requests of a sixth of the length.

# %%
ROWS, BUDGET = 8, 128


def run_static(model, requests):
    """Seconds of each request's tokens from submission, passes, tokens computed"""
    passes, times = static(model, requests, ROWS)
    return times, len(passes), sum(width * len(useful) for _, _, width, useful in passes)


def run_engine(model, requests):
    engine = engine_of(model, BUDGET, ROWS, reuse=False)
    served = submit(engine, requests)
    steps = engine.run()
    times = [[t - r.submitted_s for t in r.times_s] for r in served]
    return times, len(steps), sum(step.prefill + step.decode for step in steps)


WAYS = {"static": run_static, "continuous": run_engine}
torch.manual_seed(0)
larger = tk.Decoder(shapes.shape("smollm2-135m").config).eval()
small_trace = make(24, seed=1, source=ids).requests
short_trace = make(16, seed=0, source=ids, prompt_median=10, output_median=8).requests
larger(torch.tensor([ids[:64]]))  # warm up
traces = {"bundled": (model, small_trace), "SmolLM2-135M's shape": (larger, short_trace)}
measured = {
    name: {way: run(*served) for way, run in WAYS.items()} for name, served in traces.items()
}


# %% tags=["nbval-ignore-output", "hide-input"]
def percentile(values, share):
    """The least value that so large a share of all do not exceed"""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def seconds(run):
    return max(t[-1] for t in run[0])


def ttft(name, way, share):
    return percentile([t[0] for t in measured[name][way][0]], share)


def row(name, way, run):
    times, n_passes, _ = run
    tpot = [(t[-1] - t[0]) / (len(t) - 1) for t in times if len(t) > 1]
    spread = [ttft(name, way, q) for q in (0.5, 0.9)] + [
        percentile(tpot, q) for q in (0.5, 0.9)
    ]
    rate = sum(map(len, times)) / seconds(run)
    cells = " | ".join(f"{1e3 * value:,.0f}" for value in spread)
    return f"| {name} | {way} | {n_passes} | {rate:,.0f} | {cells} |"


def ratios(name):
    """Static over continuous, as printed: time, passes, tokens computed"""
    a, b = measured[name]["static"], measured[name]["continuous"]
    return [round(x, 2) for x in (seconds(a) / seconds(b), a[1] / b[1], a[2] / b[2])]


rows = "\n".join(row(n, way, run) for n, runs in measured.items() for way, run in runs.items())
factors = "; ".join(
    f"{n}: {ratios(n)[1]:.2f} times the passes, {ratios(n)[2]:.2f} times the tokens, **{ratios(n)[0]:.2f} times** the time"
    for n in measured
)
slower = [n for n in measured if ratios(n)[0] < ratios(n)[1]]
missing = (
    f" With {' and '.join(slower)} the gain falls short of the passes: a step of the engine also plans and looks up blocks, and in one short run other work on the machine weighs."
    if slower
    else ""
)
p50, p90 = (
    " and ".join(f"{ttft(n, 'continuous', q) / ttft(n, 'static', q):.0%}" for n in measured)
    for q in (0.5, 0.9)
)
Markdown(f"""
| model | batching | passes | tokens/s | TTFT p50, ms | p90 | TPOT p50, ms | p90 |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

**Explain.** A pass costs something however few tokens it has, for starting operations and reading weights, and something for each of its tokens. Static batching pays the first for more passes and the second for more tokens. ({factors}.) Where the fixed part decides, the gain is that of the passes; where arithmetic does, that of the tokens.{missing}

TTFT falls for those who stood behind an earlier batch: two thirds of twenty-four, but half of sixteen, whose median is in the first batch. Its p50 is {p50} of what it was, p90 {p90}. The first eight need not gain: their prompts now pass through the budget one after the other. Nor need TPOT fall: a step with a chunk of a newcomer's prompt takes longer for everyone in it.

{tk.measure.caption()}
""")

# %% [markdown]
# The figure has the sixteen requests of section 1, one row each. Step through both schedules: in the static one, look for the grey ends of rows; in the continuous one, for the step after a request ends.

# %% tags=["nbval-ignore-output", "hide-input"]
engine = engine_of(model, 256, ROWS, reuse=False)
plenty = submit(engine, requests)
named = dict(zip(plenty, NAMES))
now = figures.timeline_of(engine.run(), named, "continuous batching", budget=256)


def static_cell(useful, width):
    if not useful:
        return ("padding", width)
    return ("prefill" if width > 1 else "decode", useful, 0, width - useful)


before = figures.Timeline(
    "static batching",
    NAMES,
    [
        figures.TimelineStep(
            at,
            took,
            {NAMES[i]: static_cell(n, width) for i, n in useful.items()},
            waiting=[NAMES[i] for i in range(max(useful) + 1, len(NAMES))],
        )
        for at, took, width, useful in passes
    ],
)
figures.request_timeline([before, now])

# %% [markdown]
# ## 5. A prompt in the way
#
# Eight answers are being written when a prompt of 900 tokens arrives (the bundled model's context is 1,024). The lesson on latency and throughput read such a prompt in passes of its own. Here its chunks share the steps of the eight, and the budget decides how large they are.
#
# **Predict.** With a budget of 1,024 the whole prompt goes through in one step. For the eight, is the longest wait for a token then about 3, 10 or 30 times the usual one? With a budget of 32, what is it, and what does the newcomer pay? And which budget would you choose if nobody may wait longer than five times the usual?


# %%
def interrupted(budget):
    """Seconds: (usual, longest between two tokens of the eight, TTFT of the newcomer)"""
    engine = engine_of(model, budget, reuse=False)
    eight = [engine.submit(ids[i : i + 8], 200, ignore_eos=True) for i in range(8)]
    while min(len(r.times_s) for r in eight) < 8:
        engine.step()
    late = engine.submit(ids[1000:1900], 1, ignore_eos=True)
    while not late.done:
        engine.step()
    engine.step()
    gaps = [
        (b - a, b > late.submitted_s) for r in eight for a, b in itertools.pairwise(r.times_s)
    ]
    usual = statistics.median(gap for gap, after in gaps if not after)
    return usual, max(gap for gap, after in gaps if after), late.ttft_s


BUDGETS = (1024, 512, 128, 64, 32, 24)
runs = [{budget: interrupted(budget) for budget in BUDGETS} for _ in range(2)]
# Whatever else the machine does only adds time: the better of two.
waits = {b: [min(pair) for pair in zip(*(run[b] for run in runs))] for b in BUDGETS}


# %% tags=["nbval-ignore-output", "hide-input"]
def draw():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    x = [1e3 * waits[b][2] for b in BUDGETS]
    y = [1e3 * waits[b][1] for b in BUDGETS]
    ax.plot(x, y, "o-")
    for budget, a, b in zip(BUDGETS, x, y):
        ax.annotate(f"{budget:,}", (a, b), (6, 4), textcoords="offset points", fontsize=8)
    ax.axhline(1e3 * usual, linestyle="--", color=figures.colours()["second"])
    ax.set(xlabel="newcomer's TTFT, ms", ylabel="longest wait of the eight, ms", ylim=0, xlim=0)
    ax.set_title("A prompt of 900 tokens, by token budget: measured")
    return fig


def hidden(budget):
    """Scores of one head that are computed and then masked: the budget's chunks of 900 tokens"""
    ends = [min(start + budget - 8, 900) for start in range(0, 900, budget - 8)]
    return sum((b - a) * b for a, b in itertools.pairwise([0, *ends])) - 900 * 901 // 2


usual = statistics.median(w[0] for w in waits.values())
best = min(BUDGETS, key=lambda b: waits[b][2])
masked = (
    f" In one pass the prompt's 900 · 900 scores are computed in each head and nearly half of them masked; the chunks under a budget of {best} leave out {1 - hidden(best) / hidden(1024):.0%} of these. That is one reason why it is better for *both* than {max(BUDGETS):,}."
    if best < max(BUDGETS) and waits[best][1] < waits[max(BUDGETS)][1]
    else ""
)
allowed = [b for b in BUDGETS if waits[b][1] <= 5 * usual]
choice = (
    f"{', '.join(map(str, allowed))} keep the limit of five times the usual wait, and of these {min(allowed, key=lambda b: waits[b][2])} has the shortest TTFT. If newcomers cannot wait so long, no budget keeps both promises: fewer answers must run at a time, or on a faster machine."
    if allowed
    else "In this run no budget keeps the limit of five times the usual wait: fewer answers must run at a time, or on a faster machine."
)
lines = "\n".join(
    f"| {b:,} | {math.ceil(900 / (b - 8))} | {1e3 * gap:.1f} | {gap / usual:.1f} | {1e3 * ttft:.0f} |"
    for b, (_, gap, ttft) in waits.items()
)
display(
    figures.static(
        draw,
        alt="Measured: the longest wait of the eight against the newcomer's TTFT. The larger the budget, the longer the eight wait; small budgets make the newcomer wait.",
    )
)
Markdown(f"""
| budget, tokens | steps for the prompt | longest wait of the eight, ms | times the usual | newcomer's TTFT, ms |
| ---: | ---: | ---: | ---: | ---: |
{lines}

**Explain.** Without the prompt, a token comes every {1e3 * usual:.1f} ms (dashed). If the prompt takes one step, the eight wait {waits[1024][1] / usual:.0f} times that; with a budget of 32, {waits[32][1] / usual:.1f} times. The newcomer is served fastest with a budget of {best}; with 32 its first token takes {waits[32][2] / waits[best][2]:.1f} times as long as then. The eight take 8 tokens of every budget first. What is left reads the prompt, and each step has its fixed price, paid once per chunk: below a point, a smaller budget costs the newcomer much and gives the eight little.{masked}

**Choose.** {choice}

{tk.measure.caption()}
""")

# %% [markdown]
# Chunks also fill steps that would otherwise wait for memory: on a GPU, tokens up to the critical batch take hardly longer than one ([Agrawal et al. 2024](https://arxiv.org/abs/2403.02310), Sarathi-Serve).
#
# ## 6. When memory runs out
#
# How long an answer becomes is not known before it ends. To let in only what is sure to fit would be to reserve the maximum again. So the scheduler admits what fits *now*, with a block to spare for each that runs. Say that five run, with room for all tokens known of them, and that 12 blocks are free: a prompt of 7 blocks is let in, one of 8 waits. Sometimes that is too generous. Then the one that came last is *preempted*: it
# gives all its blocks back and waits at the head of the queue. Its tokens are known, so nothing is lost but time: keys and values are computed again, under the same budget.
#
# **Predict.** The sixteen requests need 2,065 tokens computed. In a pool of 48 blocks instead of 512, with preemptions, how many: a tenth more, half as many again, several times as many?


# %%
def in_pool(n_blocks, reuse):
    pool = BlockPool(n_blocks, 16)
    scheduler = Scheduler(pool, max_batch_tokens=256, max_batch=8, reuse=reuse)
    plans, _, _ = play(scheduler, [(0, s) for s in sequences(requests, pool)])
    # a sequence that is let in begins behind what was found
    found = sum(c.start for plan in plans for c in plan.chunks if c.sequence in plan.admitted)
    computed = sum(plan.n_tokens for plan in plans)
    return len(plans), sum(len(plan.preempted) for plan in plans), computed, found


print("                            recomputed          kept blocks reused")
print("blocks  steps  preempted    computed  more      computed  found")
for n_blocks in (512, 48, 40, 32, 24):
    n_steps, n_preempted, computed, _ = in_pool(n_blocks, False)
    *_, with_reuse, found = in_pool(n_blocks, True)
    more = f"{computed / least - 1:.1%}"
    print(
        f"{n_blocks:6} {n_steps:6} {n_preempted:10} {computed:11,} {more:>5} {with_reuse:13,} {found:6}"
    )

# %% [markdown]
# **Explain.** Preemption is rare: a block to spare is 16 steps for each, in which often somebody ends. And it is cheap: a recomputed token costs what a token of a prompt costs, a share of one step. In the smaller pools fewer run at a time; that is what they cost, in steps. And a preempted sequence's full blocks are *kept*, known by their
# content. If nobody has taken them by the time it is let in again, it finds its own past: preempt, then hit.
#
# The alternative is to *swap*: copy the blocks to another memory and back. That moves all bytes twice, where computing again reads the weights once; which is faster depends on the link ([Kwon et al. 2023](https://arxiv.org/abs/2309.06180), section 7.3).
#
# ## 7. Whose turn is it?
#
# Tokens, blocks and places go to requests in the order in which they came: *first come, first served*. So the oldest takes its tokens before all others and loses its blocks to nobody. Let its prompt have $p$ tokens and its answer at most $m$, and let the pool be able to hold it alone (else it is refused at once). Even after a preemption it
# has less than $p+m$ tokens pending. It gets the whole budget until they are computed, then a token in every step, and is done after at most $\lceil (p+m)/\text{budget} \rceil + m$ steps. Any request is done after at most the sum of this over itself and all that came before it. We try it on random traces with tight pools:


# %%
def bound_used(seed, n):
    """Of each request of a random trace: steps until it is done, over its bound"""
    draw = random.Random(seed)
    budget, pool = draw.randint(1, 40), BlockPool(draw.randint(12, 30), 4)
    lengths = [(draw.randint(1, 30), draw.randint(1, 15)) for _ in range(n)]
    served = [
        Sequence(range(100 * i, 100 * i + p), m, pool) for i, (p, m) in enumerate(lengths)
    ]
    _, _, times = play(Scheduler(pool, max_batch_tokens=budget), [(0, s) for s in served])
    bounds = itertools.accumulate(math.ceil((p + m) / budget) + m for p, m in lengths)
    return [times[s][-1] / bound for s, bound in zip(served, bounds)]


used = [bound_used(seed, 12) for seed in range(200)]
print(f"beyond the bound: {sum(max(shares) > 1 for shares in used)} of {len(used)} traces")
for number in (0, 5, 11):
    shares = [one[number] for one in used]
    print(
        f"request {number + 1:2}: median {statistics.median(shares):.2f}, largest {max(shares):.2f}"
    )

# %% [markdown]
# Requests run together, so the later ones use little of their bound. What matters is that it is finite, and that nobody who comes later is in it.
#
# Would it not be better to take the shortest first? The mean wait is then shortest, as at a till. One line changes.


# %%
class ShortestFirst(Scheduler):
    """Lets in whoever asks for the least, prompt and answer (suppose that lengths are known)"""

    def plan(self):
        self.waiting = deque(sorted(self.waiting, key=lambda s: s.n_prompt + s.max_new_tokens))
        return super().plan()


def long_among(n_short, policy):
    """Steps of (the long one, the short ones on average) from arrival to the end"""
    pool = BlockPool(64, 16)
    long = Sequence(range(16), 100, pool)
    short = [(i, Sequence(range(16), 4, pool)) for i in range(n_short)]
    arrivals = [*short[:10], (10, long), *short[10:]]
    *_, times = play(policy(pool, max_batch_tokens=256, max_batch=4, reuse=False), arrivals)
    return times[long][-1] - 10, statistics.mean(times[s][-1] - at for at, s in short)


print("              first come, first served    shortest first")
print("short ones    the long    the short       the long    the short")
for n in (100, 200, 400, 800):
    (a, b), (c, d) = (long_among(n, policy) for policy in (Scheduler, ShortestFirst))
    print(f"{n:10} {a:11} {b:12.1f} {c:14} {d:12.1f}")

# %% [markdown]
# **Explain.** The short ones that come after the long one are better off, every one of them. But the long one waits as long as short ones keep coming: each further one is a step more. This is *starvation*: there is no bound, and no mean shows it. (With first come, first served the queue that the long one causes never drains, since the server is at its capacity.)
#
# Real schedulers that favour some requests add *aging*, by which whoever waits moves up.
#
# ## 8. Near capacity
#
# So far everybody came at once. Now they come one by one, at random: a *Poisson process*, in which the next arrival does not depend on the last. *Capacity* is the rate at which the server finishes requests while there are always some waiting.
#
# **Predict.** At 70 % of capacity, is the median TTFT about that of an idle server, twice, or five times as long? And at 95 %?
#
# This is a simulation: the scheduler is the real one, and time is made up. Suppose that a step takes one unit, plus one for every 64 tokens.

# %%
N_SERVED = 1000


def simulate(**arrivals):
    """[(arrival of a request, times of its tokens)], in the order in which they come"""
    trace = make(N_SERVED, seed=0, **arrivals).requests
    pool = BlockPool(4096, 16)
    served = [Sequence(range(r.prompt_tokens), r.max_new_tokens, pool) for r in trace]
    coming = [(r.arrival_s, sequence) for r, sequence in zip(trace, served)]
    scheduler = Scheduler(pool, max_batch_tokens=128, max_batch=16, reuse=False)
    _, _, times = play(scheduler, coming, lambda plan: 1 + plan.n_tokens / 64)
    return [(at, times[sequence]) for at, sequence in coming]


at_once = simulate()
full = at_once[-1][1][0]  # until the last of them has its first token, somebody waits
capacity = sum(times[-1] <= full for _, times in at_once) / full
LOADS = (0.01, 0.3, 0.5, 0.7, 0.85, 0.95)
seen_at = {load: simulate(arrivals="poisson", rate_per_s=load * capacity) for load in LOADS}

# %% tags=["hide-input"]
print(f"capacity: {capacity:.3f} requests per unit of time; all simulated")
print("         TTFT                             TPOT    requests in the server")
print("load      p50  /idle     p90     p99       p50    counted   rate x stay")
for load, seen in seen_at.items():
    ttfts = [times[0] - at for at, times in seen]
    tpots = [(t[-1] - t[0]) / (len(t) - 1) for _, t in seen if len(t) > 1]
    p50, p90, p99 = (percentile(ttfts, share) for share in (0.5, 0.9, 0.99))
    idle = p50 if load == LOADS[0] else idle
    begins, ends = [sorted(v) for v in zip(*((at, t[-1]) for at, t in seen))]
    instants = [ends[-1] * i / 5000 for i in range(5000)]
    counted = statistics.mean(
        bisect.bisect(begins, now) - bisect.bisect(ends, now) for now in instants
    )
    stay = statistics.mean(t[-1] - at for at, t in seen)
    print(f"{load:4.0%} {p50:8.1f} {p50 / idle:6.1f} {p90:7.1f} {p99:7.1f}", end="")
    print(f" {percentile(tpots, 0.5):9.2f} {counted:10.1f} {N_SERVED / ends[-1] * stay:13.1f}")

# %% [markdown]
# **Explain.** In the first row, the idle server, TTFT is prefill. What the others have more is waiting, above all in the queue. TPOT rises with the number that run, and that is at most 16; the queue has no limit. The median of TTFT stays low for long and its tail does not: arrivals cluster, and near capacity a queue that a cluster has left finds no
# slack in which to drain. (Another draw of arrivals moves the last row most.) A mean, or a median at half load, says nothing of this; hence percentiles, beside the rate at which they were measured.
#
# The last two columns are *Little's law*: the mean number of requests in a server is the rate at which they come times the mean time that each stays, whatever the order of service and the distribution of lengths ([Little 1961](https://doi.org/10.1287/opre.9.3.383)). In a run that begins and ends empty they agree by arithmetic, and
# that is the proof: time in the server, added up by moments or by requests, is the same sum. So rate and stay say how many blocks a load will need (exercise 3).
#
# ## What real systems do
#
# - **Orca** introduced decisions at each step, and one row for all outside attention, *selective batching* ([Yu et al. 2022](https://www.usenix.org/conference/osdi22/presentation/yu)). It reserved the maximum of memory; blocks came with vLLM ([Kwon et al. 2023](https://arxiv.org/abs/2309.06180)).
# - **vLLM** has in its version 1 no separate prefill either: a step's tokens are dealt out under `max_num_batched_tokens`, decoding first, and preemption is by recomputation ([its manual](https://docs.vllm.ai/en/v0.17.1/configuration/optimization/)).
# - **TensorRT-LLM** calls it in-flight batching. By default a request is let in only if it can be completed without preemption; another policy fills the memory and may pause requests ([its manual](https://nvidia.github.io/TensorRT-LLM/performance/performance-tuning-guide/useful-runtime-flags.html)).
# - **Text Generation Inference** lets the router, a process before the model, decide when running answers pause for a prefill of those who wait ([its router](https://github.com/huggingface/text-generation-inference/blob/main/router/README.md)): section 5's stall is then a setting.
# - **Sarathi-Serve** chooses the budget from the limit on TPOT ([Agrawal et al. 2024](https://arxiv.org/abs/2403.02310)).
#
# ## What the sources claim, checked

# %% tags=["nbval-ignore-output", "hide-input"]
deck = "Li and Li, [*Quantifying Latency-Accuracy of LLMs*](https://bu9gy.github.io/)"
talk = "T. Lacroix, [*Exploring the Latency/Throughput & Cost Space for LLM Inference*](https://www.youtube.com/watch?v=mYRqvB1_gRk)"
blog = "[Anyscale](https://www.anyscale.com/blog/continuous-batching-llm-inference)"
orca = "[Orca](https://www.usenix.org/conference/osdi22/presentation/yu)"
harmonic = {n: sum(1 / k for k in range(1, n + 1)) for n in (8, 32, 128)}
gains = [ratios(name)[0] for name in measured]
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| A prompt of 4K tokens raises everybody's latency | {talk} | Right, if it is read in one pass: here 900 tokens make eight others wait {waits[1024][1] / usual:.0f} times the usual; in chunks of at most 24, {waits[32][1] / usual:.1f} times. |
| Continuous batching and paged attention are what gives vLLM 14 to 24 times the throughput of HF Transformers | {deck} | Two things at once. Continuous batching alone, same model and same rows: {min(gains):.1f} and {max(gains):.1f} times here. The lesson on the paged cache takes the other apart. |
| 8 times from continuous batching, 23 times with vLLM's memory | {blog} | Not from idle rows alone. Where lengths are exponential, as in that test, the longest of $B$ is on average $1 + 1/2 + … + 1/B$ times the mean: {harmonic[8]:.1f} for a batch of 8, {harmonic[32]:.1f} for 32, {harmonic[128]:.1f} for 128. More than that is a larger batch, or a faster program. |
| 36.9 times the throughput at equal latency | {orca} | Against FasterTransformer on GPT-3 175B with requests that arrive: at equal *latency*, a static batch must stay small and wait for its members. All at once, as in section 4, is the kindest case for static batching. |

{tk.measure.caption()}
""")

# %% [markdown]
# ## Exercises
#
# **1. Sorted.** Suppose that a static server knew the answers' lengths and put requests of like length into one batch. Which share of the decoding would then be wanted, for the sixteen requests? Why does nobody do that?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for order in (requests, sorted(requests, key=lambda r: r.max_new_tokens)):
#     decoded = [[r.max_new_tokens - 1 for r in order[i : i + 8]] for i in (0, 8)]
#     computed = 8 * sum(map(max, decoded))
#     print(f"{computed // 8} passes, wanted {sum(map(sum, decoded)) / computed:.2f}")
# ```
#
# A share of 0.55 instead of 0.41, in 192 passes instead of 254. Better, but the mean is still far below the longest in the second half. And lengths are not known: a model decides at each token whether it goes on.
#
# </details>
#
# **2. Prompts first.** An earlier rule, vLLM's first, gives a step to waiting prompts alone, whole, before anyone decodes. Play section 5's case on a clock: eight decode, a prompt of 900 comes, and then another. How long is the longest gap for the eight, if a step takes one unit plus one for every 64 tokens?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def longest_gap(budget):
#     pool = BlockPool(512, 16)
#     eight = [(0, Sequence(range(9 * i, 9 * i + 8), 200, pool)) for i in range(8)]
#     late = [(20, Sequence(range(1000 * i, 1000 * i + 900), 1, pool)) for i in (1, 2)]
#     scheduler = Scheduler(pool, max_batch_tokens=budget)
#     *_, times = play(scheduler, eight + late, lambda plan: 1 + plan.n_tokens / 64)
#     return max(b - a for _, s in eight for a, b in itertools.pairwise(times[s]))
#
#
# prompts_first = 2 * (1 + 900 / 64) + (1 + 8 / 64)  # both prompts, then the eight
# print(f"prompts first {prompts_first:.1f}")
# for budget in (2000, 1000, 128, 32):
#     print(f"budget {budget:5} {longest_gap(budget):.1f}")
# ```
#
# Prompts first, 31.2 units, and more with every prompt that comes. Under a budget it is bounded by the budget, however many come: 29.2, 16.6, 3.0 and 1.5.
#
# </details>
#
# **3. How many blocks?** How many blocks does the server of section 8 use on average at a load of 0.7? Estimate it by Little's law, then count.
#
# <details>
# <summary>Answer</summary>
#
# A request holds blocks from its first step to its last: for its prompt, for half of its answer on average, and half a block that is not full.
#
# ```python
# load = {"arrivals": "poisson", "rate_per_s": 0.7 * capacity}
# trace = make(N_SERVED, seed=0, **load).requests
# seen = simulate(**load)
# end = max(times[-1] for _, times in seen)
# held = [(r.prompt_tokens + r.max_new_tokens / 2) / 16 + 0.5 for r in trace]
# stays = [times[-1] - times[0] + 2 for _, times in seen]  # and about a step for the prompt
# print(f"estimated {sum(a * b for a, b in zip(held, stays)) / end:.0f}")
#
# pool, in_use = BlockPool(4096, 16), []
#
#
# def counted(plan):
#     seconds = 1 + plan.n_tokens / 64
#     in_use.append(seconds * pool.n_used)
#     return seconds
#
#
# scheduler = Scheduler(pool, max_batch_tokens=128, max_batch=16, reuse=False)
# served = [Sequence(range(r.prompt_tokens), r.max_new_tokens, pool) for r in trace]
# play(scheduler, [(r.arrival_s, s) for r, s in zip(trace, served)], counted)
# print(f"counted {sum(in_use) / end:.0f}")
# ```
#
# Both say 88. The blocks of each request are weighted with its own stay: long requests stay longer, so the server holds more than the mean blocks times the mean number of requests, which would be 75. And a pool must hold more than the average.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("continuous_batching")

# %% [markdown]
# Then in your own words:
#
# **A.** Suppose that all answers have the same length and all requests come at once. What does continuous batching gain?
#
# <details>
# <summary>Answer</summary>
#
# Of decoding, nothing: mean and longest are the same. It still pads no prompts. Where requests *arrive*, it gains most: nobody waits for a batch to fill or to end.
#
# </details>
#
# **B.** Suppose that a server shows a good median TPOT, and users complain that text stops for a second now and then. Where do you look, and what do you change?
#
# <details>
# <summary>Answer</summary>
#
# At the largest gaps between tokens rather than at their mean, and at what was in those steps: long prompts under a large budget, or a preemption. A smaller budget, or a larger pool.
#
# </details>
#
# **C.** Why may the scheduler preempt the one that came last, and never the oldest?
#
# <details>
# <summary>Answer</summary>
#
# The oldest must lose to nobody, or there is no bound: two long requests could take each other's blocks for ever. The last has, as a rule, the least computed, so the least is lost.
#
# </details>
#
# ## Not covered here
#
# Schedulers over several devices; prefill and decode on devices of their own ([Zhong et al. 2024](https://arxiv.org/abs/2401.09670)); priorities and limits per user; speculative decoding within a batch; how the CPU plans the next step while the GPU computes this one.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
