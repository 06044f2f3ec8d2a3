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
# A processor has a peak of arithmetic and a bandwidth of memory, and a step waits for one of the two. You write the count of both, the bound that
# follows, the batch at which the sides change, and a function that tells what is wrong with a published number. At the end you measure this
# machine and draw its roofline.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. A multiplication and an addition are two FLOPs; GB are 10^9 bytes, GiB 2^30.

# %%
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lab carries; a copy without an address says what to do. If teachgrade is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that the course can work with stays as it is.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True)

from teachgrade import check

# %% [markdown]
# ## q1. FLOPs and bytes of a product
#
# Write `matmul_cost(m, k, n, bytes_per_number)`: of the product of an (m, k) by a (k, n) matrix, the pair `(flops, bytes)`. Bytes are those that
# must be moved at least: both factors are read once, the result is written once.
#
# <details><summary>Hint</summary>
# Each of the m · n results takes k multiplications and k additions. (That the first addition is to nothing is not counted off.)
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
# Write `time_bound(flops, bytes, peak_flops, bandwidth)`: the pair `(seconds, side)`. If arithmetic and memory work at the same time, and each at its peak, a step
# takes as long as the slower of the two: `side` is `"compute"` or `"memory"`; `"compute"` if both take the same time.
#
# - `peak_flops` is in FLOPs per second, `bandwidth` in bytes per second.


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
# A decode step gives each of `batch` sequences one token. Every weight takes part in one multiplication and addition for each of them, and is read once for
# all. The keys and values of each sequence, `context` tokens with `kv_numbers` numbers each, are read, too; each takes part in `group` multiplications and
# additions, where `group` is how many query heads share it.
#
# Write `decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv)`: the pair `(flops, bytes)`.
#
# <details><summary>Hint</summary>
# The weights' FLOPs grow with the batch, their bytes do not. Of keys and values both grow.
# </details>


# %%
def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    """(FLOPs, bytes) of one token for each of ``batch`` sequences."""
    ### BEGIN SOLUTION
    kv = batch * context * kv_numbers
    return 2 * n_weights * batch + 2 * group * kv, n_weights * bytes_per_weight + kv * bytes_per_kv
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q3", decode_cost)

# %% [markdown]
# ## q4. The critical batch
#
# Write `critical_batch(peak_flops, bandwidth, bytes_per_weight)`: the batch, a float, at which multiplying with the weights takes as long as reading them
# (keys and values left aside). Below it a larger batch costs hardly any time.
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
# Write `utilisation(flops, bytes, seconds, peak_flops, bandwidth)`: the pair `(mfu, mbu)`. MFU, model FLOPs utilisation, is the share of the peak that a step reached in
# `seconds`; MBU, model bandwidth utilisation, the share of the bandwidth. Both are floats; 1.0 is all of it.


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
# Published numbers are often wrong by a factor that gives the mistake away. Write `verdict(claimed, computed)`; both are above 0. With r = claimed / computed:
#
# | if | then |
# | --- | --- |
# | r is within 2 % of 1 | `"right"` |
# | r is within 2 % of 2^30 / 10^9, or of its inverse | `"GB and GiB"` |
# | r is within 2 % of 2, or of a half | `"a factor of two"` |
# | r is within 2 % of 8, or of an eighth | `"bits and bytes"` |
# | else | `"wrong"` |
#
# *Within 2 % of x* means |r / x - 1| at most 0.02.
#
# <details><summary>Hint</summary>
# 2^30 / 10^9 is 1.074: further from 1 than 2 %.
# </details>


# %%
def verdict(claimed, computed):
    """What is wrong with a claimed number, by its ratio to the computed one."""
    ### BEGIN SOLUTION
    ratio = claimed / computed
    factors = {"right": 1, "GB and GiB": 2**30 / 1e9, "a factor of two": 2, "bits and bytes": 8}
    for name, factor in factors.items():
        if any(abs(ratio / x - 1) <= 0.02 for x in (factor, 1 / factor)):
            return name
    return "wrong"
    ### END SOLUTION


# %%
# teachgrade: show
check("roofline.q6", verdict)

# %% [markdown]
# ## q7. Twice the FLOP/s
#
# A new device has twice the FLOP/s of the old one and the same bandwidth. In three or four sentences: who gains, one user's chat, a server with a batch of 8, a
# server at its critical batch, the reading of long prompts? And what happens to the critical batch?
#
# *Your answer here.*

# %% [markdown]
# ## The roofline of this machine
#
# Products of a (batch, 2048) by a (2048, 8192) matrix, for growing batches: what your `matmul_cost` and `utilisation` make of the measured times. The sloping line
# is the bandwidth measured, the level one the largest FLOP/s seen.

# %%
# teachgrade: show
import time

import matplotlib.pyplot as plt
import torch

weights = torch.randn(2048, 8192)
points = []
for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256):
    x = torch.randn(batch, 2048)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        x @ weights
        seconds.append(time.perf_counter() - started)
    flops, moved = matmul_cost(batch, 2048, 8192, 4)
    points.append((batch, flops / moved, flops / min(seconds), moved / min(seconds)))
peak, bandwidth = max(p[2] for p in points), max(p[3] for p in points)
print(
    f"{bandwidth / 1e9:.0f} GB/s, {peak / 1e9:.0f} GFLOP/s, critical batch {critical_batch(peak, bandwidth, 4):.0f}"
)
edge = peak / bandwidth
plt.loglog([0.25, edge, 8 * edge], [0.25 * bandwidth / 1e9, peak / 1e9, peak / 1e9], color="gray")
for batch, intensity, rate, _ in points:
    plt.loglog(intensity, rate / 1e9, "o", color="tab:blue")
    plt.annotate(str(batch), (intensity, rate / 1e9), textcoords="offset points", xytext=(4, -12))
plt.xlabel("FLOPs per byte")
plt.ylabel("GFLOP/s")
plt.title("one point for each batch")
plt.show()
