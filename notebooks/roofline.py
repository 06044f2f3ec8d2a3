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
#       - Predict the time of a product from these, find the ridge by sweeping the batch, and name what a residual is due to
#       - Predict tokens per second of a decoder over the batch, and say which part of the step stops growing cheaper
#       - Place prefill, decode and attention under a device's roofs, and compute its critical batch for any number format
#       - Check published claims on intensity, ridge and batch, and find the factor of 2 that they lost
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # The roofline: what a step waits for
#
# A GPU can do 312 TFLOP/s ([A100 data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)). A token of
# Llama 2 7B takes two FLOPs for each of nearly 7 billion parameters, so that would be
# $312 \cdot 10^{12} / (2 \cdot 7 \cdot 10^9) \approx 22{,}000$ tokens a second. **Why does the GPU give you 104.9
# ([gpt-fast](https://pytorch.org/blog/accelerating-generative-ai-2/))?**
#
# Write down what you think it does the rest of the time. By the end you can compute the answer from two numbers of the data sheet.
#
# **Afterwards you can**
#
# - count the FLOPs and bytes of a matrix product, and compute its intensity for any batch;
# - measure the bandwidth, the FLOP/s and the price of an operation of the machine in front of you;
# - predict the time of a product from these, find the ridge by sweeping the batch, and name what a residual is due to;
# - predict tokens per second of a decoder over the batch, and say which part of the step stops growing cheaper;
# - place prefill, decode and attention under a device's roofs, and compute its critical batch for any number format;
# - check published claims on intensity, ridge and batch, and find the factor of 2 that they lost.
#
# **You need** the lessons on attention, on the model (two FLOPs per parameter of a matrix), on generation (prefill, decode, TTFT and TPOT) and on
# the KV cache. No GPU, and no network once `teachkit` is installed. Allow an hour, and half as much for the exercises. Letters as before:
# $B$ sequences in a batch, $T$ new tokens of each, $S$ tokens that a new one attends to, $H$ query heads of $D$ numbers, $H_{kv}$ key/value heads,
# $G = H / H_{kv}$.

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

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch.utils.flop_counter import FlopCounterMode

import teachkit as tk
from teachkit import bench, cost, figures, hardware, memory, roofline, shapes

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. FLOPs for every byte
#
# A decoder's step is mostly matrix products: $B$ rows, one for each sequence, go through a weight matrix. Take the last matrix of
# Llama 2 7B, the head: it turns 4,096 numbers into 32,000 logits.
#
# **Predict.** With 16-bit numbers and a single row: how many FLOPs does the product do for each byte that it has to move? And with 16 rows?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Each weight is multiplied once and added once for each row, two FLOPs, and is 2 bytes long. So one row makes one FLOP per byte, 16 rows nearly 16.
# Nearly, because the rows that go in and come out are bytes, too; beside the weights they are few.
#
# </details>
#
# FLOPs divided by bytes moved is called the *arithmetic intensity* of a computation.


# %%
def product(B, n_in, n_out, bits):
    """FLOPs and bytes of (B, n_in) @ (n_in, n_out): weights read once, rows read, results written"""
    flops = 2 * B * n_in * n_out
    numbers = n_in * n_out + B * (n_in + n_out)
    return flops, numbers * bits // 8


llama = shapes.shape("llama-2-7b").config
print("    B          FLOPs        bytes   FLOPs per byte")
for B in (1, 16, 256, 4096):
    flops, n_bytes = product(B, 4096, 32000, 16)
    print(f"{B:5} {flops:14,} {n_bytes:12,} {flops / n_bytes:12.1f}")
    head = cost.decode_step(llama, batch=B, context=1)["head"]
    assert (flops, n_bytes) == (head.flops, head.bytes)

# %% [markdown]
# Nobody has run anything yet, so hold the count against PyTorch's own counter and against the tensors that take part:

# %%
x, weight = torch.zeros(3, 500), torch.zeros(700, 500)
with FlopCounterMode(display=False) as counter:
    result = x @ weight.T
counted = counter.get_total_flops(), sum(t.nbytes for t in (x, weight, result))
print("counted   ", counted)
print("by formula", product(3, 500, 700, 32))

# %% [markdown]
# **Explain.** One more row adds $2 \cdot n_\text{in} \cdot n_\text{out}$ FLOPs and hardly a byte. So the intensity grows with the batch, at first in step with it. It cannot grow for ever: with very many rows, the rows
# themselves are most of the bytes, and 4,096 rows have fewer FLOPs per byte than rows.

# %% [markdown]
# ## 2. Three numbers of your machine
#
# To turn counts into seconds we need to know how fast this machine fetches bytes, how fast it multiplies, and what it costs to start an operation at all. All three
# are measured with programs that know nothing of models.


# %%
def fastest_s(call, repeats=7):
    """Seconds of the fastest run: a limit is what the machine reaches when nothing disturbs it"""
    return min(tk.measure.time_call(call, repeats=repeats, budget_s=1).times_s)


def read_rate(n_bytes):
    """Bytes per second at which n_bytes are read, over and over"""
    x = torch.ones(n_bytes // 4)
    n = max(1, 2**23 // n_bytes)  # one short read is not much longer than a look at the clock
    return n * n_bytes / fastest_s(lambda: [x.sum() for _ in range(n)])


def multiply_rate(dtype, size=1536):
    """FLOPs per second of a product of two square matrices, each of which is used many times"""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest_s(lambda: a @ b)


def operation_s(n=1000):
    """Seconds per operation that has next to nothing to do"""
    x = torch.ones(16)
    return fastest_s(lambda: [x + x for _ in range(n)]) / n


# %% [markdown]
# **Predict.** You read the same tensor again and again, and take a larger one each time. Does the rate in bytes per second rise, stay, or fall?

# %%
read_sizes = [2**n for n in range(14, 29)]
read_rates = [read_rate(n) for n in read_sizes]
machine = bench.this_machine(formats=("fp32", "bf16"))


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_rates():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.4))
    ax.semilogx(read_sizes, [r / 1e9 for r in read_rates], marker="o", base=2)
    ax.axhline(machine.bytes_per_s / 1e9, color=figures.colours()["second"], linestyle="--")
    ax.text(read_sizes[0], machine.bytes_per_s / 1e9, "teachkit, beyond any cache", va="bottom")
    ticks = [2**14, 2**17, 2**20, 2**23, 2**26]
    names = ["16 KiB", "128 KiB", "1 MiB", "8 MiB", "64 MiB"]
    ax.set(xlabel="size of the tensor", xticks=ticks, xticklabels=names)
    ax.set(ylabel="GB/s read", ylim=(0, None))
    return fig


best, far = max(read_rates), min(read_rates[-2:])
where = read_sizes[read_rates.index(best)]
beyond = [
    n
    for n, r in zip(read_sizes, read_rates, strict=True)
    if n > where and r < (best * far) ** 0.5
]
drop = beyond[0] if beyond else read_sizes[-1]
falls = (
    f"Up to some size it rises, since a short read is mostly the price of the call. Then it falls: {best / 1e9:.0f} GB/s at {where / 2**20:.3g} MiB, {far / 1e9:.0f} GB/s at the largest. "
    f"The step lies near {drop / 2**20:.0f} MiB: beyond that the tensor no longer fits into the processor's last-level cache and comes from memory every time."
    if best > 1.5 * far
    else f"Here it does not fall by much: {best / 1e9:.0f} GB/s at best, {far / 1e9:.0f} GB/s at the largest size. Either the cache holds all of these tensors, or it is no faster than memory."
)
display(
    figures.static(
        draw_rates,
        alt=f"Read rate over the size of the tensor: at most {best / 1e9:.0f} GB/s, {far / 1e9:.0f} GB/s for the largest.",
    )
)
Markdown(f"**Explain.** {falls}\n\n{tk.measure.caption()}")

# %% [markdown]
# A model's weights are larger than a cache, and are read once per step. So the rate that counts is the one *beyond* the last-level cache, which `bench.this_machine()` measures on half a GiB.

# %%
ours = {
    "read, GB/s": (read_rate(2**28) / 1e9, machine.bytes_per_s / 1e9),
    "multiply fp32, GFLOP/s": (multiply_rate(torch.float32) / 1e9, machine.flops["fp32"] / 1e9),
    "start an operation, µs": (operation_s() * 1e6, machine.overhead_s * 1e6),
}

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(f"| {name} | {a:.3g} | {b:.3g} |" for name, (a, b) in ours.items())
bf16 = machine.flops.get("bf16", 0) / machine.flops["fp32"]
Markdown(f"""
| this machine | the code above | `bench.this_machine()` |
| --- | ---: | ---: |
{rows}

In bf16 it multiplies at {bf16:.2g} times the rate of fp32. In the time that one byte takes from memory it does
**{machine.flops["fp32"] / machine.bytes_per_s:.1f} FLOPs** in fp32; in the time that one operation takes to start it fetches {machine.overhead_s * machine.bytes_per_s / 1e3:.0f} kB.

{tk.measure.caption(dtype="float32 and bfloat16")}
""")

# %% [markdown]
# A rate is easily off by a factor: bytes taken for numbers, a multiplication and an addition for one FLOP. Each record holds what it takes to check. The rate stands for the *fastest* run, so rate times *median* time must give at least the work done.

# %%
read, multiplied, small = (machine.results[i] for i in (0, 1, -1))
m, n, k = (multiplied.config[letter] for letter in "mnk")
print("bytes read      ", read.value * read.median > 0.99 * 2**29)
print("FLOPs done      ", multiplied.value * multiplied.median > 0.99 * 2 * m * n * k)
print("one operation, below 0.1 ms", small.value < 1e-4)
print("operations in x @ W.T + 1: ", bench.count_operations(lambda: x @ weight.T + 1))

# %% [markdown]
# Two operations, not three: `.T` is a view, which moves nothing.

# %% [markdown]
# ## 3. Find the ridge
#
# A product can fetch the next weights while it multiplies with the last ones. If the two overlap perfectly, it takes as long as the slower of them:
#
# $$t = \max\left(\frac{\text{bytes}}{\text{bandwidth}},\ \frac{\text{FLOPs}}{\text{FLOP/s}}\right)$$
#
# This is the *roofline model* ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)). It is a lower bound: nothing can be faster, and much can be slower.
#
# **Predict.** A matrix of 4096 × 4096 numbers in fp32 is $4096^2 \cdot 4 = 67{,}108{,}864$ bytes, more than most caches. With 4 rows instead of 1, how many times as long does the product take? And with 256 rows?
# Use the FLOPs per byte that section 2 found for your machine.
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# In fp32 a row makes half a FLOP per byte, since two FLOPs meet 4 bytes. As long as $B / 2$ is below the machine's FLOPs per byte, the product waits for memory and every row is as good as free. Beyond, time grows with $B$. On a
# machine with 6 FLOPs per byte, 4 rows take as long as 1, and 256 rows take $256 / (2 \cdot 6) \approx 21$ times as long.
#
# </details>


# %%
def bound_s(flops, n_bytes, device, bits):
    return max(n_bytes / device.bytes_per_s, flops / device.peak(bits))


# A machine with round numbers, 6 FLOPs per byte, and the head of Llama 2 7B in 32 bits
round_numbers = hardware.Device("round", 80, 100e9, {"fp32": 600e9}, source="made up")
FP32 = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}
print("    B   ms by the formula   ms by teachkit   waits for")
for B in (1, 4, 12, 16, 256):
    ours_s = bound_s(*product(B, 4096, 32000, 32), round_numbers, 32)
    step = roofline.time_bound(cost.decode_step(llama, B, 1, **FP32), round_numbers)
    print(
        f"{B:5} {ours_s * 1e3:19.2f} {step['head'].seconds * 1e3:16.2f}   {step['head'].side}"
    )

# %% [markdown]
# Now the real thing. A format that this processor only imitates is left out: there the price is the imitation.

# %% tags=["nbval-ignore-output"]
SIZE, BATCHES = 4096, (1, 2, 4, 8, 16, 32, 64, 128, 256)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
kept = {
    name: d
    for name, d in DTYPES.items()
    if machine.flops.get(name, 0) > machine.flops["fp32"] / 2
}


def product_times(dtype):
    """Seconds of x @ W.T for every batch, in turn"""
    W = torch.randn(SIZE, SIZE).to(dtype)
    inputs = {B: torch.randn(B, SIZE).to(dtype) for B in BATCHES}
    calls = {B: lambda x=x: x @ W.T for B, x in inputs.items()}
    return {B: min(t.times_s) for B, t in tk.measure.time_calls(calls, repeats=5).items()}


sweep = {name: product_times(dtype) for name, dtype in kept.items()}
GRID = range(1, 257)
bound = {
    name: [
        bound_s(*product(B, SIZE, SIZE, d.itemsize * 8), machine.device(), name) for B in GRID
    ]
    for name, d in kept.items()
}


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_sweep():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for name, key in zip(sweep, ("accent", "second"), strict=False):
        colour = figures.colours()[key]
        times = [sweep[name][B] * 1e3 for B in BATCHES]
        ax.loglog(BATCHES, times, "o", color=colour, label=f"{name}, measured")
        ax.loglog(
            GRID,
            [s * 1e3 for s in bound[name]],
            color=colour,
            linestyle="-",
            label=f"{name}, bound",
        )
    ax.set(xlabel="B (rows)", ylabel="ms", xticks=BATCHES, xticklabels=BATCHES)
    ax.minorticks_off()
    ax.legend()
    return fig


first = sweep["fp32"]
level = sorted(first[B] for B in (2, 4, 8))[1]
knee = level / (first[256] / 256)
critical = machine.flops["fp32"] * 4 / (2 * machine.bytes_per_s)
display(
    figures.static(
        draw_sweep,
        alt=f"Time of the product over the number of rows, measured and bound. fp32: {first[1] * 1e3:.1f} ms for one row, "
        f"{first[16] * 1e3:.1f} ms for 16, {first[256] * 1e3:.0f} ms for 256.",
    )
)
Markdown(f"""
From 2 to 8 rows, four times the arithmetic, the fp32 product takes {first[8] / first[2]:.1f} times as long; from 64 to 256, again four times the arithmetic, {first[256] / first[64]:.1f} times. Continue the flat part (the median of 2, 4 and 8 rows) and the slope
at 256 rows: they meet at **{knee:.0f} rows**. The bound has its corner, the *ridge*, at {critical:.0f} rows.

{tk.measure.caption(dtype=" and ".join(sweep))}
""")

# %% [markdown]
# ### A control: the same arithmetic, other bytes
#
# Is it memory that the flat part waits for? Multiply by 16 matrices in a row, of 1024 × 1024. In one run they are 16 different matrices, together as many bytes as before; in the other, the
# same one each time, which after the first time lies in a cache. FLOPs, calls and shapes are equal; only where the bytes come from differs.
#
# **Predict.** With which number of rows do the two runs differ more: with 1, or with 256?

# %% tags=["nbval-ignore-output"]
matrices = torch.randn(16, 1024, 1024)


def two_runs(B):
    x = torch.randn(B, 1024)
    calls = {
        "different": lambda: [x @ W.T for W in matrices],
        "the same": lambda: [x @ matrices[0].T for _ in matrices],
    }
    return {name: min(t.times_s) for name, t in tk.measure.time_calls(calls, repeats=7).items()}


control = {B: two_runs(B) for B in (1, 16, 256)}

# %% tags=["nbval-ignore-output", "hide-input"]
more = {B: t["different"] / t["the same"] for B, t in control.items()}
rows = "\n".join(
    f"| {B} | {t['different'] * 1e3:.2f} | {t['the same'] * 1e3:.2f} | {more[B]:.2f} |"
    for B, t in control.items()
)
seen = (
    "The slower one waits for memory, and with enough rows nothing does: the arithmetic covers it."
    if more[1] > 1.3 > more[256]
    else "On this machine the two do not part as the model says; a last-level cache that holds all 16 would do that."
)
Markdown(f"""
| rows | 16 different, ms | 16 times the same, ms | ratio |
| ---: | ---: | ---: | ---: |
{rows}

**Explain.** For one row, fetching from memory makes the product {more[1]:.1f} times as long; for 256 rows, {more[256]:.2f} times. {seen}

{tk.measure.caption()}
""")

# %% [markdown]
# ### The residual
#
# How far above its line does a point lie? Turn the times into shares of what the machine can do.


# %%
def reached(name, B):
    """Shares of the machine's bandwidth and FLOP/s that the measured product reached"""
    flops, n_bytes = product(B, SIZE, SIZE, kept[name].itemsize * 8)
    seconds = sweep[name][B]
    return n_bytes / seconds / machine.bytes_per_s, flops / seconds / machine.flops[name]


# %% tags=["nbval-ignore-output", "hide-input"]
shares = {(name, B): reached(name, B) for name in kept for B in (1, 4, 256)}
rows = "\n".join(f"| {name}, {B} | {a:.0%} | {b:.0%} |" for (name, B), (a, b) in shares.items())
above = (
    " A share above 100% says that the limits were measured while the machine was busy with something else."
    if max(max(pair) for pair in shares.values()) > 1.05
    else ""
)
one, four = (shares["fp32", B][0] for B in (1, 4))
packing = (
    f"With 4 rows the product reaches {four:.0%} of the bandwidth instead of {one:.0%}. By the formula the bytes are as good as the same, so it is the kernel that does more. A usual reason is *packing*: a matrix–matrix kernel first copies the weights, tile by tile, into the order in which it "
    "will read them ([Goto and van de Geijn 2008](https://doi.org/10.1145/1356052.1356053)). Every weight is then read, written and read again, for a handful of rows."
    if four < 0.8 * one
    else f"One row reaches {one:.0%} of the bandwidth in fp32, and 4 rows {four:.0%}."
)
Markdown(f"""
| rows | of the bandwidth | of the FLOP/s |
| --- | ---: | ---: |
{rows}

**Explain.** The bound is what the machine allows; a kernel has to get there.{above} {packing} {"Below half of the bandwidth a kernel is what the product waits for, not memory: the bound says how much a better one could gain." if min(one, four) < 0.5 else "What takes the rest, this experiment does not show."}
The ridge moves with it: where the flat part lies higher than the bound's, it takes more rows to reach the slope.

{tk.measure.caption(dtype=" and ".join(sweep))}
""")

# %% [markdown]
# ### The same points, drawn as Williams did
#
# Plot FLOP/s over intensity, both logarithmic. A product that waits for memory can do at most intensity times bandwidth: a slope. None can do more than the peak: a flat roof. They meet at the
#
# $$\text{ridge} = \frac{\text{FLOP/s}}{\text{bytes/s}}$$
#
# FLOPs per byte. With a kernel you can choose a number of rows and a format: the product is timed now, and the point put under your machine's roofs. The page without a kernel shows all of them.


# %% tags=["hide-input"]
def under_the_roofs(times, title=""):
    """times: name of the format -> {rows: seconds}"""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for name, key, line in zip(times, ("accent", "second"), ("-", "--"), strict=False):
        colour, peak = figures.colours()[key], machine.flops[name]
        corners = [0.2, peak / machine.bytes_per_s, 1000]
        roof = [min(i * machine.bytes_per_s, peak) / 1e9 for i in corners]
        ax.loglog(corners, roof, line, color=colour, label=f"roofs, {name}")
        for B, seconds in times[name].items():
            flops, n_bytes = product(B, SIZE, SIZE, kept[name].itemsize * 8)
            ax.plot(flops / n_bytes, flops / seconds / 1e9, "o", color=colour)
    ax.set(xlabel="FLOPs per byte", ylabel="GFLOP/s", title=title)
    ax.legend()
    return fig


# %% tags=["nbval-ignore-output"]
def time_one(rows, numbers):
    W, x = (torch.randn(n, SIZE).to(kept[numbers]) for n in (SIZE, rows))
    seconds = fastest_s(lambda: x @ W.T)
    alt = f"{rows} rows in {numbers} take {seconds * 1e3:.1f} ms."
    return figures.static(lambda: under_the_roofs({numbers: {rows: seconds}}, alt), alt=alt)


twin = figures.static(
    lambda: under_the_roofs(sweep),
    alt="All products measured above: FLOP/s over FLOPs per byte, with the slope of the bandwidth "
    "and the roof of the arithmetic.",
)
figures.live(time_one, twin, rows=list(BATCHES), numbers=list(kept))

# %% [markdown]
# ## 4. A decoder, batch by batch
#
# A step of decode is a row of such products with little in between. Take a published shape, SmolLM2-135M ([config.json](https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json)), in fp32 and with random
# weights: time does not depend on their values. `cost.decode_step` counts FLOPs and bytes of every part; `roofline.time_bound` takes the larger of the two times for each part, and adds the parts up.
#
# **Predict.** 16 sequences instead of one: how many times as many tokens per second, in all?

# %%
config = shapes.shape("smollm2-135m").config
CONTEXT = 64
model = tk.Decoder(config).eval()

step_one = cost.decode_step(config, 1, CONTEXT, **FP32)
n_parameters = sum(p.numel() for p in model.parameters())
print(f"parameters             {n_parameters:,}")
print(f"bytes of a step        {step_one.bytes:,.0f}")
print(f"of them weights        {step_one.total('weight_bytes') / step_one.bytes:.1%}")
print(f"FLOPs per byte         {step_one.intensity:.2f}")


# %%
def decode_step(batch):
    """A step of decode, as a function that leaves the cache as it found it"""
    cache = tk.cache.ContiguousCache(config, batch, CONTEXT)
    cache.plan([CONTEXT - 1] * batch)  # room for a past of zeros, which take as long as any
    tokens = torch.zeros(batch, 1, dtype=torch.int64)

    def step():
        model(tokens, cache=cache)
        for row in range(batch):
            cache.truncate(row, CONTEXT - 1)

    return step


def matrices_alone(batch):
    """The control: the same rows through the same matrices, and nothing else"""
    weights = [p for p in model.parameters() if p.ndim == 2]
    inputs = {width: torch.randn(batch, width) for width in {w.shape[1] for w in weights}}
    return lambda: [F.linear(inputs[w.shape[1]], w) for w in weights]


operations = bench.count_operations(decode_step(1))
print("hundreds of operations in a step:", 300 < operations < 3000)
print("as many for 8 sequences:         ", bench.count_operations(decode_step(8)) == operations)

# %%
STEPS = (1, 2, 4, 8, 16, 32)
step_s = {B: fastest_s(decode_step(B), repeats=3) for B in STEPS}
alone_s = {B: fastest_s(matrices_alone(B), repeats=3) for B in STEPS}
predicted_s = {}
for B in STEPS:
    step_bound = roofline.time_bound(
        cost.decode_step(config, B, CONTEXT, **FP32), machine.device()
    )
    predicted_s[B] = step_bound.seconds + operations * machine.overhead_s


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_steps():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    lines = {
        "bound and operations": predicted_s,
        "matrices alone": alone_s,
        "step, measured": step_s,
    }
    for (name, times), mark in zip(lines.items(), ("", "", "o"), strict=True):
        ax.loglog(STEPS, [B / times[B] for B in STEPS], marker=mark, label=name)
    ax.set(xlabel="B (sequences)", ylabel="tokens per second", xticks=STEPS, xticklabels=STEPS)
    ax.minorticks_off()
    ax.legend()
    return fig


rows = "\n".join(
    f"| {B} | {predicted_s[B] * 1e3:.1f} | {alone_s[B] * 1e3:.1f} | {step_s[B] * 1e3:.1f} | {B / step_s[B]:,.0f} |"
    for B in STEPS
)
gain = 16 * step_s[1] / step_s[16]
should = 16 * predicted_s[1] / predicted_s[16]
near = {B: alone_s[B] / step_s[B] for B in STEPS}
fits = {B: predicted_s[B] / step_s[B] for B in STEPS}
lacks = (
    "So most of what the prediction lacks for one sequence is lost inside the matrix kernels of section 3, not between them."
    if near[1] - fits[1] > 1 - near[1]
    else "So what the prediction lacks for one sequence lies mostly between the matrix products: attention, norms, and starting operations."
)
slow = (
    " A prediction above the measured time says that the limits of section 2 were measured while the machine did something else, too."
    if max(fits.values()) > 1.05
    else ""
)
display(
    figures.static(
        draw_steps,
        alt=f"Tokens per second over the batch: {1 / step_s[1]:.0f} for one sequence, {32 / step_s[32]:.0f} for 32; predicted {1 / predicted_s[1]:.0f} and {32 / predicted_s[32]:.0f}.",
    )
)
Markdown(f"""
| sequences | predicted, ms | matrices alone, ms | step, ms | tokens/s |
| ---: | ---: | ---: | ---: | ---: |
{rows}

**Explain.** 16 sequences give {gain:.1f} times as many tokens per second as one; predicted were {should:.1f}. The prediction is {fits[1]:.0%} of the measured time for one sequence and {fits[32]:.0%} for 32. The matrices alone,
with no model around them, take {near[1]:.0%} and {near[32]:.0%} of it. {lacks}{slow}

{tk.measure.caption()}
""")

# %% [markdown]
# Nothing was fitted: bandwidth, FLOP/s and the price of an operation come from section 2. The step has two ways to get more out of the same bytes, more rows or fewer bytes per weight; both end at a ridge.

# %% [markdown]
# ## 5. Attention does not profit
#
# Each sequence reads its own keys and values. Twice the sequences do twice the FLOPs *and* fetch twice the bytes.
#
# **Predict.** One query head meets $S$ keys and values of $D$ numbers, in 16 bits: $4SD$ FLOPs (lesson on attention). How many FLOPs per byte? And if $G$ query heads share a key/value head?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Keys and values are $2SD$ numbers, $4SD$ bytes: one FLOP per byte. With $G$ query heads for the same bytes, $G$. Neither $S$ nor $B$ appears.
#
# </details>

# %%
print("FLOPs per byte          B   projections   attention     MLP")
for name in ("llama-2-7b", "llama-3-8b"):
    shape = shapes.shape(name).config
    for B in (1, 16, 256):
        step = cost.decode_step(shape, batch=B, context=1024)
        parts = (step[part] for part in ("attention projections", "attention scores", "mlp"))
        ratios = " ".join(f"{part.flops / part.bytes:11.1f}" for part in parts)
        print(f"{name}, G = {shape.n_heads // shape.n_kv_heads} {B:8} {ratios}")

# %% [markdown]
# **Explain.** The projections' and the MLP's intensity follows the batch; attention's stays at $G$, a little below because queries and results are bytes as well. Sharing key/value heads is the only thing in this table that lifts it. So a large enough batch makes the
# matrices wait for arithmetic while attention still waits for memory.
#
# Is there a batch from which on a *step* waits for arithmetic most of the time? On an A100-80GB, by context:

# %%
a100 = hardware.device("a100-80gb")
print("context   llama-2-7b   llama-3-8b")
for context in (128, 512, 2048):
    turning = [
        roofline.turning_batch(shapes.shape(name).config, a100, context)
        for name in ("llama-2-7b", "llama-3-8b")
    ]
    print(f"{context:7}", *(f"{batch or 'never':>12}" for batch in turning))

# %% [markdown]
# ### Reading and writing
#
# Prefill sends the $T$ tokens of a prompt through the matrices together: to a weight, a row is a row, whether it comes from another user or from the next token. And the prompt's queries share one set of keys.
#
# **Predict.** On that A100, writing one token with Llama 2 7B takes some milliseconds at least. How many times as long does *reading* a prompt of 100 tokens take: 1, 10 or 100 times? And of 1,000?

# %%
write_s = roofline.time_bound(cost.decode_step(llama, batch=1, context=100), a100).seconds
print("tokens read   times a decode step   waits for")
for T in (1, 10, 100, 200, 1000):
    reading = roofline.time_bound(cost.prefill(llama, batch=1, tokens=T), a100)
    print(f"{T:11} {reading.seconds / write_s:21.2f}   {reading.side}")

# %% [markdown]
# **Explain.** Up to about 150 tokens, reading costs what writing one token does: the weights have to be fetched anyway. Then every token costs arithmetic. A long prefill keeps the arithmetic busy and leaves bandwidth over; decode does the reverse. A scheduler that runs
# both in one pass lets each use what the other leaves.

# %% [markdown]
# ## 6. Under a GPU's roofs
#
# The four parts of a step under the roofs of a device, from the same formulas, without a kernel. The fifth row of the table, norms and embedding, multiplies no matrices; it only moves bytes.
#
# Try three things. Slide the batch up in decode and watch which mark does not move. Then take weights of 4 bits and see at which batch the MLP reaches the ridge, compared with 16 bits. Then switch to prefill and find the prompt length at which an A100 stops waiting for memory.

# %% tags=["nbval-ignore-output"]
PARTS = ("V100 16GB", "T4", "A10", "L4", "H100", "B200", "RTX 4090", "Pi 5")
DEVICES = {"A100 80GB": a100, "this machine": machine.device(bench.memory_bytes())}
DEVICES |= {name: hardware.device(name) for name in PARTS}
MODELS = {
    "Llama 2 7B": llama,
    "Llama 3 8B": shapes.shape("llama-3-8b").config,
    "Llama 3 70B": shapes.shape("llama-3-70b").config,
    "Mistral 7B": shapes.shape("mistral-7b").config,
    "SmolLM2 135M": config,
}
figures.roofline(DEVICES, MODELS, batch=16, tokens=1024)

# %% [markdown]
# <details>
# <summary>What you should have seen</summary>
#
# Attention's triangle stays at $G$. With weights of 4 bits the MLP moves a quarter of the bytes for the same FLOPs, so it arrives at the ridge with about a quarter of the batch; the roof is still that of 16-bit arithmetic,
# since the weights are widened before they are multiplied. The A100 turns between the settings 128 and 256.
#
# </details>
#
# ## 7. The puzzle, and the critical batch
#
# Published peaks, each with its source in `hardware.py`, give every device's ridge. Set the intensity of a weight matrix, two FLOPs for each row and $b/8$ bytes for a weight of $b$ bits, equal to it:
#
# $$\frac{2 B}{b / 8} = \text{ridge} \quad\Rightarrow\quad B^* = \text{ridge} \cdot \frac{b}{16}$$
#
# $B^*$ is the *critical batch*. In 16 bits it is the ridge itself: the two FLOPs of a weight and its two bytes cancel.

# %%
CARDS = ("v100-16gb", "t4", "a10", "a10g", "a100-40gb", "a100-80gb", "h100", "b200", "pi-5")
print("               ridge   critical batch, weights of")
print("             16 bits   16 bits   4 bits")
for name in CARDS:
    device = hardware.device(name)
    batches = (roofline.critical_batch(device, weight_bits=bits) for bits in (16, 4))
    print(f"{name:10} {roofline.ridge(device):9.0f}", *(f"{batch:8.0f}" for batch in batches))

# %% [markdown]
# To be busy, an A100-80GB needs a hundred and fifty times the FLOPs per byte that one token for one person gives it.
#
# **Predict.** gpt-fast wrote 104.9 tokens a second ([PyTorch 2023](https://pytorch.org/blog/accelerating-generative-ai-2/)). Of the bytes that the GPU can fetch in that time, which share did the model need? And which share of the FLOPs?

# %%
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
# **The answer.** Each token needs every weight once. Fetching 13.27 GB at 2,039 GB/s takes 6.51 ms, $13.27 / 2.039 = 6.51$; doing the arithmetic would take less than a hundredth of that. So 312 TFLOP/s do not matter: with one sequence the
# sheet's bandwidth allows 154 tokens a second, and 104.9 are 68 % of it. gpt-fast itself prints 1,397 GB/s for this run, which is 69 %, $1397 / 2039 = 0.685$; it counts a little more than the cost model
# does.
#
# The first share is called *model bandwidth utilisation*, MBU; the second *model FLOP/s utilisation*, MFU ([Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311), appendix B). A decode step with an MFU of half a percent can be a good one.
#
# Could the GPU simply be given its 153 rows? Each brings a cache:

# %%
print("context   sequences that fit beside Llama 2 7B   critical batch")
for context in (512, 1024, 4096):
    fits = memory.largest_batch(llama, context, a100.memory_bytes)
    print(f"{context:7} {fits:38} {roofline.critical_batch(a100):16.0f}")

# %% [markdown]
# At the model's full context, memory is full long before the arithmetic is busy, and by section 5 attention would hold the step back even then.

# %% [markdown]
# ## What real systems do
#
# - **They batch.** [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) lets sequences join and leave the batch at every step, so that it stays large; [Pope et al. 2022](https://arxiv.org/abs/2211.05102) choose batch and partition from counts like these.
# - **They fill the pass.** [Sarathi](https://arxiv.org/abs/2308.16369) cuts prompts into chunks and runs decode steps in the same pass: the weights are fetched for the chunk, and the step rides along.
# - **They fetch fewer bytes.** gpt-fast's [table](https://pytorch.org/blog/accelerating-generative-ai-2/) goes on with weights of 8 and of 4 bits: more tokens per second at one sequence, and a lower critical batch.
# - **They check several tokens per pass.** In [speculative decoding](https://arxiv.org/abs/2211.17192) a small model guesses some tokens and the large one reads them together, as a prompt: up to the ridge, they cost what one does.
# - **They share key/value heads, and fuse.** Grouped heads raise attention's intensity by $G$; a fused kernel never sends intermediate results to memory ([FlashAttention](https://arxiv.org/abs/2205.14135)). A survey that starts from counts of FLOPs and bytes like these is
#   [Kim et al. 2023](https://arxiv.org/abs/2302.14017).

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
ridges = {
    name: roofline.ridge(hardware.device(name)) for name in hardware.DEVICES if name != "m2"
}
gpt3 = shapes.shape("gpt-3").config
scores = cost.decode_step(gpt3, 1, 1000)["attention scores"]
mlp = cost.decode_step(gpt3, 16, 1000)["mlp"]
narrow = {
    bits: roofline.critical_batch(a100, weight_bits=bits[0], act_bits=bits[1])
    for bits in ((16, 16), (8, 8), (4, 16))
}
full = cost.decode_step(llama, 33, 4096)
pi = hardware.device("pi-5")
llama3 = cost.decode_step(shapes.shape("llama-3-8b").config, 1, 1, weight_bits=4.5)
TALK = "T. Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk"
SLIDES = "*LLM-Systems Basics*, EECS 598, University of Michigan, January 2024"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| The V100's FLOPs per byte are about 140, the A100's about 200 | {SLIDES} | Right: {ridges["v100-16gb"]:.0f}, and {ridges["a100-40gb"]:.0f} for the A100 with 40 GB, whose bandwidth the slide prints. With 80 GB the memory is faster: {ridges["a100-80gb"]:.0f}. |
| The intensity of attention's product is about 2, that of the MLP about 2 times the batch | {SLIDES} | Twice too high beside that table: it is per *number*, the table per *byte*. In 16 bits attention has {scores.flops / scores.bytes:.2f} and the MLP at batch 16 has {mlp.flops / mlp.bytes:.1f}. Read literally, the A100 with 40 GB would be busy at {ridges["a100-40gb"] / 2:.0f} rows instead of {ridges["a100-40gb"]:.0f}. |
| The ideal batch is twice the FLOP/s over the bandwidth: 400 on an A10G and an A100 | {TALK} | One 2 too many, the other way: a weight has 2 FLOPs per row, and 2 bytes. Without it {ridges["a10g"]:.0f} and {ridges["a100-40gb"]:.0f} or {ridges["a100-80gb"]:.0f}. Twice the ridge is near 400 for the A10 ({2 * ridges["a10"]:.0f}) and the A100 with 40 GB ({2 * ridges["a100-40gb"]:.0f}), not for the A10G ({2 * ridges["a10g"]:.0f}). |
| A batch of 33 on an A100 with 80 GB is far below the ideal 400 | {TALK} | Below, but not so far: {33 / ridges["a100-80gb"]:.0%} of {ridges["a100-80gb"]:.0f}. At its context of 4,096 tokens {full["attention scores"].bytes / full.bytes:.0%} of what the step moves are keys, values and what goes with them, which no batch makes worth more arithmetic. |
| Quantization does not change the ideal batch | {TALK} | If weights *and* activations shrink and the arithmetic speeds up as much: {narrow[8, 8]:.0f} in 8 bits, as in 16. With weights alone in 4 bits, the common case, {narrow[4, 16]:.0f}. |
| A Raspberry Pi 5 writes 5 to 12 tokens a second with Yi, Phi and Llama 3 | [*Generative AI on the Edge*](https://arxiv.org/abs/2411.17712), abstract | Not with Llama 3 8B, if we suppose 4.5 bits a weight: {llama3.bytes / 1e9:.2f} GB at {pi.bytes_per_s / 1e9:.0f} GB/s allow at most {pi.bytes_per_s / llama3.bytes:.1f}. The smaller models can. |
""")

# %% [markdown]
# Two of the sources lost a factor of 2, in opposite directions. Writing the unit beside the number, FLOPs per *byte*, rows per *pass*, would have found both.

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
# A device whose ridge lies above $n/2$ could not be kept busy by such a matrix at all.
#
# </details>
#
# **2. One thread.** Predict: with a single thread, do bandwidth and FLOP/s both halve on a machine with two cores? What happens to the ridge?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# threads = torch.get_num_threads()
# for n in sorted({1, threads}):
#     torch.set_num_threads(n)
#     bytes_per_s, flops_per_s = read_rate(2**28), multiply_rate(torch.float32)
#     print(n, f"{bytes_per_s / 1e9:.0f} GB/s, {flops_per_s / 1e9:.0f} GFLOP/s, ridge {flops_per_s / bytes_per_s:.1f}")
# torch.set_num_threads(threads)
# ```
#
# FLOP/s belong to the cores and usually scale with them. Memory is shared: a few cores can often fetch all it has to give, so the ridge of many cores lies higher than that of one. If your FLOP/s did not scale, the "cores" may be two threads of one.
#
# </details>
#
# **3. Your own ridge, in tokens.** From `machine`, compute this machine's critical batch for weights of 32, 16 and 8 bits that are multiplied in fp32. Which of the three would you expect to see in a sweep?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for bits in (32, 16, 8):
#     print(bits, roofline.critical_batch(machine.device(), weight_bits=bits, act_bits=32))
# ```
#
# Each halving of the weights halves it. A sweep shows it only if the kernel widens the weights on the way, in registers; one that first writes them out in fp32 moves more bytes than before.
#
# </details>
#
# **4. Tokens per second of a whole GPU.** For Llama 2 7B and for Llama 3 8B on the A100-80GB at a context of 1,024: fill the memory with sequences. How many tokens per second does the bound allow, and by how much do grouped heads win?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for name in ("llama-2-7b", "llama-3-8b"):
#     shape = shapes.shape(name).config
#     B = memory.largest_batch(shape, 1024, a100.memory_bytes)
#     bound_of_step = roofline.time_bound(cost.decode_step(shape, B, 1024), a100)
#     print(name, B, round(B / bound_of_step.seconds), bound_of_step["attention scores"].side)
# ```
#
# A quarter of the bytes per token leaves room for about four times the sequences, and each costs a quarter of the fetching. In both attention still waits for memory.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# **A.** Suppose that a device does 100 TFLOP/s in 16 bits and reads 500 GB/s. Which batch keeps it busy with 16-bit weights? With 4-bit weights and 16-bit activations?
#
# <details>
# <summary>Answer</summary>
#
# $10^{14} / (5 \cdot 10^{11}) = 200$, and a quarter of that, 50: a fourth of the bytes, the same FLOPs at the same rate.
#
# </details>
#
# **B.** A server doubles its batch and the time of a step hardly changes. Later it doubles the context of all sequences instead, and the step becomes clearly longer. What did the step wait for in each case?
#
# <details>
# <summary>Answer</summary>
#
# For memory, both times. First it fetched mostly weights, which more rows share. Then keys and values, which nobody shares: twice the context is twice their bytes.
#
# </details>
#
# **C.** Somebody shows you a GPU "utilisation" near the maximum while it writes tokens for one person. Which of MBU and MFU can be near that, and which cannot?
#
# <details>
# <summary>Answer</summary>
#
# MBU can. MFU cannot: at one FLOP per byte, the bound allows at most $1 / \text{ridge}$ of the peak. (The "utilisation" that tools print is neither: it is the share of time in which *some* kernel ran.)
#
# </details>
#
# ## Not covered here
#
# Several GPUs and what they send each other; the price of a token; caches *inside* the processor, which have roofs of their own; and why a kernel reaches this or that share of its bound, which takes a profiler. A whole predictor of
# prefill, decode and training time from a configuration is the next chapter.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
