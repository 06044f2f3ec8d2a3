# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab: what a step waits for
#
# A processor has a peak of arithmetic and a bandwidth of memory, and a step waits for one of the two. You write the count
# of both, the bound that follows, the batch at which the sides change, and a function that tells what is wrong with a
# published number. At the end your functions measure this machine, and place the bundled model under its roofline.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked, and the mark comes from more, with other numbers. A multiplication and an addition are two FLOPs;
# GB are 10^9 bytes, GiB 2^30. Counts of integers are integers; what is divided is a float, and its last digits do not
# count. Plain Python is all you need; you may import `math`.

# %% tags=["setup", "hide-input"]
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address
# that the published copy of this lab carries; a copy without one says what to do.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. "
            "In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that the course can work with stays as it is.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True)

from teachgrade import check

# %% [markdown]
# ## q1. FLOPs and bytes of a product
#
# Write `matmul_cost(m, k, n, bytes_per_number)`: of the product of an (m, k) by a (k, n) matrix, the pair
# `(flops, bytes)`, a tuple of two integers. All four arguments are integers from 1 on.
#
# - Each of the m · n results takes k multiplications and k additions. (By convention nothing is taken off because the
#   first addition is to nothing.)
# - Bytes are those that must be moved at least: both factors are read once, the result is written once.
#
# <details><summary>Hint</summary>
# How many numbers has each of the three matrices? Each of the numbers has `bytes_per_number` bytes.
# </details>


# %%
def matmul_cost(m, k, n, bytes_per_number):
    """(FLOPs, bytes moved at least) of (m, k) times (k, n)."""
    ### BEGIN SOLUTION
    return 2 * m * k * n, (m * k + k * n + m * n) * bytes_per_number
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q1", matmul_cost)

# %% [markdown]
# ## q2. Which side binds
#
# If arithmetic and memory work at the same time, and each at its peak, a step takes as long as the slower of the two. Write
# `time_bound(flops, bytes, peak_flops, bandwidth)`: the pair `(seconds, side)`.
#
# - `peak_flops` is in FLOPs per second, `bandwidth` in bytes per second; all four are numbers above 0.
# - `seconds` is a float. `side` is `"compute"` or `"memory"`, whichever takes longer; `"compute"` if both take the same
#   time.
#
# <details><summary>Hint</summary>
# First work out two times, one for each side.
# </details>


# %%
def time_bound(flops, bytes, peak_flops, bandwidth):
    """(least seconds, "compute" or "memory")."""
    ### BEGIN SOLUTION
    compute, memory = flops / peak_flops, bytes / bandwidth
    return max(compute, memory), "compute" if compute >= memory else "memory"
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q2", time_bound)

# %% [markdown]
# ## q3. A step of decoding
#
# A decode step gives each of `batch` sequences one token. What has to be computed and read for that?
#
# - Every weight takes part in one multiplication and one addition for each sequence, and is read once for all of them.
# - Each sequence has keys and values of its own: `context` tokens with `kv_numbers` numbers each (of all layers, keys and
#   values together). All are read once. Each takes part in `group` multiplications and as many additions, where `group` is
#   how many query heads share it.
# - Everything else is small, and left out.
#
# Write `decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv)`: the pair
# `(flops, bytes)`, two integers. All arguments are integers from 1 on, but `n_weights` and `context` may be 0.
#
# <details><summary>Hint</summary>
# The weights' FLOPs grow with the batch, their bytes do not. Of keys and values both grow.
# </details>
#
# <details><summary>Another hint</summary>
# Count the numbers first: there are `n_weights` weights, and `batch * context * kv_numbers` keys and values. What does one
# number of each kind cost in FLOPs, what in bytes?
# </details>


# %%
def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    """(FLOPs, bytes) of one token for each of ``batch`` sequences."""
    ### BEGIN SOLUTION
    kv = batch * context * kv_numbers
    flops = 2 * n_weights * batch + 2 * group * kv
    return flops, n_weights * bytes_per_weight + kv * bytes_per_kv
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q3", decode_cost)

# %% [markdown]
# ## q4. The critical batch
#
# Write `critical_batch(peak_flops, bandwidth, bytes_per_weight)`: the batch at which multiplying with the weights takes as
# long as reading them, keys and values left aside. Below it a larger batch costs hardly any time.
#
# - The result is a float, not rounded. `bytes_per_weight` may be a half, for weights of four bits.
#
# <details><summary>Hint</summary>
# Of one weight: 2 · batch FLOPs over the peak, bytes_per_weight over the bandwidth. Where are they equal?
# </details>


# %%
def critical_batch(peak_flops, bandwidth, bytes_per_weight):
    """The batch at which arithmetic takes as long as reading the weights."""
    ### BEGIN SOLUTION
    return bytes_per_weight * peak_flops / (2 * bandwidth)
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q4", critical_batch)

# %% [markdown]
# ## q5. How near to the roof
#
# A step that had to compute `flops` and to move `bytes` took `seconds`. Write
# `utilisation(flops, bytes, seconds, peak_flops, bandwidth)`: the pair `(mfu, mbu)`.
#
# - MFU, model FLOPs utilisation, is the share of the peak that the step reached; MBU, model bandwidth utilisation, the share
#   of the bandwidth.
# - Both are floats; 1.0 is all of it.
#
# <details><summary>Hint</summary>
# FLOPs over seconds is a rate, in the unit of the peak.
# </details>


# %%
def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    """(MFU, MBU) of a step that took so many seconds."""
    ### BEGIN SOLUTION
    return flops / seconds / peak_flops, bytes / seconds / bandwidth
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q5", utilisation)

# %% [markdown]
# ## q6. What kind of wrong
#
# Published numbers are often wrong by a factor that gives the mistake away. Write `verdict(claimed, computed)`: a string.
# Both numbers are above 0. With r = claimed / computed:
#
# | if | then |
# | --- | --- |
# | r is within 2 % of 1 | `"right"` |
# | r is within 2 % of 2^30 / 10^9, or of its inverse | `"GB and GiB"` |
# | r is within 2 % of 2, or of a half | `"a factor of two"` |
# | r is within 2 % of 8, or of an eighth | `"bits and bytes"` |
# | else | `"wrong"` |
#
# *Within 2 % of x* means |r / x - 1| at most 0.02. No r is within 2 % of two of these.
#
# <details><summary>Hint</summary>
# A small function `near(x)` makes five lines of the table. 2^30 / 10^9 is 1.074, further from 1 than 2 %.
# </details>


# %%
def verdict(claimed, computed):
    """What is wrong with a claimed number, by its ratio to the computed one."""
    ### BEGIN SOLUTION
    ratio = claimed / computed
    gib = 2**30 / 10**9
    factors = {"right": 1, "GB and GiB": gib, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        off = min(abs(ratio / factor - 1), abs(ratio * factor - 1))
        if off <= 0.02:  # no mutate: < is the same, no float is 0.02 away from 1 exactly
            return name
    return "wrong"
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q6", verdict)

# %% [markdown]
# ## q7. Twice the FLOP/s
#
# A new device has twice the FLOP/s of the old one (whose critical batch is about 150) and the same bandwidth. In three or
# four sentences: who gains, and about how much? One user's chat; a server that decodes a batch of 8; a server that decodes
# a batch of 300 with short contexts; the reading of long prompts. And what happens to the critical batch?
#
# *Your answer here.*

# %% [markdown]
# ## Three published numbers
#
# What your functions say about numbers that the lessons on the roofline and on the KV cache quote, with their sources.


# %%
# teachgrade: show
def ready(**answers):
    """Whether these answers pass their checks; if not, it says which do not."""
    missing = [q for q, answer in answers.items() if not check(f"roofline.{q}", answer)]
    if missing:
        print(f"Not yet: {', '.join(missing)} should pass the check first.")
    return not missing


if ready(q3=decode_cost, q4=critical_batch, q6=verdict):

    def cache_gb(batch, tokens, layers, heads, head_dim):
        return decode_cost(0, batch, tokens, 2 * layers * heads * head_dim, 1, 2, 2)[1] / 1e9

    claims = {
        "critical batch of an A100 (40 GB), 16 bits": (400, critical_batch(312e12, 1555e9, 2)),
        "GB of LLaMA-7B's cache, one sequence of 4,096": (2, cache_gb(1, 4096, 32, 32, 128)),
        "GB of GPT-3's cache, 100 sequences of 1,000": (700, cache_gb(100, 1000, 96, 96, 128)),
    }
    for what, (claimed, computed) in claims.items():
        judged = verdict(claimed, computed)
        print(f"{what}: {claimed} claimed, {computed:.4g} computed: {judged}")

# %% [markdown]
# ## The roofline of this machine
#
# First, products of a (batch, 2048) by a (2048, 8192) matrix for growing batches, on one core: what your `matmul_cost` makes
# of the measured times. The matrix has 67 MB, more than most caches hold, so a small batch waits for memory. The largest
# rates seen stand for the peak and for the bandwidth of this core. (The roof is a bound: how near a product of a few rows
# comes to it depends on the library that computes it.)

# %%
# teachgrade: show
import time
from functools import partial

import matplotlib.pyplot as plt
import teachkit as tk
import torch
from matplotlib.ticker import LogLocator


def quickest(functions, rounds=9):
    """Seconds of the quickest call of each: what disturbs a call only makes it slower."""
    seconds = [float("inf")] * len(functions)
    for _ in range(rounds):
        for n, function in enumerate(functions):
            started = time.perf_counter()
            function()
            seconds[n] = min(seconds[n], time.perf_counter() - started)
    return seconds


batches = (1, 2, 4, 8, 16, 32, 64)
products = []  # batch, FLOPs per byte, FLOPs per second, bytes per second
if ready(q1=matmul_cost, q4=critical_batch):
    torch.set_num_threads(1)
    matrix = torch.randn(2048, 8192)
    inputs = [torch.randn(batch, 2048) for batch in (*batches, 128)]
    times = quickest([partial(torch.matmul, x, matrix) for x in inputs])
    for x, seconds in zip(inputs, times, strict=True):
        flops, moved = matmul_cost(len(x), 2048, 8192, 4)
        products.append((len(x), flops / moved, flops / seconds, moved / seconds))
    peak, bandwidth = max(p[2] for p in products), max(p[3] for p in products)
    print(f"{bandwidth / 1e9:.0f} GB/s and {peak / 1e9:.0f} GFLOP/s")
    print(f"critical batch in float32: {critical_batch(peak, bandwidth, 4):.0f}")

# %% [markdown]
# Then the bundled model: one step of decoding for growing batches, each sequence with 128 tokens behind it. Your
# `decode_cost` counts, `time_bound` says how long the step takes at least and what it waits for, and `utilisation` how near
# it comes. What lies far below the roof at a small batch waits for neither: a small model's step is mostly overhead, and
# that is why a larger batch costs it so little. (Its weights, 22 MB, may fit into a cache, which is faster than memory.)

# %%
# teachgrade: show
if products and ready(q2=time_bound, q3=decode_cost, q5=utilisation):
    model = tk.load("bundled")
    config = model.config
    n_weights = sum(p.numel() for p in model.parameters())
    kv_numbers = 2 * config.n_layers * config.n_kv_heads * config.head_dim
    group = config.n_heads // config.n_kv_heads
    steps = []
    print("batch    ms  least ms  waits for    MFU    MBU  tokens/s")
    with torch.inference_mode():
        calls = []
        for batch in batches:
            cache = tk.cache.ContiguousCache(config, batch, 160)
            tokens = torch.randint(config.vocab_size, (batch, 128))
            model(tokens, cache=cache, last_only=True)
            calls.append(partial(model, tokens[:, :1], cache=cache))
        for batch, seconds in zip(batches, quickest(calls), strict=True):
            flops, moved = decode_cost(n_weights, batch, 128, kv_numbers, group, 4, 4)
            least, side = time_bound(flops, moved, peak, bandwidth)
            mfu, mbu = utilisation(flops, moved, seconds, peak, bandwidth)
            steps.append((batch, flops / moved, flops / seconds))
            print(
                f"{batch:5} {1e3 * seconds:5.1f} {1e3 * least:9.1f}  {side:9}"
                f" {mfu:6.0%} {mbu:6.0%} {batch / seconds:9.0f}"
            )

    plt.figure(figsize=(7.5, 4.5), layout="constrained")
    edge = peak / bandwidth
    roof = ([0.25, edge, 100], [0.25 * bandwidth / 1e9, peak / 1e9, peak / 1e9])
    plt.loglog(*roof, color="gray", label="the roof, as measured")
    found = {"a product": (products, "o"), "a step of the model": (steps, "s")}
    for label, (points, marker) in found.items():
        plt.loglog([p[1] for p in points], [p[2] / 1e9 for p in points], marker, label=label)
        for batch, intensity, rate, *_ in points:
            at = (intensity, rate / 1e9)
            plt.annotate(batch, at, textcoords="offset points", xytext=(6, -8))
    for axis in (plt.gca().xaxis, plt.gca().yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    plt.title("each point with its batch")
    plt.xlabel("FLOPs per byte")
    plt.ylabel("GFLOP/s")
    plt.legend(loc="lower right")
    plt.show()
