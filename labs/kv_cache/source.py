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
# # Lab: a cache for keys and values
#
# A decoder that writes one token at a time computes the same keys and values again and again, unless it keeps
# them. You build what keeps them, attend to it, and write with it; and you count what it costs.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked, and the mark comes from more, of other sizes. Shapes are written as in the course: B sequences,
# H heads, T new tokens, S tokens in all, D numbers a head. All tensors are float32; sums may be added up in any order, last
# digits that differ for that reason do not count. Do not change the tensors that your functions are given.

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
# ## q1. Store, and give back
#
# Write the class `KVCache`.
#
# - `KVCache(batch, heads, capacity, dim)` reserves memory for keys and values of `capacity` tokens, in float32.
# - `append(k, v)`: both are (batch, heads, T, dim), T at least 1. It stores them behind what is there, and returns all keys
#   and all values so far, each (batch, heads, S, dim).
# - `length` is the number of tokens stored, S.
# - The tensors it is given may be changed afterwards by whoever gave them; what is stored must not change with them. What
#   `append` returns may share memory with the cache: it is only read.
# - Memory is reserved once. Joining tensors copies the whole past at every step; `torch.cat` and `torch.stack` are not
#   there while this question is graded.
#
# Leave `truncate`, and what happens when the cache is full, for q2.
#
# <details><summary>Hint</summary>
# Two tensors of zeros, and a slice of the third axis that moves along.
# </details>
#
# <details><summary>Another hint</summary>
# With `end = self.length + k.shape[2]`, the new keys belong into `self.k[:, :, self.length : end]`, and what is to be
# returned ends at `end`.
# </details>


# %%
class KVCache:
    """Keys and values of up to ``capacity`` tokens."""

    def __init__(self, batch, heads, capacity, dim):
        """Reserve the memory."""
        ### BEGIN SOLUTION
        self.k = torch.zeros(batch, heads, capacity, dim)
        self.v = torch.zeros(batch, heads, capacity, dim)
        self.capacity = capacity
        self.length = 0
        ### END SOLUTION

    def append(self, k, v):
        """Store (B, H, T, D) more keys and values; all of them so far, (B, H, S, D)."""
        ### BEGIN SOLUTION
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"cache: expected at most {self.capacity} tokens, got {end}")
        self.k[:, :, self.length : end] = k
        self.v[:, :, self.length : end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]
        ### END SOLUTION

    def truncate(self, length):
        """Forget all but the first tokens."""
        ### BEGIN SOLUTION
        if not 0 <= length <= self.length:
            raise ValueError(f"length: expected 0 to {self.length}, got {length}")
        self.length = length
        ### END SOLUTION


# %%
# teachgrade: show
check("kv_cache.q1", KVCache)

# %% [markdown]
# ## q2. Full, and back again
#
# Two more things that your class must do.
#
# - `append` raises `ValueError` if the new tokens do not all fit, and then nothing has changed: what was stored is
#   still there, `length` is what it was, and a smaller `append` may follow. A cache of `capacity` tokens holds `capacity`.
# - `truncate(length)` forgets all but the first `length` tokens; new ones then take the place of the forgotten. It returns
#   nothing. A length below 0 or above what is stored raises `ValueError`.
#
# Both are written in the class above: go back to it, run its cell again, and then the check below. (What is it good for?
# Speculative decoding writes some tokens on trial and takes back those that it does not keep.)
#
# <details><summary>Hint</summary>
# Look before you write. To forget, nothing has to be erased.
# </details>

# %%
# teachgrade: show
check("kv_cache.q2", KVCache)

# %% [markdown]
# ## q3. Where a new token stands
#
# Keys and queries are rotated by their position before they are used: numbers i and i + D/2 of each are turned together,
# by the angle position / 10000^(2i/D), for i from 0 to D/2 - 1. With a cache, a step sees only the new tokens, and it is
# easy to forget that they are not the first.
#
# Write `rotate(x, start)`.
#
# - `x` is (B, H, T, D), D even, and its first token stands at position `start`, an integer from 0 on, the next at
#   `start + 1`, and so on. The result has the same shape.
# - With a the first D/2 numbers of a token and b the others, the first half of the result is a cos - b sin, the second
#   b cos + a sin.
#
# <details><summary>Hint</summary>
# The positions are `start`, `start + 1`, …: a tensor of T numbers. Times D/2 frequencies, that is a (T, D/2) table of
# angles.
# </details>
#
# <details><summary>Another hint</summary>
# With `half = D // 2`, 2i/D is i/half: `10000.0 ** (-torch.arange(half) / half)` are the frequencies. A column of
# positions, `torch.arange(start, start + T)[:, None]`, times these is the table; it broadcasts over B and H.
# </details>


# %%
def rotate(x, start):
    """(B, H, T, D) turned by the positions start, start + 1, ..."""
    ### BEGIN SOLUTION
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half) / half)
    angles = torch.arange(start, start + x.shape[2])[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    ### END SOLUTION


# %%
# teachgrade: show
check("kv_cache.q3", rotate)

# %% [markdown]
# ## q4. Attend to the past
#
# Write `attend_cached(q, k, v, cache)`: `q`, `k` and `v` are (B, H, T, D), of T new tokens, rotated already. Store the new
# keys and values in the cache (your `KVCache`), and return attention of the new queries over everything stored,
# (B, H, T, D).
#
# - Scores are divided by the square root of D. Every token sees itself and all before it, and no later one: T may be 1, the
#   whole of a prompt, or a part in the middle.
# - Storing token by token, in parts, or all at once must give the same.
# - You may use `softmax` and `scaled_dot_product_attention` of PyTorch. (Its `is_causal=True` is not what you need here: it
#   takes the first query for the first token.)
#
# <details><summary>Hint</summary>
# New query number i is token number S - T + i of the S now stored.
# </details>
#
# <details><summary>Another hint</summary>
# The mask is (T, S): compare `torch.arange(S)`, the keys, with a column of the queries' places. Scores that are masked
# become minus infinity before the softmax.
# </details>


# %%
def attend_cached(q, k, v, cache):
    """Attention (B, H, T, D) of T new tokens over those in the cache and themselves."""
    ### BEGIN SOLUTION
    k, v = cache.append(k, v)
    T, S = q.shape[2], k.shape[2]
    seen = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v
    ### END SOLUTION


# %%
# teachgrade: show
check("kv_cache.q4", attend_cached, KVCache)

# %% [markdown]
# ## q5. Every token once
#
# Here is a model that remembers what it has been fed, as a model with a cache does. `feed(tokens)` takes a list of new
# tokens, all behind those that it has been fed before, and returns the scores of the next token, one for each entry of its
# vocabulary. It counts its work: tokens in `fed`, calls in `calls`. You need not understand how it computes; leave the
# cell as it is.


# %%
class ToyModel:
    """Scores that depend on all tokens fed so far, in order."""

    def __init__(self, seed, vocabulary=17):
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(vocabulary, vocabulary, generator=generator)
        self.state, self.fed, self.calls = torch.zeros(vocabulary), 0, 0

    def feed(self, tokens):
        self.calls += 1
        for token in tokens:
            self.fed += 1
            self.state = torch.tanh(0.7 * self.state.roll(1) + self.table[token])
        return self.state.clone()


# %% [markdown]
# Write `generate(model, prompt, n_new, end)`: the next `n_new` tokens, greedily, as a list of integers. `prompt` is a list
# of at least one token; greedily means that the token of the highest score is taken.
#
# - The prompt goes in with one call, and then every new token with a call of its own, once. The last token of the list need
#   not be fed, and must not be: nobody asks what comes after it.
# - The list holds the new tokens alone, without the prompt.
# - If the token `end` is chosen, it is the last one of the list, however many were asked for.
# - With `n_new` = 0 the list is empty, and the model is fed nothing.
#
# <details><summary>Hint</summary>
# Which call gives the first new token? How many calls does it take for three?
# </details>
#
# <details><summary>Another hint</summary>
# Keep a list of what has to be fed next: first it is the prompt, and from then on the one token just chosen. Then the loop
# has a single line that calls `model.feed`.
# </details>


# %%
def generate(model, prompt, n_new, end):
    """Up to n_new tokens after the prompt, greedily; ``end`` is the last if it comes."""
    ### BEGIN SOLUTION
    out, new = [], list(prompt)
    while len(out) < n_new:
        new = [int(model.feed(new).argmax())]
        out += new
        if new == [end]:
            break
    return out
    ### END SOLUTION


# %%
# teachgrade: show
check("kv_cache.q5", generate, ToyModel)

# %% [markdown]
# ## q6. What it costs
#
# Write two functions. All they are given are integers from 1 on (`weight_bytes` may be 0), and so are the results.
#
# - `kv_bytes(n_layers, n_kv_heads, head_dim, tokens, batch, bytes_per_number)`: bytes of all keys and values of `batch`
#   sequences of `tokens` tokens each.
# - `largest_batch(memory_bytes, weight_bytes, n_layers, n_kv_heads, head_dim, tokens, bytes_per_number)`: how many sequences
#   of `tokens` tokens fit into the memory beside the weights; 0 if not even one does, or the weights do not fit.
#
# <details><summary>Hint</summary>
# Each token has a key *and* a value, in each layer, for each key/value head. For the second function, what is left beside
# the weights, over what one sequence takes.
# </details>


# %%
def kv_bytes(n_layers, n_kv_heads, head_dim, tokens, batch, bytes_per_number):
    """Bytes of the keys and values of ``batch`` sequences of ``tokens`` tokens."""
    ### BEGIN SOLUTION
    return 2 * n_layers * n_kv_heads * head_dim * tokens * batch * bytes_per_number
    ### END SOLUTION


def largest_batch(memory_bytes, weight_bytes, n_layers, n_kv_heads, head_dim, tokens, bytes_per_number):
    """Sequences whose keys and values fit beside the weights."""
    ### BEGIN SOLUTION
    one = kv_bytes(n_layers, n_kv_heads, head_dim, tokens, 1, bytes_per_number)
    return max(0, (memory_bytes - weight_bytes) // one)
    ### END SOLUTION


# %%
# teachgrade: show
check("kv_cache.q6", kv_bytes, largest_batch)

# %% [markdown]
# ## q7. As fast as it should be
#
# Nothing new to write: your `attend_cached` and `KVCache` again. With some 500 tokens stored, a step of one token has to
# take at most half of the time that attention of all tokens takes. A cache that is right takes a small part of it; one that
# computes the past again, or goes through it token by token in Python, does not.
#
# When this is graded, sixteen such steps are timed, from outside, in turns with a solution that computes everything again
# on the same machine. The check below looks at the values alone; the figure at the end shows the time.

# %%
# teachgrade: show
check("kv_cache.q7", attend_cached, KVCache)

# %% [markdown]
# ## q8. When it does not help
#
# Name two cases in which a KV cache saves little or no time, and say for each, in a sentence or two, why. (The figure
# below may help: look at its left end.)
#
# *Your answer here.*

# %% [markdown]
# ## Your cache in a real model
#
# Below, the bundled model gets a `feed` as in q5, once with your `KVCache` and `attend_cached` in each of its layers, and
# once without any cache, so that every step computes everything again. Your `generate` writes 128 tokens with both. (The
# model has grouped queries; each key/value head is repeated here before it is stored, since your cache is made for as many
# heads as there are queries. The model rotates by itself.)

# %%
# teachgrade: show
import time

import matplotlib.pyplot as plt
import teachkit as tk


def ready(**answers):
    """Whether these answers pass their checks; if not, it says which do not."""
    missing = [q for q, answer in answers.items() if not check(f"kv_cache.{q}", *answer)]
    if missing:
        print(f"Not yet: {', '.join(missing)} should pass the check first.")
    return not missing


class YourStep:
    """One pass over the n new tokens, with your cache in every layer."""

    def __init__(self, caches, n):
        start = caches[0].length
        self.positions = torch.arange(start, start + n)[None]
        self.valid = torch.ones(1, n, dtype=torch.bool)
        self.caches = caches

    def layer(self, index):
        return YourLayer(self.caches[index])


class YourLayer:
    def __init__(self, cache):
        self.cache = cache

    def attend(self, q, k, v, *, scale=None):
        n = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
        return attend_cached(q, k, v, self.cache)


class Timed:
    """The bundled model behind ``feed``, with your caches or without any; it notes the work."""

    def __init__(self, cached):
        shape = (1, config.n_heads, 256, config.head_dim)
        self.caches = [KVCache(*shape) for _ in range(config.n_layers)] if cached else []
        self.tokens, self.seconds, self.computed = [], [], 0

    @torch.inference_mode()
    def feed(self, tokens):
        started = time.perf_counter()
        self.tokens = self.tokens + tokens
        new, step = self.tokens, None
        if self.caches:
            new, step = tokens, YourStep(self.caches, len(tokens))
        scores = model(torch.tensor([new]), step=step, last_only=True)[0, -1]
        self.seconds.append(time.perf_counter() - started)
        self.computed += len(new)
        return scores


model = tk.load("bundled")
config = model.config
if ready(q4=(attend_cached, KVCache), q5=(generate, ToyModel), q6=(kv_bytes, largest_batch)):
    prompt = model.tokenizer.encode("def mean(values):\n    ")
    torch.set_num_threads(1)  # such small steps gain little from a second core
    for cached in (True, False):
        generate(Timed(cached), prompt, 4, -1)  # the first calls of a process are slow
    models = {"with your cache": Timed(True), "without a cache": Timed(False)}
    texts = {name: generate(timed, prompt, 128, -1) for name, timed in models.items()}
    print(model.tokenizer.decode(prompt + texts["with your cache"])[:200], "...\n")
    one, other = texts.values()
    print("the same text with and without:", one == other)
    for name, timed in models.items():
        print(f"{name}: {timed.computed:,} tokens computed in {sum(timed.seconds):.2f} s")
    faster = sum(models["without a cache"].seconds) / sum(models["with your cache"].seconds)
    held = len(prompt) + 128 - 1
    stored = {"as stored here": config.n_heads, "without the repeated heads": config.n_kv_heads}
    for what, heads in stored.items():
        n_bytes = kv_bytes(config.n_layers, heads, config.head_dim, held, 1, 4)
        print(f"bytes held at the end, {what}: {n_bytes:,}")

    plt.figure(figsize=(7, 4), layout="constrained")
    for name, timed in models.items():
        plt.plot(range(1, 129), [1e3 * s for s in timed.seconds], label=name)
    plt.title(f"128 tokens, {faster:.1f} times as fast with your cache")
    plt.xlabel("new token")
    plt.ylabel("milliseconds")
    plt.ylim(bottom=0)
    plt.legend()
    plt.show()
