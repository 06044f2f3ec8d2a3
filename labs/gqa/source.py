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
# # Lab: fewer keys and values
#
# A decode step reads the keys and values of every token so far. If several query heads share one head of keys and values, there is less to read. You write
# attention with shared heads that copies nothing, turn a multi-head projection into a grouped one and back, and count what it saves. At the end you
# time your attention beside one that copies, convert a trained multi-head model, and see what its text loses.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. H query heads share Hkv heads of keys and values, H / Hkv neighbours each: a *group*. B sequences, T queries, S keys, D numbers a
# head, C numbers a token; all numbers begin at 0. Use Python and PyTorch; each answer may build on those above it. `teachkit`, in which all this exists,
# is not there when your answers are graded; only the last cells use it.

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

# %%
import torch

# %% [markdown]
# ## q1. Who reads what
#
# Write `shared_head(head, n_heads, n_kv_heads)`: the number of the key/value head that query head number `head` reads, an integer. Neighbours share: with 8 heads
# over 2, heads 0 to 3 read head 0, and 4 to 7 head 1.
#
# - All are integers, `n_heads` and `n_kv_heads` at least 1. If n_kv_heads does not divide n_heads, or there is no such head, raise `ValueError`.
#
# <details><summary>Hint</summary>
# How many query heads are in a group? Then `//` does the rest.
# </details>


# %%
def shared_head(head, n_heads, n_kv_heads):
    """The key/value head of a query head."""
    ### BEGIN SOLUTION
    if n_heads % n_kv_heads or not 0 <= head < n_heads:
        raise ValueError(f"head {head} of {n_heads} over {n_kv_heads}")
    return head // (n_heads // n_kv_heads)
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q1", shared_head)

# %% [markdown]
# ## q2. Attention without copies
#
# Write `grouped_attention(q, k, v)`: `q` is (B, H, T, D), of the last T of S tokens, T at most S; `k` and `v` are (B, Hkv, S, D), and Hkv divides H. Scores are
# divided by the square root of D, and no token sees a later one.
#
# - The result is (B, H, T, D), in the dtype of `q`. The inputs stay as they are.
# - Repeating keys and values for every query head would copy what sharing saves: `repeat_interleave`, `repeat` and `tile` are not there when this is graded, nor is
#   PyTorch's own `scaled_dot_product_attention`.
#
# <details><summary>Hint</summary>
# The queries of a group all ask the same keys. To these keys it makes no difference whether they are asked by T queries of G heads, or by G · T of one: which `reshape`
# of `q` says so?
# </details>
# <details><summary>A further hint</summary>
# `q.reshape(B, Hkv, G * T, D) @ k.mT` is (B, Hkv, G · T, S). As (B, H, T, S) it takes the mask and the softmax, and goes back the same way for the product with `v`.
# `einsum` with an axis for the group does the same. (`k[:, :, None]`, stretched by a product, looks free, but PyTorch copies the keys to multiply
# them.)
# </details>


# %%
def grouped_attention(q, k, v):
    """Causal attention of H query heads over Hkv shared heads."""
    ### BEGIN SOLUTION
    (B, H, T, D), (Hkv, S) = q.shape, k.shape[1:3]
    q = q.reshape(B, Hkv, H // Hkv * T, D)
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.mT / D**0.5).reshape(B, H, T, S)
    probs = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return (probs.reshape(B, Hkv, -1, S) @ v).reshape(B, H, T, D)
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q2", grouped_attention)

# %% [markdown]
# ## q3. From many heads to few
#
# A trained multi-head model has a projection for keys with H heads: a weight of (H · D, C), the first D rows of which are head 0. To make a grouped model of it,
# [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245) take the *mean* of the heads that will share.
#
# Write `pool_heads(weight, n_heads, n_kv_heads)`: (H · D, C) to (Hkv · D, C), in the dtype of `weight`, a float tensor. Row d of a new head is the mean of the rows d of the
# heads of its group. n_kv_heads divides n_heads; `weight` stays as it is.
#
# <details><summary>Hint</summary>
# Which axes does the first axis of H · D consist of, from the slowest to the fastest? The group is one of them.
# </details>
# <details><summary>A further hint</summary>
# Seen as (Hkv, G, D, C), it is the mean over one axis.
# </details>


# %%
def pool_heads(weight, n_heads, n_kv_heads):
    """(H * D, C) -> (Hkv * D, C): the mean of the heads of each group."""
    ### BEGIN SOLUTION
    C = weight.shape[1]
    return weight.reshape(n_kv_heads, n_heads // n_kv_heads, -1, C).mean(1).reshape(-1, C)
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q3", pool_heads)

# %% [markdown]
# ## q4. And back, exactly
#
# Write `spread_heads(weight, n_heads, n_kv_heads)`: (Hkv · D, C) to (H · D, C), so that a *multi-head* model with the result gives the very same attention as the
# grouped one with `weight`. The dtype is that of `weight`, and n_kv_heads divides n_heads. Here you may repeat.
#
# <details><summary>Hint</summary>
# Each shared head appears once for every query head that reads it, next to itself.
# </details>


# %%
def spread_heads(weight, n_heads, n_kv_heads):
    """(Hkv * D, C) -> (H * D, C): each shared head, once for each of its readers."""
    ### BEGIN SOLUTION
    C = weight.shape[1]
    heads = weight.reshape(n_kv_heads, 1, -1, C)
    return heads.expand(-1, n_heads // n_kv_heads, -1, -1).reshape(-1, C)
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q4", spread_heads)

# %% [markdown]
# ## q5. What a token costs
#
# - `kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number)`: bytes of the keys and values of one token in all layers, an integer.
# - `attention_intensity(n_heads, n_kv_heads, bytes_per_number)`: FLOPs per byte of attention in a decode step of one sequence, a float. Of each key and each value, every
#   number takes part in one multiplication and one addition for every query head that shares it, and is read once. (Softmax and queries are left aside.)
#
# All arguments are integers of at least 1.
#
# <details><summary>Hint</summary>
# For the intensity neither the number of tokens nor D matters: look at one number.
# </details>


# %%
def kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number):
    """Bytes of one token's keys and values in all layers."""
    ### BEGIN SOLUTION
    return 2 * n_layers * n_kv_heads * head_dim * bytes_per_number
    ### END SOLUTION


def attention_intensity(n_heads, n_kv_heads, bytes_per_number):
    """FLOPs per byte of keys and values in a decode step."""
    ### BEGIN SOLUTION
    return 2 * n_heads / n_kv_heads / bytes_per_number
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q5", kv_bytes_per_token, attention_intensity)

# %% [markdown]
# ## q6. How many heads can be kept
#
# A server has `memory_bytes` left for keys and values, and wants to hold `tokens` tokens at a time. Write `most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number,
# tokens, memory_bytes)`: the largest number of key/value heads that divides n_heads and fits, an integer; 0 if not even one does. Memory that is just enough is enough.
#
# <details><summary>Hint</summary>
# Try the numbers from n_heads down, and take the first that divides n_heads and fits.
# </details>


# %%
def most_kv_heads(n_heads, n_layers, head_dim, bytes_per_number, tokens, memory_bytes):
    """The largest divisor of n_heads whose keys and values fit, or 0."""
    ### BEGIN SOLUTION
    for n in range(n_heads, 0, -1):
        fits = tokens * kv_bytes_per_token(n_layers, n, head_dim, bytes_per_number) <= memory_bytes
        if n_heads % n == 0 and fits:
            return n
    return 0
    ### END SOLUTION


# %%
# teachgrade: show
check("gqa.q6", most_kv_heads)

# %% [markdown]
# ## q7. Why not one
#
# One shared head, *multi-query attention*, is the smallest cache. In three or four sentences: why do most models of today keep eight or so instead? Think of quality, of
# several devices that each compute some of the heads, and of which part of a step still waits for keys and values. (A person reads your answer.)
#
# *Your answer here.*

# %% [markdown]
# ## What not copying is worth
#
# A decode step of a model with 32 query heads over 8: your attention, beside one that first repeats keys and values for every query head. Both give the same.

# %%
# teachgrade: show
import time

import matplotlib.pyplot as plt
from teachkit.figures import plots


def with_copies(q, k, v):
    """The slow way: as many heads of keys and values as there are of queries."""
    n = q.shape[1] // k.shape[1]
    return grouped_attention(q, k.repeat_interleave(n, 1), v.repeat_interleave(n, 1))


def best_ms(function, *inputs):
    """Milliseconds of the fastest of several runs; the others had company."""
    took = []
    for _ in range(12):
        start = time.perf_counter()
        function(*inputs)
        took.append(time.perf_counter() - start)
    return 1e3 * min(took)


try:
    lengths, mine, copied = (512, 1024, 2048, 4096, 8192), [], []
    for S in lengths:
        q, k, v = torch.randn(1, 32, 1, 64), torch.randn(1, 8, S, 64), torch.randn(1, 8, S, 64)
        if not torch.allclose(grouped_attention(q, k, v), with_copies(q, k, v), atol=1e-4):
            print("Yours gives something else than with repeated keys: look at q2 again.")
        mine.append(best_ms(grouped_attention, q, k, v))
        copied.append(best_ms(with_copies, q, k, v))
    print("tokens stored   with copies      yours")
    for S, slow, fast in zip(lengths, copied, mine, strict=True):
        print(f"{S:13,} {slow:10.2f} ms {fast:7.2f} ms: {slow / fast:.1f} times as fast")
    with plots.style():
        plt.figure(figsize=(6, 3.5))
        plt.plot(lengths, copied, marker="o", label="keys and values repeated")
        plt.plot(lengths, mine, marker="s", label="your grouped_attention")
        plt.xlabel("tokens stored")
        plt.ylabel("one layer's attention, ms")
        plt.ylim(bottom=0)
        plt.legend()
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q2.")

# %% [markdown]
# ## A real model, with fewer heads
#
# The course has a multi-head sibling of its bundled model. Your `pool_heads` makes its keys and values fewer, without any further training, and the score is bits per byte
# of text that it was not trained on: the lower, the better. (Trained on for a while, it recovers: the lesson shows how far.)

# %%
# teachgrade: show
import copy
import json
from importlib import resources

import teachkit as tk

folder = resources.files("teachkit") / "checkpoints"
model = tk.load(str(folder / "multi_head"))
texts = list(json.loads((folder / "bundled" / "heldout.json").read_text(encoding="utf-8")).values())
text, config = [one[:4000] for one in texts[:6]], model.config


def with_fewer(n):
    """The model with n key/value heads, spread again so that the same code can run it."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for block in made.blocks:
            for projection in (block.attention.k, block.attention.v):
                pooled = pool_heads(projection.weight, config.n_heads, n)
                projection.weight.copy_(spread_heads(pooled, config.n_heads, n))
    return made


try:
    numbers = [n for n in range(config.n_heads, 0, -1) if config.n_heads % n == 0]
    scores = {n: tk.evaluate.bits_per_byte(with_fewer(n), text) for n in numbers}
    for n, score in scores.items():
        size = kv_bytes_per_token(config.n_layers, n, config.head_dim, 2)
        print(f"{n} key/value heads: {size:5,} bytes a token in bf16, {score:.3f} bits per byte")
    with plots.style():
        plt.figure(figsize=(6, 3.5))
        bars = plt.bar([str(n) for n in scores], list(scores.values()))
        plt.bar_label(bars, fmt="%.2f")
        plt.margins(y=0.1)
        plt.xlabel("key/value heads")
        plt.ylabel("bits per byte of held-out text")
        plt.title("Pooled without training: smaller, and worse at once")
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q3, q4 and q5.")
