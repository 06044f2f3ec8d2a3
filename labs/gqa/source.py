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
# convert the bundled multi-head model, and see what its text loses.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. H query heads share Hkv heads of keys and values, H / Hkv neighbours each; D numbers a head, C numbers a token.

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

# %%
import torch

# %% [markdown]
# ## q1. Who reads what
#
# Write `shared_head(head, n_heads, n_kv_heads)`: the number of the key/value head that query head number `head` reads. Neighbours share; all numbers begin at 0.
#
# - If n_kv_heads does not divide n_heads, or there is no such head, raise `ValueError`.


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
# Write `grouped_attention(q, k, v)`: `q` is (B, H, T, D), of the last T of S tokens; `k` and `v` are (B, Hkv, S, D). The result is (B, H, T, D): scores over the root
# of D, no token sees a later one.
#
# - Repeating keys and values for every query head would copy what sharing saves. It is not there when this is graded.
#
# <details><summary>Hint</summary>
# As (B, Hkv, G, T, D), the queries of a group stand side by side. `k[:, :, None]` is (B, Hkv, 1, S, D), and a product stretches the 1 without a copy.
# </details>


# %%
def grouped_attention(q, k, v):
    """Causal attention of H query heads over Hkv shared heads."""
    ### BEGIN SOLUTION
    (B, H, T, D), (Hkv, S) = q.shape, k.shape[1:3]
    q = q.reshape(B, Hkv, H // Hkv * T, D)
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.transpose(-2, -1) / D**0.5).reshape(B, H, T, S)
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
# Write `pool_heads(weight, n_heads, n_kv_heads)`: (H · D, C) to (Hkv · D, C).
#
# <details><summary>Hint</summary>
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
# grouped one with `weight`.
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
# - `kv_bytes_per_token(n_layers, n_kv_heads, head_dim, bytes_per_number)`: bytes of the keys and values of one token, an integer.
# - `attention_intensity(n_heads, n_kv_heads, bytes_per_number)`: FLOPs per byte of attention in a decode step, a float. Of each key and each value, every number
#   takes part in one multiplication and one addition for every query head that shares it, and is read once. (Softmax and queries are left aside.)
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
# tokens, memory_bytes)`: the largest number of key/value heads that divides n_heads and fits; 0 if not even one does.


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
# several devices that each compute some of the heads, and of which part of a step still waits for keys and values.
#
# *Your answer here.*

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

import matplotlib.pyplot as plt

import teachkit as tk

folder = resources.files("teachkit") / "checkpoints"
model = tk.load(str(folder / "multi_head"))
texts = list(json.loads((folder / "bundled" / "heldout.json").read_text(encoding="utf-8")).values())
text, H = [one[:4000] for one in texts[:6]], model.config.n_heads
scores = {}
for n in [n for n in range(H, 0, -1) if H % n == 0]:
    made = copy.deepcopy(model)
    with torch.no_grad():
        for block in made.blocks:
            for projection in (block.attention.k, block.attention.v):
                pooled = pool_heads(projection.weight, H, n)
                # Spread again, so that the same model can run it.
                projection.weight.copy_(spread_heads(pooled, H, n))
    scores[n] = tk.evaluate.bits_per_byte(made, text)
for n, score in scores.items():
    print(f"{n} key/value heads: {score:.3f} bits per byte")
plt.bar([str(n) for n in scores], list(scores.values()))
plt.xlabel("key/value heads")
plt.ylabel("bits per byte of held-out text")
plt.show()
