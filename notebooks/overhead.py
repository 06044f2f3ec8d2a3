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
#     stem: overhead
#     modules: [kernels, compiled]
#     objectives:
#       - Count the operations of a decode step, profile them, and say how much the profiler itself adds
#       - Measure the price of starting an operation, and tell from a model's width whether that price or its bytes decide
#       - Fuse operations by hand, and measure what that gives back
#       - Compile the decode step, count what remains of its operations, and compare tokens per second
#       - Name four cases in which compiling loses, each with a measurement
#       - Bound from the price of a launch what CUDA graphs can give for a published shape and device
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # Overhead: where the rest of the time goes
#
# One A100 writes 25.5 tokens a second with Llama 2 7B in plain PyTorch ([Team PyTorch 2023](https://pytorch.org/blog/accelerating-generative-ai-2/)). A rewritten program gets
# 104.9 from the same weights on the same card ([README](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md)). It computes the same numbers and reads the same bytes. **What did the
# first program do for three quarters of its time?**
#
# Write down a guess. In section 6 you compute how long each of its operations must have taken.
#
# **Afterwards you can**
#
# - count the operations of a decode step, profile them, and say how much the profiler itself adds;
# - measure the price of starting an operation, and tell from a model's width whether that price or its bytes decide;
# - fuse operations by hand, and measure what that gives back;
# - compile the decode step, count what remains of its operations, and compare tokens per second;
# - name four cases in which compiling loses, each with a measurement;
# - bound from the price of a launch what CUDA graphs can give for a published shape and device.
#
# **You need** the lessons on the model, on the KV cache, on the roofline (bound) and on the cost model. Compiling needs a C++ compiler, such as `g++`. No
# GPU, and no network once `teachkit` is installed. Allow an hour, and a quarter for the exercises.

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
import itertools
import os
import time
import types
from collections import Counter
from dataclasses import replace

# Silences messages that the profiler writes about itself; read when torch is loaded.
os.environ["KINETO_LOG_LEVEL"] = "6"
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import teachkit as tk
from teachkit import bench, cost, figures, hardware, kernels, layers, roofline, shapes

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. One step, operation by operation
#
# The bundled model has read 128 tokens and writes the next one. The least time for that is the step's bytes over the rate at which this machine
# reads. Caches may hold so small a model, so the rate is measured on as many bytes as it has.


# %%
model = tk.load("bundled")
config = model.config
PAST = 128
FP32 = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}


def filled_cache(model, batch=1):
    """A cache that holds PAST tokens of made-up keys and values: time does not depend on them"""
    cache = tk.cache.ContiguousCache(model.config, batch, PAST + 1, device=model.device)
    cache.plan([PAST] * batch)
    generator = torch.Generator().manual_seed(0)
    for stored in (cache.k, cache.v):
        stored.copy_(torch.randn(stored.shape, generator=generator))
    return cache


def step_of(model, batch=1, run=None):
    """A step of decode, as a function that leaves the cache as it was"""
    cache, tokens = filled_cache(model, batch), torch.full((batch, 1), 7)
    run = run or model

    def step():
        logits = run(tokens, cache=cache)
        for row in range(batch):
            cache.truncate(row, PAST)
        return logits

    return step


def median_s(calls, repeats=30):
    """Median seconds of each call, in turn, A B A B: a slow spell of the machine falls on all"""
    timings = tk.measure.time_calls(calls, warmup=3, repeats=repeats)
    return {name: timing.median_s for name, timing in timings.items()}


eager = step_of(model)
work = cost.decode_step(config, 1, PAST, **FP32)
rate = bench.read_bandwidth(model.weight_bytes()).value  # bytes per second
bound_s = work.bytes / rate
eager_s = median_s({"step": eager}, repeats=60)["step"]
print(f"bytes of a step {work.bytes:,.0f}")

# %% tags=["nbval-ignore-output", "hide-input"]
Markdown(f"""
Read at {rate / 1e9:.0f} GB/s, these bytes take {bound_s * 1e3:.2f} ms. The step takes **{eager_s * 1e3:.2f} ms**, {eager_s / bound_s:.1f} times as long.

{tk.measure.caption()}
""")

# %% [markdown]
# ### Count
#
# **Predict.** The model has 6 layers. How many operations does PyTorch run for one token: 50, 300 or 1,000? How many of them read a weight?
#
# Every operation passes PyTorch's dispatcher, and a *dispatch mode* sees it there. *Views*, such as a transpose, compute nothing and are left out. `Part` names what is running, for a second count below.


# %%
class Part:
    """`with Part("norms"):` gives what runs within a name, and adds up its time"""

    now, spent_s = "around", Counter()

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        Part.now, self.start = self.name, time.perf_counter()

    def __exit__(self, *error):
        Part.spent_s[self.name] += time.perf_counter() - self.start
        Part.now = "around"


class Operations(TorchDispatchMode):
    """Counts operations by name and by part, and those that read a weight of the model"""

    def __init__(self, model):
        super().__init__()
        self.weights = {p.data_ptr() for p in model.parameters()}
        self.names, self.parts, self.on_weights = Counter(), Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            read = {a.data_ptr() for a in args if isinstance(a, torch.Tensor)}
            self.names[func.overloadpacket.__name__] += 1
            self.parts[Part.now] += 1
            self.on_weights += bool(read & self.weights)
        return func(*args, **(kwargs or {}))


with Operations(model) as seen:
    eager()
operations = seen.names.total()
assert operations == bench.count_operations(eager)
print(f"operations               {operations}")
print(f"  with a weight          {seen.on_weights}")
print(f"  matrix products        {seen.names['mm']}")
print("most frequent           ", ", ".join(f"{n} {k}" for k, n in seen.names.most_common(5)))

# %% [markdown]
# **Explain.** Seven matrices in each of 6 layers and the head make 43 products (`mm`); the other weights are 13 norms and a row of the embedding. The rest works on a few hundred numbers of one token: square, scale, rotate, copy into the
# cache, add. (`_unsafe_view` only gives a product's result its shape. PyTorch does not call it a view, so it is counted.)
#
# ### Time
#
# PyTorch's profiler notes when each operation starts and ends. *Self* is its own time, without the operations that it calls.
#
# **Predict.** What share of the step do the 43 products take?

# %%
CPU, N_STEPS = [ProfilerActivity.CPU], 10


def profiled(step):
    """The profiler's record of N_STEPS steps, and the seconds of one of them"""
    step()
    with profile(activities=CPU) as record:
        start = time.perf_counter()
        for _ in range(N_STEPS):
            step()
        seconds = (time.perf_counter() - start) / N_STEPS
    return record, seconds


record, watched_s = profiled(eager)

# %% tags=["nbval-ignore-output", "hide-input"]
events = sorted(record.key_averages(), key=lambda e: -e.self_cpu_time_total)
n_events = sum(e.count for e in events) // N_STEPS
rows = "\n".join(
    f"| `{e.key}` | {e.count // N_STEPS} | {e.self_cpu_time_total / e.count:.1f} | {e.self_cpu_time_total / N_STEPS / 1e3:.2f} |"
    for e in events[:10]
)
slower = watched_s / eager_s - 1
Markdown(f"""
| operation | times | µs each | ms, self |
| --- | ---: | ---: | ---: |
{rows}

The profiler records views, allocations and calls within calls, too: {n_events:,} events a step. That costs time itself: under the profiler the step takes {watched_s * 1e3:.2f} ms, without it {eager_s * 1e3:.2f}, {slower:+.0%}. So the table says where to look; how long a step takes, a clock around the whole of it says.

{tk.measure.caption()}
""")

# %% [markdown]
# A name such as `mul` does not say what the multiplication is for. So we write the step out, with a stopwatch around each part; it must give the model's logits. A block's products come as functions, so that section 3 can put others in their place. `cache.plan` says where the
# new token stands, as in the lesson on the KV cache.


# %%
def separate(block):
    """A block's products as functions: x -> q, k, v and x -> gate, up"""
    a, mlp = block.attention, block.mlp
    return (
        lambda x: [F.linear(x, m.weight) for m in (a.q, a.k, a.v)],
        lambda x: [F.linear(x, m.weight) for m in (mlp.gate, mlp.up)],
    )


def block_by_hand(block, products, x, rope, keys, values, at):
    """One block for one token, which stands at position `at`"""
    qkv, gate_up = products
    with Part("norms"):
        h = block.attention_norm(x)
    with Part("products"):
        projected = qkv(h)
    with Part("rotary"):
        q, k, v = (t.view(1, 1, -1, config.head_dim).transpose(1, 2) for t in projected)
        q, k = layers.apply_rope(q, *rope), layers.apply_rope(k, *rope)
    with Part("cache writes"):
        keys[:, :, at : at + 1], values[:, :, at : at + 1] = k, v
    with Part("attention"):
        seen = keys[:, :, : at + 1], values[:, :, : at + 1]
        out = tk.attention.scaled_dot_product_attention(q, *seen, causal=True)
    with Part("products"):
        out = F.linear(out.transpose(1, 2).flatten(2), block.attention.o.weight)
    with Part("activation, residual"):
        x = x + out
    with Part("norms"):
        h = block.mlp_norm(x)
    with Part("products"):
        gate, up = gate_up(h)
    with Part("activation, residual"):
        h = F.silu(gate) * up
    with Part("products"):
        out = F.linear(h, block.mlp.down.weight)
    with Part("activation, residual"):
        return x + out


# %%
frequencies = layers.rope_frequencies(config.head_dim, config.rope_theta)


def by_hand(products):
    """A step like the model's, without the checks of its input; products of each block as given"""

    def run(tokens, *, cache):
        with Part("around"):
            at = int(cache.lengths[0])
            positions = cache.plan([1]).positions
            x = model.embedding(tokens)
            rope = layers.rope_angles(positions, frequencies, x.dtype)
        for i, block in enumerate(model.blocks):
            x = block_by_hand(block, products[i], x, rope, cache.k[i], cache.v[i], at)
        with Part("norms"):
            x = model.norm(x)
        with Part("products"):
            return F.linear(x, model.embedding.weight)

    return step_of(model, run=run)


hand = by_hand([separate(block) for block in model.blocks])
torch.testing.assert_close(hand(), eager(), rtol=1e-4, atol=1e-4)
with Operations(model) as counted:
    hand()
print("operations by hand", counted.parts.total())

# %%
Part.spent_s.clear()
for _ in range(60):
    hand()
part_ms = {name: s / 60 * 1e3 for name, s in Part.spent_s.most_common()}


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_parts():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 2.8))
    names = list(part_ms)[::-1]
    bars = ax.barh(names, [part_ms[n] for n in names])
    labels = [f"{counted.parts[n]} operations" for n in names]
    ax.bar_label(bars, labels=labels, padding=3, fontsize="small")
    ax.set(xlabel="ms of a step", xlim=(0, 1.3 * max(part_ms.values())))
    return fig


hand_ms = sum(part_ms.values())
product_share = part_ms["products"] / hand_ms
product_gap = part_ms["products"] / (bound_s * 1e3)
display(
    figures.static(
        draw_parts,
        alt="Milliseconds of one decode step by part: "
        + ", ".join(f"{name} {ms:.2f}" for name, ms in part_ms.items()),
    )
)
Markdown(f"""
**Explain.** The products, which read nearly all bytes, take {product_share:.0%} of the {hand_ms:.2f} ms, {product_gap:.1f} times the bound on the whole step. Two questions follow: what {1 - product_share:.0%} of the time is spent on, where there is next to nothing to read or to compute (sections 2 and 3), and why products take longer than their bytes (section 4).

{tk.measure.caption()}
""")

# %% [markdown]
# ## 2. What an operation costs
#
# **Predict.** `torch.add` adds two tensors of $n$ numbers into a third. From $n = 1$ to $n = 1{,}000$, by what factor does its time grow?

# %%
ADD_SIZES = [10**e for e in range(7)]


def fastest_s(call, n=100):
    """Seconds of one call, the best of some runs of n"""
    timing = tk.measure.time_call(lambda: [call() for _ in range(n)], repeats=12, budget_s=0.4)
    return min(timing.times_s) / n


def add(n):
    a, out = torch.ones(n), torch.empty(n)
    return lambda: torch.add(a, a, out=out)


add_s = {n: fastest_s(add(n), 200 if n < 10**5 else 10) for n in ADD_SIZES}
start_s = min(add_s.values())  # next to no numbers: the price of starting


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_add():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.2))
    ax.loglog(ADD_SIZES, [add_s[n] * 1e6 for n in ADD_SIZES], marker="o")
    ax.axhline(start_s * 1e6, linestyle="--", color=figures.colours()["second"])
    ax.set(xlabel="numbers added", ylabel="µs")
    return fig


display(
    figures.static(
        draw_add,
        alt=f"Time of an addition over its size, both logarithmic: {add_s[1] * 1e6:.1f} µs for one number, "
        f"{add_s[1000] * 1e6:.1f} µs for 1,000, {add_s[10**6] * 1e6:.0f} µs for a million.",
    )
)
Markdown(f"""
1,000 numbers take {add_s[1000] / add_s[1]:.1f} times as long as one. The flat part, {start_s * 1e6:.2f} µs, is *overhead*: the call from Python, the checks of shapes, the search for the kernel of this dtype and device. The residual stream of our model has {config.d_model} numbers.

At this price {operations} operations start in {operations * start_s * 1e3:.2f} ms. But an addition is about the cheapest there is, and a model reaches it through modules and views.

{tk.measure.caption()}
""")

# %% [markdown]
# So we measure whole steps. Six decoders have the layers and heads of the bundled one, random weights, and widths from 32 to 1,024: the same code, equally many operations, and from hardly any bytes to many. The rate is now that beyond the caches.
#
# **Predict.** The widest reads some three hundred times the bytes of the narrowest. How many times as long does its step take?

# %%
WIDTHS = (32, 64, 128, 256, 512, 1024)
decoders = {}
for width in WIDTHS:
    other = replace(config, d_model=width, head_dim=width // 4, d_ff=width * 11 // 4)
    decoders[width] = tk.Decoder(other).eval()
narrow = decoders[32]
assert decoders[256].config == config

n_bytes = {w: cost.decode_step(d.config, 1, PAST, **FP32).bytes for w, d in decoders.items()}
counts = {bench.count_operations(step_of(d)) for d in decoders.values()}
print("operations of a step", counts)
print("bytes, widest / narrowest", round(n_bytes[1024] / n_bytes[32]))

width_s = median_s({w: step_of(d) for w, d in decoders.items()}, repeats=12)
far_rate = bench.read_bandwidth(bench.READ_BYTES).value  # beyond the caches
floor_s = width_s[32]
del decoders[512], decoders[1024]


# %% tags=["nbval-ignore-output", "hide-input"]
def predicted_s(w):
    """The narrow decoder's step, and the bytes that this one has more"""
    return floor_s + (n_bytes[w] - n_bytes[32]) / far_rate


def draw_widths():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.4))
    mb = [n_bytes[w] / 1e6 for w in WIDTHS]
    ax.loglog(mb, [width_s[w] * 1e3 for w in WIDTHS], marker="o", label="measured")
    ax.loglog(mb, [predicted_s(w) * 1e3 for w in WIDTHS], "--", label="narrow step + bytes")
    ax.loglog(mb, [m * 1e9 / far_rate for m in mb], ":", label="bytes alone (bound)")
    ax.set(xlabel="MB read by a step", ylabel="ms")
    ax.legend()
    return fig


grown = width_s[1024] / width_s[32]
display(
    figures.static(
        draw_widths,
        alt="Time of a decode step over the bytes it reads, both logarithmic: flat for narrow models, in "
        f"proportion to the bytes for wide ones. {width_s[32] * 1e3:.1f} ms at {n_bytes[32] / 1e6:.1f} MB, {width_s[1024] * 1e3:.0f} ms at {n_bytes[1024] / 1e6:.0f} MB.",
    )
)
Markdown(f"""
**Explain.** The narrow decoder's step is all overhead: {floor_s * 1e3:.2f} ms, **{floor_s / operations * 1e6:.1f} µs for each operation**, {floor_s / operations / start_s:.1f} times an addition's price, with the modules, views and checks around it.
From the narrowest to the widest, bytes grow {n_bytes[1024] / n_bytes[32]:.0f}-fold and time {grown:.0f}-fold. At width {config.d_model} overhead is up to {min(1, floor_s / width_s[256]):.0%} of the step; at {WIDTHS[-1]:,} up to {floor_s / width_s[1024]:.0%}, and starting fewer operations cannot give back more. What a wide decoder's step has above the dashed line is not overhead: its products read more slowly than this machine can.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 3. Fuse by hand
#
# A *fused* operation does the work of several: one start, and what lay between is not written and read again. Begin with the norm.
#
# **Predict.** PyTorch has `F.rms_norm`. Written by hand, RMSNorm is 6 operations. How many does `F.rms_norm` start on a CPU?


# %%
def norm_by_hand(x, weight, eps=config.norm_eps):
    mean_of_squares = x.pow(2).mean(-1, keepdim=True)
    return x * torch.rsqrt(mean_of_squares + eps) * weight


x = torch.randn(1, 1, config.d_model, generator=torch.Generator().manual_seed(1))
gain = model.norm.weight
norms = {
    "by hand": lambda: norm_by_hand(x, gain),
    "F.rms_norm": lambda: F.rms_norm(x, x.shape[-1:], gain, config.norm_eps),
}
torch.testing.assert_close(norms["F.rms_norm"](), norms["by hand"]())
for name, call in norms.items():
    print(f"{name:10} {bench.count_operations(call)} operations")

# %% [markdown]
# **Explain.** One name, and as many operations as before: on a CPU this PyTorch spells it out. On CUDA it has a kernel of its own. Whether something is fused, a count says, not its name.
#
# ### Products with the same input
#
# $q$, $k$ and $v$ come from one vector, and so do gate and up. Put their matrices on top of each other, once, when the model is loaded: then one product does for three, or two.
#
# **Predict.** The bytes are the same. How many products are saved in 6 blocks, and how much time, at the price of section 2?


# %%
def stacked(block):
    """As separate(), with two matrices in the place of five"""
    a, mlp = block.attention, block.mlp
    qkv = torch.cat([m.weight for m in (a.q, a.k, a.v)])
    gate_up = torch.cat([m.weight for m in (mlp.gate, mlp.up)])
    sizes = [len(m.weight) for m in (a.q, a.k, a.v)]
    return (
        lambda x: F.linear(x, qkv).split(sizes, -1),
        lambda x: F.linear(x, gate_up).chunk(2, -1),
    )


fused = by_hand([stacked(block) for block in model.blocks])
torch.testing.assert_close(fused(), eager(), rtol=1e-4, atol=1e-4)
n_hand, n_fused = (bench.count_operations(step) for step in (hand, fused))
print(f"operations of a step by hand: {n_hand} with five matrices, {n_fused} with two")
fusing_s = median_s({"five": hand, "two": fused}, repeats=60)

# %% tags=["nbval-ignore-output", "hide-input"]
fewer = n_hand - n_fused
Markdown(f"""
**Explain.** {fewer // 2} products fewer are {fewer} operations, for each brings its `_unsafe_view`. At the {floor_s / operations * 1e6:.1f} µs of section 2, an average, that saves {fewer * floor_s / operations * 1e3:.2f} ms. Measured: {fusing_s["five"] * 1e3:.2f} ms a step with five matrices, {fusing_s["two"] * 1e3:.2f} with two. Every byte is still read, and {n_fused} operations are still started, most of them elementwise. To fuse those, a kernel must be written for each group. A compiler does that.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 4. Have it compiled
#
# `torch.compile(f)` runs the Python of `f` once with placeholders for tensors, and so gets the list of its operations, a *graph*. It then groups operations that can share a loop, writes each group as C++, or as Triton for a GPU, and has that compiled ([Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)). Around the result stand *guards*, checks that the next call is of the kind that was compiled.
#
# ### A product with one row
#
# With one row, $W x$ is for every row of $W$ the sum of its numbers times those of $x$: an elementwise product, then a sum. Written so in PyTorch, these are two operations, with a matrix as large as $W$ in between.
#
# **Predict.** Order by time: the library's product; `(W * x).sum(-1)` as it stands; the same line compiled.

# %%
generator = torch.Generator().manual_seed(2)
W = torch.randn(49152, 576, generator=generator)  # the head of SmolLM2-135M; larger than caches
row = torch.randn(1, 576, generator=generator)


def sum_of_products(x, W):
    return (W * x).sum(-1)[None]


compiled_sum = torch.compile(sum_of_products)
own_kernel = torch.compile(kernels.product)
ways = {
    "library product": lambda: F.linear(row, W),
    "W * x, then a sum": lambda: sum_of_products(row, W),
    "the same line, compiled": lambda: compiled_sum(row, W),
    "kernels.product, compiled": lambda: own_kernel(row, W),
}
exact = row.double() @ W.double().T
for name, way in ways.items():
    error = ((way() - exact).norm() / exact.norm()).item()
    print(f"{name:26} right: {error < 1e-6}")
print()
for rows, device, made in (
    (1, "cpu", True),
    (1, "cpu", False),
    (8, "cpu", True),
    (1, "cuda", True),
):
    kernel = kernels.choose(rows=rows, device=device, compiled=made)
    print(f"rows {rows}, {device:4}, compiled {made!s:5}  {kernel}")
ways["W read, nothing else"] = lambda: W.amax(1)
one_row_s = median_s(ways, repeats=8)

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {name} | {s * 1e3:.1f} | {W.nbytes / s / 1e9:.1f} |" for name, s in one_row_s.items()
)
unfused, own = (one_row_s[n] for n in ("W * x, then a sum", "kernels.product, compiled"))
Markdown(f"""
| W: {W.nbytes / 1e6:.0f} MB | ms | W's bytes, GB/s |
| --- | ---: | ---: |
{rows}

**Explain.** As it stands, the line writes a matrix and reads it again: {unfused / own:.1f} times as long as compiled. Compiled, it is one loop, which reads each row of W once, keeps its sum in registers and writes one number. `kernels.product` is the same with several running sums. The library's product is made for many rows: it copies blocks of W
into an order in which all can use them from a cache ([Goto and van de Geijn 2008](https://doi.org/10.1145/1356052.1356053)), and one row uses them once. In `teachkit`, `kernels.choose` decides: the sum for one row in compiled code on a CPU, the library's product otherwise.

{tk.measure.caption()}
""")

# %% [markdown]
# ### The whole step
#
# `tk.fast(model)` returns a decoder over the same weights. In its steps of one token each block is one call of a compiled function, and so is the head, for any length of the cache. All other steps run as before: prefill, several sequences, the first token of an empty cache.
#
# **Predict.** How many programs are compiled for 6 blocks and a head, and how many times does a step call them? How many times as fast can the step become at most, by the bound of section 1, and how many do you expect?

# %%
before = counters["stats"] + counters["inductor"]
start = time.perf_counter()
quick = tk.fast(model)
compile_s = time.perf_counter() - start
made = counters["stats"] + counters["inductor"] - before
n_found, n_made = made["fxgraph_cache_hit"], made["fxgraph_cache_miss"]
print("programs compiled", made["unique_graphs"])

for name, m in (("eager", model), ("fast", quick)):
    print(f"{name:6}", Counter(use.kernel for use in m.kernels()))
pairs = zip(model.parameters(), quick.parameters(), strict=True)
print("weights shared", all(a.data_ptr() == b.data_ptr() for a, b in pairs))

fast_step = step_of(quick)
torch.testing.assert_close(fast_step(), eager(), rtol=1e-3, atol=1e-3)
prompt = model.tokenizer.encode("def read_lines(path):\n    with open(path")
texts = {name: tk.generate(m, prompt, 40) for name, m in (("eager", model), ("fast", quick))}
print("same tokens   ", texts["eager"].tokens == texts["fast"].tokens)

# %%
fast_record, _ = profiled(fast_step)
COMPILED = "Torch-Compiled Region"  # so the profiler calls a compiled function


def per_step(record, name):
    """Events of a step whose name begins so"""
    return sum(e.name.startswith(name) for e in record.events()) // N_STEPS


for name, r in (("eager", record), ("fast", fast_record)):
    found = (per_step(r, event) for event in ("aten::mm", "aten::bmm", COMPILED))
    print("{:6} mm {:2}, in attention {:2}, compiled functions {}".format(name, *found))

# %%
fast_s = median_s({"eager": eager, "stacked by hand": fused, "fast": fast_step}, repeats=100)

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {name} | {s * 1e3:.2f} | {1 / s:,.0f} | {fast_s['eager'] / s:.1f} |"
    for name, s in (fast_s | {"bound": bound_s}).items()
)
regions = [e for e in fast_record.events() if e.name.startswith(COMPILED)]
compiled_s = sum(e.cpu_time_total for e in regions if e.cpu_parent is None) / N_STEPS / 1e6
Markdown(f"""
| step | ms | tokens/s | times eager |
| --- | ---: | ---: | ---: |
{rows}

**Explain.** Same weights, same tokens, {fast_s["eager"] / fast_s["fast"]:.1f} times the speed. The blocks are the same code on other weights, so one program serves them all. Of the fast step, about {compiled_s * 1e3:.2f} ms lie in compiled functions, whose bytes alone would take {bound_s * 1e3:.2f}; the rest is around them: entering them, the plan of the step, checks of its input.

{tk.measure.caption()}
""")

# %% [markdown]
# The bytes stay; the other chapters of Part III make them fewer. The fewer they are, the more overhead counts: a model in 4 bits has about an eighth of fp32's bytes and no fewer operations. For int8 and int4 weights `tk.fast` therefore compiles up to six blocks as one function, around a kernel of its own in C++.
#
# ## 5. Where it loses
#
# ### Too small a function
#
# **Predict.** RMSNorm by hand is 6 operations, each about as dear as an addition. Compiled it is one loop. Is it faster? And a single addition?


# %%
def twice(x):
    return x + x


compiled_norm, compiled_twice = torch.compile(norm_by_hand), torch.compile(twice)
torch.testing.assert_close(compiled_norm(x, gain), norm_by_hand(x, gain))
small_s = {
    "x + x": (fastest_s(lambda: twice(x)), fastest_s(lambda: compiled_twice(x))),
    "RMSNorm": (
        fastest_s(lambda: norm_by_hand(x, gain)),
        fastest_s(lambda: compiled_norm(x, gain)),
    ),
}

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {name} | {plain * 1e6:.1f} | {made * 1e6:.1f} |"
    for name, (plain, made) in small_s.items()
)
enter_s = small_s["x + x"][1]
plain, made = small_s["RMSNorm"]
gains = "loses" if made > plain else "gains"
Markdown(f"""
| {config.d_model} numbers | as it stands, µs | compiled, µs |
| --- | ---: | ---: |
{rows}

**Explain.** Entering a compiled function costs about {enter_s * 1e6:.0f} µs, as much as {enter_s / start_s:.0f} additions: Python looks the function up, and its guards check what it is given. Compiling the norm alone {gains} {abs(plain - made) * 1e6:.1f} µs. So `tk.fast` makes one
function of a whole block, and leaves out the guards on the model, which it knows will not change.

{tk.measure.caption()}
""")

# %% [markdown]
# ### Shapes that change
#
# Where what was compiled does not fit a new shape, a guard fails, and the function is compiled again. To count that, we give `torch.compile` a compiler of our own, which counts and changes nothing.
#
# **Predict.** A function is called with 5, 6, 7, 8 and 9 keys, as in a cache that grows. How often is it compiled if shapes are taken as fixed? If they are taken as variable from the start? And as PyTorch does by default?


# %%
copies = itertools.count()


def times_compiled(function, inputs, dynamic):
    """How often torch.compile compiles the function for these calls, each a tuple of arguments"""
    graphs = []

    def count(graph, example):
        graphs.append(graph)
        return graph.forward

    # PyTorch remembers variants and sizes by a function's code: each count takes a new copy.
    code = function.__code__.replace(co_name=f"copy_{next(copies)}")
    call = torch.compile(types.FunctionType(code, globals()), dynamic=dynamic, backend=count)
    for args in inputs:
        torch.testing.assert_close(call(*args), function(*args))
    return len(graphs)


def read_keys(q, keys):
    return (q @ keys.T).softmax(-1)


query = torch.ones(1, 8)
growing = [(query, torch.ones(n, 8)) for n in range(5, 10)]
for dynamic, name in ((False, "fixed"), (True, "variable"), (None, "default")):
    print(f"{name:9} compiled {times_compiled(read_keys, growing, dynamic)} times")


# %% [markdown]
# **Explain.** By default the first shape is taken as fixed; when a size changes, the function is compiled once more with that size as a variable. Not everything can vary: a number that decides a branch, a dtype, the number of dimensions each make a new variant. After eight, PyTorch gives up and runs the function
# as it was, with a line in a log ([torch.compile](https://docs.pytorch.org/docs/2.13/generated/torch.compile.html)): a server is then as slow as before, and no result says so. While `tk.fast` compiles, PyTorch raises instead.

# %% [markdown]
# ### A call that is not repeated
#
# **Predict.** From how many tokens on has `tk.fast` paid for itself, on your machine?

# %% tags=["nbval-ignore-output", "hide-input"]
on_disk = f"{n_found} of {n_found + n_made} found on disk" if n_found else "compiled anew"
gain_s = fast_s["eager"] - fast_s["fast"]
pays = (
    f"{compile_s / gain_s:,.0f} tokens must be written before it has paid for itself, about {compile_s / gain_s / 500:,.0f} answers of 500 tokens."
    if gain_s > 0
    else "in this run it gains nothing, so it never pays for itself."
)
Markdown(f"""
In this run `tk.fast` took {compile_s:.1f} s ({on_disk}; PyTorch keeps there what it has compiled, and finding it takes a fraction of the time). It saves {gain_s * 1e3:.2f} ms a token: {pays} A server earns that back. A script that asks one question does not.

{tk.measure.caption()}
""")

# %% [markdown]
# ### Many rows
#
# With more rows a product has more to do, and an operation costs no more to start. The narrow decoder of section 2 runs the same operations with next to no arithmetic: its time over the bundled model's is at most the share of overhead.
#
# **Predict.** With 128 sequences instead of one, what is left of that share?

# %%
BATCHES = (1, 8, 32, 128)
batch_s = median_s(
    {(B, n): step_of(m, B) for B in BATCHES for n, m in (("ours", model), ("narrow", narrow))},
    repeats=6,
)

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {B} | {batch_s[B, 'ours'] * 1e3:.1f} | {batch_s[B, 'narrow'] * 1e3:.1f} | {batch_s[B, 'narrow'] / batch_s[B, 'ours']:.0%} |"
    for B in BATCHES
)
Markdown(f"""
| sequences | ours, ms | narrow, ms | overhead, at most |
| ---: | ---: | ---: | ---: |
{rows}

**Explain.** The narrow decoder's attention grows with the batch, too, and is counted as overhead here, hence *at most*. The compiled sum, moreover, would read the weights once for each row. So `tk.fast` leaves steps with many rows, and prefill, to the library's product.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 6. CUDA graphs
#
# On a GPU the CPU *launches* a kernel and goes on to the next launch while the GPU works. Where kernels take longer than launches, launches are hidden; where they are shorter, the GPU waits. A step takes at least the longer of the two:
#
# $$t \ge \max\left(\frac{\text{bytes}}{\text{bytes/s}},\ \text{operations} \cdot \text{launch}\right)$$
#
# A *CUDA graph* is a recording. The step runs once in capture mode, in which launches are noted and not executed; from then on one call replays them all. This has conditions ([NVIDIA](https://docs.nvidia.com/dl-cuda-graph/cuda-graph-basics/constraints.html)):
#
# - **Fixed addresses and shapes.** A replay reads and writes the memory of the recording: the next token is copied into its input. What Python computed, such as the place of the new token in the cache, stays as it was. So positions must live in tensors, and each batch size needs its own recording.
# - **Fixed course.** No branch on a computed value, and nothing that waits for the GPU, such as `.item()`.
# - **Memory and time.** A recording holds on to its intermediate tensors, and is made before the first request.
#
# A graph removes the gaps between kernels and fuses none of them. So one compiles and records, as `torch.compile(mode="reduce-overhead")` does.
#
# Where there is a GPU, the next cell records a step of our model at one length. It goes around the model's check of token ids, which would wait for the GPU.


# %% tags=["nbval-ignore-output"]
def record_step(model):
    """A step on a GPU: as a function, as a replay of its recording, and the memory of its logits"""
    cache, tokens = filled_cache(model), torch.full((1, 1), 7, device="cuda")
    plan = cache.plan([1])

    def run():
        return model.project(model.norm(model.hidden(tokens, plan)))

    side = torch.cuda.Stream()  # capture needs a stream of its own, and a warm one
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run()
    return run, graph.replay, logits


if torch.cuda.is_available():
    run, replay, logits = record_step(tk.load("bundled", device="cuda"))
    replay()
    torch.testing.assert_close(logits, run())
    gpu = tk.measure.time_calls({"eager": run, "graph": replay}, device="cuda", repeats=100)
    for name, timing in gpu.items():
        print(f"{name:6} {timing.median_s * 1e3:.3f} ms")
    print(tk.measure.caption("cuda")[1:-1])
else:
    print("no GPU here: not measured")

# %% [markdown]
# Without a GPU there is still arithmetic. A step of Llama 2 7B is the same code with 32 layers, and its operations can be counted at any width. (On a GPU they are not quite as many: the norm has a kernel of its own.)
#
# **Predict.** Suppose that a launch takes 5 µs. With 32 layers in place of 6, does an H100 wait for its memory or for launches? And an A100?

# %%
llama = shapes.shape("llama-2-7b").config
tiny = replace(
    config,
    n_layers=llama.n_layers,
    d_model=32,
    head_dim=8,
    d_ff=88,
    n_kv_heads=4,
    windows=llama.windows,
)
step = step_of(tk.Decoder(tiny).eval())
with Operations(model) as seven_b:
    step()
launches = seven_b.names.total() - seven_b.names["_unsafe_view"]
print(f"operations of a step: {launches:,}")
print("                bytes alone   launches alone, ms, at")
print("                         ms    2 µs    5 µs   10 µs   20 µs   hidden up to")
for name in ("a100-80gb", "h100"):
    device = hardware.device(name)
    least = roofline.time_bound(cost.decode_step(llama, 1, 100), device).seconds
    times = " ".join(f"{launches * us / 1e3:7.1f}" for us in (2, 5, 10, 20))
    print(f"{name:14} {least * 1e3:12.2f} {times} {least / launches * 1e6:11.1f} µs")

# %% tags=["hide-input"]
a100 = hardware.device("a100-80gb")
a100_s = roofline.time_bound(cost.decode_step(llama, 1, 100), a100).seconds
first_s, second_s = 1 / 25.5, 1 / 104.9  # the two programs of the opening
Markdown(f"""
**The answer.** The first program of the opening took {first_s * 1e3:.1f} ms for a token, {first_s / a100_s:.1f} times the bound; the second {second_s * 1e3:.1f} ms, {second_s / a100_s:.1f} times. Spread over as many operations as our code has, the first took {first_s / launches * 1e6:.0f} µs for each,
where an A100 hides {a100_s / launches * 1e6:.1f}. It waited for the CPU: its authors [saw that in a trace](https://pytorch.org/blog/accelerating-generative-ai-2/), and compiled and recorded the step over a cache of fixed size, and prefill apart from it. How many operations their program had we do not know: the µs are our estimate.
""")

# %% [markdown]
# The faster the memory, the harder it is to hide a launch. In [a study of four GPUs](https://arxiv.org/abs/2605.30571) with models of 7 to 8 billion parameters, graphs made decode 1.26 times as fast on an H100 and 1.03 times on an L4, whose memory is slower.

# %% [markdown]
# ## What real systems do
#
# - **They compile and record, within limits.** [vLLM](https://docs.vllm.ai/en/v0.11.1/design/debug_vllm_compile/) compiles with the number of tokens as a variable, and records CUDA graphs for [chosen batch sizes](https://docs.vllm.ai/en/latest/design/cuda_graphs/); `enforce_eager=True` turns both off.
# - **They do without Python.** [llama.cpp](https://github.com/ggml-org/llama.cpp) builds a list of operations in C++ and runs it with kernels of its own for each format of weights; on NVIDIA GPUs it replays [CUDA graphs](https://developer.nvidia.com/blog/optimizing-llama-cpp-ai-inference-with-cuda-graphs/).

# %% [markdown]
# ## Exercises
#
# **1. The other way round.** `step_of(model, batch)` takes a batch. Count the operations of a step with 1 and with 8 sequences. Why does overhead per *token* fall?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# one, eight = (bench.count_operations(step_of(model, batch)) for batch in (1, 8))
# print(one == eight)  # True
# ```
#
# Each operation is started once for all rows: per token, an eighth. Batching and fusing fight the same price.
#
# </details>
#
# **2. What must stay apart?** $q$, $k$ and $v$ were stacked into one product. Could the output matrix of attention join them, or the down matrix gate and up? And in a *parallel* block, whose attention and MLP read the same normalised vector, which matrices could be stacked?
#
# <details>
# <summary>Answer</summary>
#
# No: their input is computed from the results of the others. In a parallel block five matrices have the same input, and one product does for all.
#
# ```python
# a, mlp = model.blocks[0].attention, model.blocks[0].mlp
# parts = [m.weight for m in (a.q, a.k, a.v, mlp.gate, mlp.up)]
# at_once = F.linear(x, torch.cat(parts)).split([len(p) for p in parts], -1)
# print(all(torch.allclose(y, F.linear(x, p), atol=1e-4) for y, p in zip(at_once, parts)))  # True
# ```
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("overhead")

# %% [markdown]
# Then in your own words:
#
# **A.** Suppose a profile shows a decode step with 900 operations, and `mm` in 12 % of its time. Somebody proposes int4 weights. What do you expect?
#
# <details>
# <summary>Answer</summary>
#
# Little: int4 makes fewer bytes for the products, which are an eighth of the time. Most of the step goes into starting small operations, and unpacking adds more of them unless it is fused.
#
# </details>
#
# **B.** Suppose a step takes 9 ms and 1,000 launches on one GPU, and 9 ms again on another that reads twice as fast. What does it wait for, and what helps?
#
# <details>
# <summary>Answer</summary>
#
# For launches: $9\,\text{ms} / 1000 = 9\,\text{µs}$ each. A CUDA graph, fewer operations, or more sequences per step help.
#
# </details>
#
# **C.** Your server compiled its step for batches of 1 to 8 and slows down when a ninth person joins. What may have happened?
#
# <details>
# <summary>Answer</summary>
#
# If shapes were fixed: eight variants were compiled, the ninth passed the limit, and the function runs uncompiled. Take the batch as a variable, or pad it to one of a few sizes.
#
# </details>
#
# ## Not covered here
#
# How a fused attention kernel is written ([FlashAttention](https://arxiv.org/abs/2205.14135)); Triton; overlap of transfers and kernels on a GPU; the CPU's part in a server: scheduling, tokenizing, sending the text.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
