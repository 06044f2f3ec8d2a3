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
#     stem: roofline
#     modules: [roofline, bench, hardware]
#     objectives:
#       - Count the FLOPs and bytes of a matrix product, and compute its intensity for any batch
#       - Measure the bandwidth, the FLOP/s and the price of an operation of the machine in front of you
#       - Bound the time of a product from these, sweep the batch across the ridge, and test what a residual is due to
#       - Bound tokens per second of a decoder over the batch, and measure what the bound leaves out
#       - Place prefill, decode and attention under a device's roofs, and compute its critical batch for any number format
#       - Check published claims on intensity, ridge and batch, and find where a factor of 2 went wrong
#     minutes: 60
#     lab: roofline
# ---

# %% [markdown]
# # The roofline: what a step waits for
#
# An A100 with 80 GB of memory does 312 TFLOP/s in 16 bits ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)). A token of
# Llama 2 7B takes two FLOPs for each of nearly 7 billion parameters, so that would make
# $312 \cdot 10^{12} / (2 \cdot 7 \cdot 10^9) \approx 22{,}000$ tokens a second. **Why does it write 104.9 for one user
# ([gpt-fast](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md), on a card limited to 330 W)?**
#
# Write down what you think it does the rest of the time. By the end you can compute the most that it could give, and what share of that 104.9 is.
#
# **Afterwards you can**
#
# - count the FLOPs and bytes of a matrix product, and compute its intensity for any batch;
# - measure the bandwidth, the FLOP/s and the price of an operation of the machine in front of you;
# - bound the time of a product from these, sweep the batch across the ridge, and test what a residual is due to;
# - bound tokens per second of a decoder over the batch, and measure what the bound leaves out;
# - place prefill, decode and attention under a device's roofs, and compute its critical batch for any number format;
# - check published claims on intensity, ridge and batch, and find where a factor of 2 went wrong.
#
# **You need** the lessons on attention, on the model (two FLOPs per parameter of a matrix), on generation (prefill and decode) and on
# the KV cache. No GPU, and no network once `teachkit` is installed. Allow an hour, and half as much for the exercises.

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
import time
from dataclasses import replace

import torch
from IPython.display import Markdown, display
from torch.utils.flop_counter import FlopCounterMode

import teachkit as tk
from teachkit import bench, cost, figures, hardware, kernels, memory, roofline, shapes

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# From `teachkit`: `shapes` and `hardware` hold published models and devices, `cost` counts the FLOPs and bytes of a step, `bench` measures this
# machine, `roofline` turns counts into times.
#
# ## 1. FLOPs for every byte
#
# A decoder's step is mostly matrix products: $B$ *rows*, one for each new token, go through a weight matrix. Take the last matrix of
# Llama 2 7B, the head: it turns 4,096 numbers into 32,000 logits.
#
# **Predict.** With 16-bit numbers and a single row: how many FLOPs does the product do for each byte that it has to move? And with 16 rows?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Each weight is multiplied once and added once for each row, two FLOPs, and is 2 bytes long. So one row makes one FLOP per byte, 16 rows nearly 16:
# the rows that go in and come out are bytes, too.
#
# </details>
#
# FLOPs divided by bytes moved is called the *arithmetic intensity* of a computation.


# %%
def product(B, n_in, n_out, bits):
    """FLOPs and bytes of (B, n_in) @ (n_in, n_out)

    Weights are read once, rows are read, results are written.
    """
    flops = 2 * B * n_in * n_out
    numbers = n_in * n_out + B * (n_in + n_out)
    return flops, numbers * bits // 8


llama = shapes.shape("llama-2-7b").config
print("    B      GFLOP       MB   FLOPs per byte")
for B in (1, 16, 256, 4096):
    flops, n_bytes = product(B, 4096, 32000, 16)
    print(f"{B:5} {flops / 1e9:10.2f} {n_bytes / 1e6:8.1f} {flops / n_bytes:12.1f}")
    head = cost.decode_step(llama, batch=B, context=1)["head"]
    assert (flops, n_bytes) == (head.flops, head.bytes)

# %% [markdown]
# Check against PyTorch's own counter and the tensors that take part:

# %%
x, weight = torch.zeros(3, 500), torch.zeros(700, 500)
with FlopCounterMode(display=False) as counter:
    result = x @ weight.T
n_bytes = sum(t.nbytes for t in (x, weight, result))
print("counted   ", (counter.get_total_flops(), n_bytes))
print("by formula", product(3, 500, 700, 32))

# %% [markdown]
# **Explain.** One more row adds $2 \cdot n_\text{in} \cdot n_\text{out}$ FLOPs and hardly any bytes, so the intensity is nearly $B$, until, as at 4,096, the rows themselves are a large
# part of the bytes.

# %% [markdown]
# ## 2. Three numbers of your machine
#
# To turn counts into seconds we need to know how fast this machine fetches bytes, how fast it multiplies, and what it costs to start an operation at all.


# %%
def fastest_s(call, repeats=7):
    """Seconds of the fastest run, the one that was disturbed least"""
    timing = tk.measure.time_call(call, repeats=repeats, budget_s=1)
    return min(timing.times_s)


def read_rate(n_bytes):
    """Bytes per second, by the faster of two programs that mostly read"""
    x = torch.ones(n_bytes // 4).view(-1, 1024)
    n = max(1, 2**23 // n_bytes)  # one short read would time the clock
    programs = x.sum, lambda: x.amax(1)
    times = [fastest_s(lambda p=p: [p() for _ in range(n)]) for p in programs]
    return n * n_bytes / min(times)


def multiply_rate(dtype, size=1536):
    """FLOPs per second of a product of two square matrices"""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest_s(lambda: a @ b)


def operation_s(n=1000):
    """Seconds per operation that has next to nothing to do"""
    x = torch.ones(16)
    return fastest_s(lambda: [x + x for _ in range(n)]) / n


# %% [markdown]
# **Predict.** You read the same tensor again and again, and take a larger one each time. Does the rate in bytes per second rise, stay, or fall?

# %%
read_sizes = [2**n for n in range(14, 30)]
read_rates = [read_rate(n) for n in read_sizes]


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_rates():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.4))
    ax.semilogx(read_sizes, [r / 1e9 for r in read_rates], marker="o", base=2)
    ticks = [2**n for n in (14, 17, 20, 23, 26, 29)]
    names = ["16 KiB", "128 KiB", "1 MiB", "8 MiB", "64 MiB", "512 MiB"]
    ax.set(xlabel="size of the tensor", xticks=ticks, xticklabels=names)
    ax.set(ylabel="GB/s read", ylim=(0, None))
    return fig


best, far = max(read_rates), read_rates[-1]
where = read_sizes[read_rates.index(best)]
pairs = zip(read_sizes, read_rates, strict=True)
drop = next((n for n, r in pairs if n > where and r < (best * far) ** 0.5), read_sizes[-1])
falls = (
    f"Near {drop / 2**20:.3g} MiB it has fallen halfway, on a log scale, to the {far / 1e9:.0f} GB/s of the largest tensor: "
    "large tensors do not stay in the cache that held smaller ones."
    if best > 1.5 * far
    else f"For the largest tensor it is hardly lower, {far / 1e9:.0f} GB/s: either a cache holds all of these, or it is not much faster than memory."
)
display(
    figures.static(
        draw_rates,
        alt=f"Read rate over the size of the tensor: at most {best / 1e9:.0f} GB/s, {far / 1e9:.0f} GB/s for the largest.",
    )
)
Markdown(f"""
**Explain.** The rate is highest at {where / 2**20:.3g} MiB, {best / 1e9:.0f} GB/s; shorter reads pay mostly for the call. {falls}

{tk.measure.caption()}
""")

# %% [markdown]
# A model's weights are larger than a processor's caches, and are read once per step. So the rate that counts is the one *beyond* the caches, the curve's last point. The next cell measures the other two numbers, and all
# three once more with `bench.this_machine()`. bf16 is left out where it is less than half as fast as fp32, as on a processor without instructions for it.

# %%
machine = bench.this_machine(formats=("fp32", "bf16"))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
fp32_rate = machine.flops["fp32"]
kept = [n for n in DTYPES if machine.flops.get(n, 0) > fp32_rate / 2]

read = read_rates[-1], machine.bytes_per_s
multiply = {n: (multiply_rate(DTYPES[n]), machine.flops[n]) for n in kept}
start = operation_s(), machine.overhead_s

machine = replace(
    machine,
    bytes_per_s=max(read),
    flops={name: max(pair) for name, pair in multiply.items()},
    overhead_s=min(start),
)

# %% tags=["nbval-ignore-output", "hide-input"]
pairs = {"read, GB/s": [rate / 1e9 for rate in read]}
pairs |= {f"multiply {n}, GFLOP/s": [r / 1e9 for r in pair] for n, pair in multiply.items()}
pairs["start an operation, µs"] = [s * 1e6 for s in start]
rows = "\n".join(f"| {name} | {a:.3g} | {b:.3g} |" for name, (a, b) in pairs.items())
apart = max(max(pair) / min(pair) for pair in pairs.values())
ridge32 = machine.flops["fp32"] / machine.bytes_per_s
Markdown(f"""
| this machine | the code above | `bench.this_machine()` |
| --- | ---: | ---: |
{rows}

Two measurements of one quantity differ here by a factor of up to {apart:.3g}. We use the better of each pair: a limit is what the machine has reached at best.

In the time that one byte takes from memory, this machine does **{ridge32:.1f} FLOPs** in fp32.

{tk.measure.caption(dtype=" and ".join(kept))}
""")

# %% [markdown]
# ## 3. Find the ridge
#
# A product can fetch the next weights while it multiplies with the last ones. If the two overlap perfectly, it takes as long as the slower of them:
#
# $$t = \max\left(\frac{\text{bytes}}{\text{bytes/s}},\ \frac{\text{FLOPs}}{\text{FLOP/s}}\right)$$
#
# This is the *roofline model* ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)). Nothing can be faster, if the two rates are true limits; ours are measured, so a time a few per cent below the bound can occur.
# What a measured time has above the bound is its *residual*. The two sides are equal where the intensity is
#
# $$\text{ridge} = \frac{\text{FLOP/s}}{\text{bytes/s}}\quad\text{FLOPs per byte}$$
#
# the bold number of section 2. Below the ridge a computation waits for memory, above it for arithmetic.
#
# **Predict.** One matrix of Llama 3 8B's MLP has 4096 × 14336 numbers. In fp32, with 4 rows instead of 1, how many times as long does the product take on your machine? And with 256 rows?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# In fp32 a row makes half a FLOP per byte, since two FLOPs meet 4 bytes. Below the ridge another row takes hardly more time; beyond, time grows with $B$. Suppose a
# ridge of 3: the corner is at $2 \cdot 3 = 6$ rows, so 4 rows take as long as 1, and 256 rows take about $256 / 6 = 43$ times as long.
#
# </details>


# %%
def bound_s(flops, n_bytes, device, number_format):
    """Seconds at least: the slower of fetching and multiplying"""
    peak = device.peak(number_format)
    return max(n_bytes / device.bytes_per_s, flops / peak)


# A machine of round numbers, with its ridge at 6, and Llama 2 7B's head
FP32 = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}
made_up = bench.Machine("made up", 100e9, {"fp32": 600e9}, 0.0, ())
print("    B   at least, ms   waits for")
for B in (1, 12, 16, 256):
    step = cost.decode_step(llama, batch=B, context=1, **FP32)
    head = roofline.time_bound(step, made_up.device())["head"]
    work = product(B, 4096, 32000, 32)
    assert head.seconds == bound_s(*work, made_up.device(), "fp32")
    print(f"{B:5} {head.seconds * 1e3:14.2f}   {head.side}")

# %% [markdown]
# Now measure.

# %% tags=["nbval-ignore-output"]
N_IN, N_OUT = 4096, 14336
BATCHES = (1, 2, 4, 8, 16, 32, 64, 256)


def counts(B, name):
    return product(B, N_IN, N_OUT, DTYPES[name].itemsize * 8)


def product_times(dtype):
    """Seconds of x @ W.T for every batch, timed in turn"""
    W = torch.randn(N_OUT, N_IN).to(dtype)
    inputs = {B: torch.randn(B, N_IN).to(dtype) for B in BATCHES}
    calls = {B: lambda x=x: x @ W.T for B, x in inputs.items()}
    timings = tk.measure.time_calls(calls, warmup=1, repeats=4)
    return {B: min(timing.times_s) for B, timing in timings.items()}


sweep = {name: product_times(DTYPES[name]) for name in kept}


# %% tags=["nbval-ignore-output", "hide-input"]
def least_s(B, name):
    return bound_s(*counts(B, name), machine.device(), name)


LOOKS = (("accent", "-", "o"), ("second", "--", "s"))


def draw_sweep():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for name, (key, line, mark) in zip(sweep, LOOKS, strict=False):
        colour = figures.colours()[key]
        times = [sweep[name][B] * 1e3 for B in BATCHES]
        ax.loglog(BATCHES, times, mark, color=colour, label=f"{name}, measured")
        grid = range(1, 257)
        bound = [least_s(B, name) * 1e3 for B in grid]
        ax.loglog(grid, bound, line, color=colour, label=f"{name}, bound")
    ax.set(xlabel="B (rows)", ylabel="ms", xticks=BATCHES, xticklabels=BATCHES)
    ax.minorticks_off()
    ax.legend()
    return fig


def half_way(seconds, rows):
    """The first number of rows with half of the FLOP/s of 256 rows"""
    return next(B for B in rows if B / seconds(B) >= 128 / seconds(256))


first = sweep["fp32"]
corner = 2 * ridge32
half_bound = half_way(lambda B: least_s(B, "fp32"), range(1, 257))
half = half_way(first.get, BATCHES)
bound4, bound256 = (least_s(B, "fp32") / least_s(1, "fp32") for B in (4, 256))
display(
    figures.static(
        draw_sweep,
        alt=f"Time of the product over the number of rows, measured and bound. fp32: {first[1] * 1e3:.1f} ms for one row, "
        f"{first[16] * 1e3:.1f} ms for 16, {first[256] * 1e3:.0f} ms for 256.",
    )
)
Markdown(f"""
In fp32 the bound says that 4 rows take {bound4:.1f} times as long as 1, and 256 rows {bound256:.0f} times; measured are **{first[4] / first[1]:.1f}** and **{first[256] / first[1]:.0f}**.

The bound's corner lies at {corner:.0f} rows, twice the ridge of {ridge32:.1f}. The bound passes half of the FLOP/s of 256 rows at $B = {half_bound}$; of the products measured, the one with **$B = {half}$** is the first to do so.

{tk.measure.caption(dtype=" and ".join(sweep))}
""")

# %% [markdown]
# ### The residual
#
# Williams draws such points as FLOP/s over intensity, both logarithmic. A product that waits for memory does at most intensity times bandwidth, a slope. None does more than the peak, a flat roof. They meet at the ridge. How far below its roof does each
# point lie?


# %%
def reached(name, B):
    """Shares of bandwidth and of FLOP/s that the measured product reached"""
    flops, n_bytes = counts(B, name)
    seconds = sweep[name][B]
    bandwidth = n_bytes / seconds / machine.bytes_per_s
    return bandwidth, flops / seconds / machine.flops[name]


# %% tags=["nbval-ignore-output", "hide-input"]
def under_the_roofs():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for name, (key, line, mark) in zip(sweep, LOOKS, strict=False):
        colour, peak = figures.colours()[key], machine.flops[name]
        corners = [0.2, peak / machine.bytes_per_s, 1000]
        roof = [min(i * machine.bytes_per_s, peak) / 1e9 for i in corners]
        ax.loglog(corners, roof, line, color=colour, label=f"roofs, {name}")
        points = [(counts(B, name), sweep[name][B]) for B in BATCHES]
        ax.plot(
            [flops / n_bytes for (flops, n_bytes), _ in points],
            [flops / seconds / 1e9 for (flops, _), seconds in points],
            mark,
            color=colour,
            label=f"products, {name}",
        )
    ax.set(xlabel="FLOPs per byte", ylabel="GFLOP/s")
    ax.legend()
    return fig


shares = {(name, B): reached(name, B) for name in kept for B in (1, 4, 16, 256)}
rows = "\n".join(
    f"| {name} | {B} | {sweep[name][B] * 1e3:.1f} | {least_s(B, name) * 1e3:.1f} | {a:.0%} | {b:.0%} |"
    for (name, B), (a, b) in shares.items()
)
display(
    figures.static(
        under_the_roofs,
        alt="The products measured above: FLOP/s over FLOPs per byte, under the slope of the bandwidth "
        "and the roof of the arithmetic.",
    )
)
Markdown(f"""
| format | rows | measured, ms | bound, ms | of the bandwidth | of the FLOP/s |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}

Where a share is near 100%, the product has reached a limit (far above it, section 2 measured the limit too low: run again). Where neither is, the bound alone does not say what the product waits for.
""")

# %% [markdown]
# ### A control: the same arithmetic, other bytes
#
# Does a product wait for memory? Multiply by 56 matrices of 1024 × 1024 numbers, one after another; $56 \cdot 1024^2 = 4096 \cdot 14336$, as many numbers as before. In one run they are 56 different matrices. In the other it is
# the same one each time, which then lies in a cache. FLOPs, calls and shapes are equal; only where the bytes come from differs. Each run is timed as two, to see how far equal runs lie apart.
#
# **Predict.** With which number of rows do the two runs differ more: with 1, or with 64?

# %% tags=["nbval-ignore-output"]
matrices = torch.randn(56, 1024, 1024)


def four_runs(B):
    x = torch.randn(B, 1024)
    programs = {
        "different": lambda: [x @ W.T for W in matrices],
        "same": lambda: [x @ matrices[0].T for _ in matrices],
    }
    calls = {(name, n): call for n in (1, 2) for name, call in programs.items()}
    timings = tk.measure.time_calls(calls, warmup=1, repeats=4)
    return {key: min(timing.times_s) for key, timing in timings.items()}


control = {B: four_runs(B) for B in (1, 4, 16, 64)}

# %% tags=["nbval-ignore-output", "hide-input"]
different = {B: [runs["different", n] for n in (1, 2)] for B, runs in control.items()}
same = {B: [runs["same", n] for n in (1, 2)] for B, runs in control.items()}
more = {B: min(different[B]) / min(same[B]) for B in control}
spread = {B: max(max(runs[B]) / min(runs[B]) for runs in (different, same)) for B in control}
rows = "\n".join(
    f"| {B} | {' and '.join(f'{s * 1e3:.2f}' for s in different[B])} | {' and '.join(f'{s * 1e3:.2f}' for s in same[B])} "
    f"| {more[B]:.2f} | {spread[B]:.2f} |"
    for B in control
)
waits = ", ".join(str(B) for B in control if more[B] > 1.1 * spread[B])
fetching = f"at $B$ = {waits}" if waits else "nowhere (a cache may hold all 56)"
cached4 = 2 * 4 * matrices.numel() / min(same[4]) / machine.flops["fp32"]
Markdown(f"""
| rows | 56 different, ms | the same, ms | ratio of the faster | equal runs apart by |
| ---: | ---: | ---: | ---: | ---: |
{rows}

**Explain.** With weights from memory one row takes {more[1]:.1f} times as long as with weights from a cache, 64 rows {more[64]:.1f} times. Clearly beyond what equal runs differ by, fetching costs time {fetching}.

From a cache, 4 rows reach {cached4:.0%} of the FLOP/s. What they lack there is not memory's doing. It is the cache's, or that of the *kernel*, the program that does a product inside the library: it has work of its own, for example *packing*, copying blocks of the weights into the order in which it will
read them ([Goto and van de Geijn 2008](https://doi.org/10.1145/1356052.1356053)), and one row may have another kernel than several. The sweep's one matrix took 4 rows {first[4] / min(different[4]):.1f} times as long as the 56: as many weights, another shape. Losses with few rows move a measured corner to more rows.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 4. A decoder, batch by batch
#
# Take a published shape, SmolLM2-135M ([config.json](https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json)), in fp32 and with random
# weights: time does not depend on their values. `cost.decode_step` counts FLOPs and bytes of every part; `roofline.time_bound` takes the larger of the two times for each part, and adds the parts up. To that we add
# the price of starting each operation. Nothing is fitted: all rates are section 2's.
#
# **Predict.** 16 sequences instead of one: how many times as many tokens per second, in all?
#
# Two controls say what the prediction leaves out. One is the matrix products of the step with nothing around them. (`kernels.product`, as the model: with a few rows it computes $(W x^\top)^\top$, the same numbers in an order that this library does faster than the sweep's.) The other is a *narrow* decoder: as many layers and heads, an eighth of every width, so as many operations and hardly any bytes.

# %%
config = shapes.shape("smollm2-135m").config
narrow = replace(config, d_model=72, head_dim=8, d_ff=192, vocab_size=6144)
CONTEXT = 64
models = {"wide": tk.Decoder(config).eval(), "narrow": tk.Decoder(narrow).eval()}

print("                       wide        narrow")
numbers = [sum(p.numel() for p in m.parameters()) for m in models.values()]
print("parameters   ", *(f"{n:13,}" for n in numbers))
steps = [cost.decode_step(c, 1, CONTEXT, **FP32) for c in (config, narrow)]
print("MB of a step ", *(f"{step.bytes / 1e6:13.0f}" for step in steps))


# %%
def decode_step(model, batch):
    """A step of decode, as a function that leaves the cache as it was"""
    cache = tk.cache.ContiguousCache(model.config, batch, CONTEXT)
    cache.plan([CONTEXT - 1] * batch)  # a past of zeros is as slow as any
    tokens = torch.zeros(batch, 1, dtype=torch.int64)

    def step():
        model(tokens, cache=cache)
        for row in range(batch):
            cache.truncate(row, CONTEXT - 1)

    return step


def matrices_alone(batch):
    """The same rows through the same matrices, and nothing else"""
    weights = [p for p in models["wide"].parameters() if p.ndim == 2]
    widths = {w.shape[1] for w in weights}
    inputs = {width: torch.randn(batch, width) for width in widths}
    return lambda: [kernels.product(inputs[w.shape[1]], w) for w in weights]


count = bench.count_operations  # views left out: .T moves nothing
operations = count(decode_step(models["wide"], 1))
print("operations of x @ weight.T + 1    ", count(lambda: x @ weight.T + 1))
more_rows = count(decode_step(models["wide"], 8)) > operations
print("more in a step with 8 sequences   ", more_rows)
narrower = count(decode_step(models["narrow"], 1)) - operations
print("more in the narrow decoder's step ", narrower)

# %%
STEPS = (1, 4, 16, 32)
calls = {}
for B in STEPS:
    calls["step", B] = decode_step(models["wide"], B)
    calls["matrices", B] = matrices_alone(B)
    calls["narrow", B] = decode_step(models["narrow"], B)
timings = tk.measure.time_calls(calls, warmup=1, repeats=5)
seconds = {key: min(timing.times_s) for key, timing in timings.items()}

starting_s = operations * machine.overhead_s
bounds = {}
for B in STEPS:
    step = cost.decode_step(config, B, CONTEXT, **FP32)
    bounds[B] = roofline.time_bound(step, machine.device())
predicted_s = {B: bounds[B].seconds + starting_s for B in STEPS}

# %% tags=["nbval-ignore-output", "hide-input"]
measured = {B: seconds["step", B] for B in STEPS}
rows = "\n".join(
    f"| {B} | {B / predicted_s[B]:,.0f} | {B / measured[B]:,.0f} | {predicted_s[B] * 1e3:.1f} | {measured[B] * 1e3:.1f} "
    f"| {seconds['matrices', B] * 1e3:.1f} | {seconds['narrow', B] * 1e3:.1f} |"
    for B in STEPS
)
gain, should = (16 * times[1] / times[16] for times in (measured, predicted_s))
gap = measured[1] - predicted_s[1]
matrices_least_s = sum(
    bounds[1][part].seconds for part in ("attention projections", "mlp", "head")
)
inside = seconds["matrices", 1] - matrices_least_s
between = seconds["narrow", 1] - starting_s
Markdown(f"""
| sequences | tokens/s predicted | measured | ms predicted | step | matrices alone | narrow decoder |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

**Explain.** One sequence gets {1 / measured[1]:,.0f} tokens/s where the prediction says {1 / predicted_s[1]:,.0f}: {gap * 1e3:+.0f} ms a step. The matrices alone differ from their bound by {inside * 1e3:+.0f} ms, the narrow decoder from the start of its {operations:,} operations by {between * 1e3:+.0f} ms ({seconds["narrow", 1] / operations * 1e6:.1f} µs for each, where section 2 paid {machine.overhead_s * 1e6:.1f}).
The larger of the two says where to look first: in the kernels of the products, or in Python and in operations dearer than the cheapest there is.

16 sequences give {gain:.1f} times as many tokens per second as one; the prediction says {should:.1f}. Beyond the corner, {corner:.0f} rows in fp32, each sequence adds the whole time of its arithmetic, and the prediction hardly rises any more.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 5. The critical batch, and the puzzle
#
# Published peaks give the ridge of any device (sources: `hardware.device(name).source`; the Pi 5's are derived from clock and memory type). Set the intensity of a weight matrix, two FLOPs for each row and $\text{bits}/8$ bytes for a weight, equal to it:
#
# $$\frac{2 B}{\text{bits} / 8} = \text{ridge} \quad\Rightarrow\quad B^* = \text{ridge} \cdot \frac{\text{bits}}{16}$$
#
# $B^*$ is the *critical batch*, the corner in rows. In 16 bits it is the ridge itself, for a weight has two FLOPs and two bytes. (For a whole step, see section 6.)

# %%
CARDS = ("v100-16gb", "a10g", "a100-40gb", "a100-80gb", "h100", "pi-5")
print("           16-bit           ridge, FLOPs   critical batch, weights of")
print("           TFLOP/s   GB/s   per byte       16 bits   4 bits")
for name in CARDS:
    device = hardware.device(name)
    peaks = f"{device.peak(16) / 1e12:7.1f} {device.bytes_per_s / 1e9:6.0f}"
    wide, thin = (roofline.critical_batch(device, weight_bits=b) for b in (16, 4))
    print(f"{name:10} {peaks} {roofline.ridge(device):10.0f} {wide:14.0f} {thin:8.1f}")

# %% [markdown]
# **Predict.** The opening's 104.9 tokens a second are one sequence on an A100-80GB ([README](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md)). Of the bytes that the GPU can fetch in the time of a token, which share did the model need? And which share of the FLOPs?

# %%
a100 = hardware.device("a100-80gb")
step = cost.decode_step(llama, batch=1, context=100)
measured_s = 1 / 104.9
least = roofline.time_bound(step, a100)
print(f"bytes of a step       {step.bytes / 1e9:.2f} GB")
print(f"at 2,039 GB/s         {least.seconds * 1e3:.2f} ms, waits for {least.side}")
print(f"measured              {measured_s * 1e3:.2f} ms")
print(f"of the bandwidth      {roofline.mbu(step, a100, measured_s):.0%}")
print(f"of the FLOP/s         {roofline.mfu(step, a100, measured_s):.2%}")
print(f"tokens/s at most      {1 / least.seconds:.0f}")

# %% [markdown]
# **The answer.** Each token needs every weight once (of the embedding only one row), and the keys and values of the text so far. Fetching these 13.27 GB at 2,039 GB/s takes $13.27 / 2.039 = 6.51$ ms; the arithmetic would
# be done in less than a hundredth of that. Bandwidth allows 154 tokens a second, about the opening's 22,000 divided by the ridge, $22000 / 153 = 144$.
#
# The measured 104.9 are $104.9 / 154 = 68$ % of that. gpt-fast itself prints 1,397 GB/s for this run, $1397 / 104.9 = 13.3$ GB a token, nearly our count. Its authors saw about 1,700 GB/s at most on that card
# ([README](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md)); of this, 1,397 are $1397 / 1700 = 82$ %. What takes the rest, these counts cannot say.
#
# The two shares are section 3's. Of a model's step they are called *model bandwidth utilisation*, MBU ([Databricks 2023](https://www.databricks.com/blog/llm-inference-performance-engineering-best-practices)), and *model FLOP/s utilisation*, MFU ([Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311), appendix B). A decode step
# with an MFU of half a percent can be a good one.

# %% [markdown]
# ## 6. Attention does not profit
#
# Could the GPU simply be given its 153 rows? Each sequence brings its own keys and values, so twice the sequences do twice attention's FLOPs *and* fetch twice its bytes.
#
# **Predict.** One query head meets $S$ keys and values of $D$ numbers, in 16 bits: $4SD$ FLOPs (lesson on attention). How many FLOPs per byte, if a fused kernel keeps the scores out of memory ([FlashAttention](https://arxiv.org/abs/2205.14135))? And if $G$ query heads share a key/value head?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Keys and values are $2SD$ numbers, $4SD$ bytes: one FLOP per byte. With $G$ query heads for the same bytes, $G$. $B$ does not appear.
#
# </details>

# %%
parts = ("attention projections", "attention scores", "mlp")
print("                    B    FLOPs per byte of")
print("                         projections   attention       MLP")
for name in ("llama-2-7b", "llama-3-8b"):
    shape = shapes.shape(name).config
    G = shape.n_heads // shape.n_kv_heads
    for B in (1, 256):
        step = cost.decode_step(shape, batch=B, context=1024)
        ratios = [step[part].flops / step[part].bytes for part in parts]
        print(f"{name}, G = {G} {B:4}", *(f"{r:12.1f}" for r in ratios))

# %% [markdown]
# **Explain.** The projections' and the MLP's intensity follows the batch. Attention's stays at $G$, a little below because queries and results are bytes as well.
#
# From which batch on does a *whole step* wait for arithmetic most of the time? And how many sequences fit, at most, into an A100-80GB?

# %%
names = ("llama-2-7b", "llama-3-8b")
print("           most time is arithmetic from   sequences that fit at most")
print("context    llama-2-7b   llama-3-8b      llama-2-7b   llama-3-8b")
for context in (128, 512, 2048):
    line = f"{context:7}"
    for name in names:
        shape = shapes.shape(name).config
        turns = roofline.turning_batch(shape, a100, context)
        line += f"{turns or 'never':>14}"
    for name in names:
        shape = shapes.shape(name).config
        line += f"{memory.largest_batch(shape, context, a100.memory_bytes):15,}"
    print(line)

# %% [markdown]
# **Explain.** Beyond the critical batch, one more sequence costs the matrices a fixed time of arithmetic, and attention a fixed time of fetching, which grows with the context. Where the second is longer, no batch makes arithmetic the larger part: *never*. At 512 tokens 153
# sequences of Llama 2 7B fit, and its matrices would wait for arithmetic, yet the step waits mostly for keys and values. Llama 3 8B fetches a quarter of these, and holds out to longer contexts. The other batches lie above 153, since rows in and out, and attention, have
# to be outweighed first.

# %% [markdown]
# ## 7. Prefill and decode
#
# Prefill sends the $T$ tokens of a prompt through the matrices together: a weight is fetched once for all rows, of one sequence or of many. And the prompt's queries share one set of keys.
#
# **Predict.** On that A100, how many times as long as writing one token with Llama 2 7B does reading a prompt of 100 tokens take: 1, 10 or 100 times? And of 1,000?

# %%
write = cost.decode_step(llama, batch=1, context=100)
write_s = roofline.time_bound(write, a100).seconds
print("prompt   times a decode step   waits for")
for T in (1, 10, 100, 150, 200, 1000):
    step = cost.prefill(llama, batch=1, tokens=T)
    bound = roofline.time_bound(step, a100)
    print(f"{T:6} {bound.seconds / write_s:21.2f}   {bound.side}")

# %% [markdown]
# **Explain.** Up to about 150 tokens, prefill costs little more than writing one token does: the few per cent on top are rows that go in and out. Then every token costs arithmetic.

# %% [markdown]
# ## 8. Under a GPU's roofs
#
# Four parts of a step, projections, attention (the triangle), MLP and head, are marks under the roofs of a device. Slide the batch up in decode: which mark does not move? Take weights of 4 bits: at which batch does the MLP reach the ridge, compared with 16 bits? Switch to prefill of a single sequence: at which prompt length does an A100 stop waiting for memory?

# %% tags=["nbval-ignore-output"]
DEVICES = {
    "A100 80GB": a100,
    "this machine": machine.device(bench.memory_bytes()),
    **{name: hardware.device(name) for name in ("V100 16GB", "H100", "RTX 4090", "Pi 5")},
}
MODELS = {
    "Llama 2 7B": llama,
    "Llama 3 8B": shapes.shape("llama-3-8b").config,
    "Llama 3 70B": shapes.shape("llama-3-70b").config,
    "SmolLM2 135M": config,
}
figures.roofline(DEVICES, MODELS, batch=16, tokens=1024)

# %% [markdown]
# <details>
# <summary>What you should have seen</summary>
#
# Attention's triangle stays at $G$. With weights of 4 bits the MLP moves a quarter of the bytes for the same FLOPs, so a quarter of the batch brings it to the ridge; the roof is still that of 16-bit arithmetic,
# since the weights are widened before they are multiplied. Prefill on the A100 starts to wait for arithmetic between the settings 128 and 256.
#
# </details>

# %% [markdown]
# ## What real systems do
#
# - **They batch.** [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) lets sequences join and leave the batch at every step.
# - **They fill the pass.** [Sarathi](https://arxiv.org/abs/2308.16369) cuts prompts into chunks that share a pass, and its fetch of the weights, with decode steps.
# - **They check several tokens per pass.** In [speculative decoding](https://arxiv.org/abs/2211.17192) a small model guesses some tokens and the large one reads them together, like a prompt: below the ridge they cost little more than one.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
ridges = {
    name: roofline.ridge(hardware.device(name))
    for name in ("v100-16gb", "a10", "a10g", "a100-40gb", "a100-80gb")
}
gpt3 = shapes.shape("gpt-3").config
scores = cost.decode_step(gpt3, 1, 1000)["attention scores"]
mlp = cost.decode_step(gpt3, 16, 1000)["mlp"]
narrower = {
    bits: roofline.critical_batch(a100, weight_bits=bits[0], act_bits=bits[1])
    for bits in ((8, 8), (4, 16))
}
full = cost.decode_step(llama, 33, 4096)
fit = memory.largest_batch(llama, 4096, a100.memory_bytes)
pi = hardware.device("pi-5")
llama3 = cost.decode_step(shapes.shape("llama-3-8b").config, 1, 1, weight_bits=4.5)
TALK = "T. Lacroix, [talk](https://www.youtube.com/watch?v=mYRqvB1_gRk), October 2023"
SLIDES = "*LLM-Systems Basics*, EECS 598, University of Michigan, January 2024, slides (no public address known)"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| The V100's FLOPs per byte are about 140, the A100's about 200 | {SLIDES} | Right: {ridges["v100-16gb"]:.0f}, and {ridges["a100-40gb"]:.0f} for the A100 with 40 GB, whose bandwidth the slide prints. With 80 GB the memory is faster: {ridges["a100-80gb"]:.0f}. |
| The intensity of attention's product is about 2, that of the MLP about 2 times the batch | the same slides | Twice too high beside the row above, which is per *byte*: these are per *number*. In 16 bits attention has {scores.flops / scores.bytes:.2f} and the MLP at batch 16 has {mlp.flops / mlp.bytes:.1f}. |
| The ideal batch is twice the FLOP/s over the bandwidth, 400 on an A10G and an A100; 33 is far below it | {TALK} | The formula gives twice too much: a weight has 2 FLOPs per row and 2 bytes, so the 2s cancel. On the A100 with 40 or 80 GB it is {ridges["a100-40gb"]:.0f} or {ridges["a100-80gb"]:.0f}; on the A10G {ridges["a10g"]:.0f}, for 400 is about twice the {ridges["a10"]:.0f} of the faster A10. 33 is {33 / ridges["a100-80gb"]:.0%} of {ridges["a100-80gb"]:.0f}, and at the talk's context of 4,096 tokens {fit} is all that fits beside Llama 2 7B. There {full["attention scores"].bytes / full.bytes:.0%} of what the step moves is attention's, whose intensity no batch raises. |
| Quantization does not change the ideal batch | {TALK} | If weights *and* activations shrink and the arithmetic speeds up as much: {narrower[8, 8]:.0f} in 8 bits, as in 16. With weights alone in 4 bits it is {narrower[4, 16]:.0f}. |
| A Raspberry Pi 5 writes 5 to 12 tokens a second with Yi, Phi and Llama 3 | [*Generative AI on the Edge*](https://arxiv.org/abs/2411.17712), abstract | It gives no size. Not if Llama 3 means 8B: at 4.5 bits a weight, our assumption, {llama3.bytes / 1e9:.2f} GB at {pi.bytes_per_s / 1e9:.0f} GB/s allow at most {pi.bytes_per_s / llama3.bytes:.1f}. |
""")

# %% [markdown]
# One source's intensity is twice too high, the other's batch. A unit beside each number, FLOPs per *byte*, rows per *pass*, would have shown it.

# %% [markdown]
# ## Exercises
#
# **1. When rows outweigh weights.** For a product of $n_\text{in} = n_\text{out} = n$, how large is the intensity at most, in 16 bits, however many rows there are? At how many rows is half of that reached? Check with `product`.
#
# <details>
# <summary>Answer</summary>
#
# FLOPs are $2Bn^2$, bytes $2(n^2 + 2Bn)$, so the intensity is $Bn / (n + 2B)$: at most $n/2$, and half of that at $B = n/2$, where the rows that come in and go out weigh as much as the matrix.
#
# ```python
# n = 4096
# for B in (1, n // 2, 1000 * n):
#     flops, n_bytes = product(B, n, n, 16)
#     print(B, flops / n_bytes, B * n / (n + 2 * B))
# ```
#
# </details>
#
# **2. Tokens per second of a whole GPU.** For Llama 2 7B and for Llama 3 8B on the A100-80GB at a context of 1,024: fill the memory with sequences. How many tokens per second does the bound allow, and by how much do grouped heads win?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# rates = []
# for name in ("llama-2-7b", "llama-3-8b"):
#     shape = shapes.shape(name).config
#     B = memory.largest_batch(shape, 1024, a100.memory_bytes)
#     bound_of_step = roofline.time_bound(cost.decode_step(shape, B, 1024), a100)
#     rates.append(B / bound_of_step.seconds)
#     print(name, B, round(rates[-1]), bound_of_step["attention scores"].side)
# print(rates[1] / rates[0])
# ```
#
# 134 and 519 sequences fit; the bounds are 3,180 and 8,712 tokens a second, so grouped heads win by $8712 / 3180 = 2.7$.
# A quarter of the bytes per token makes room for about four times the sequences, and attention still waits for memory.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("roofline")

# %% [markdown]
# Then in your own words:
#
# **A.** Suppose that a device does 100 TFLOP/s in 16 bits and reads 500 GB/s. Which batch keeps it busy with 16-bit weights? With 4-bit weights and 16-bit activations?
#
# <details>
# <summary>Answer</summary>
#
# $10^{14} / (5 \cdot 10^{11}) = 200$, and 50: a quarter of the bytes, the same FLOPs at the same rate.
#
# </details>
#
# **B.** A server doubles its batch and the time of a step hardly changes. Then it doubles all contexts, and the step becomes clearly longer. What did the step wait for in each case?
#
# <details>
# <summary>Answer</summary>
#
# For memory, both times. First it fetched mostly weights, which more rows share. Then keys and values, which nobody shares: twice the context is twice their bytes.
#
# </details>
#
# **C.** A GPU's "utilisation" is shown as near the maximum while it writes tokens for one person. Which of MBU and MFU can be that, and which cannot?
#
# <details>
# <summary>Answer</summary>
#
# MBU can. MFU cannot: at one FLOP per byte, the bound allows at most $1 / \text{ridge}$ of the peak.
#
# </details>
#
# ## Not covered here
#
# Several GPUs and what they send each other; the price of a token; and the caches *inside* the processor, which have roofs of their own.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
