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
# # Lab: attention, from its sum to its blocks
#
# In the lesson you watched attention being built. Here you build it, in six pieces, the last of which is the idea
# behind FlashAttention: never hold all the scores at once. At the end your code takes the place of the attention
# in the bundled model, and the model writes with it.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. Shapes are written as in the course: B sequences, H heads, T queries, S keys, D numbers
# a head.

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
# ## q1. A softmax that does not overflow
#
# Write `softmax(x)`: e to the x, divided by the sum of these along the last axis.
#
# - `x` is a float tensor of any shape; the result has the same shape and dtype.
# - Large numbers must not become `inf` or `nan`: `softmax([1000., 1000.])` is `[0.5, 0.5]`.
# - You may use `exp`, `sum`, `max` and the like, but not PyTorch's own softmax.
#
# <details><summary>Hint</summary>
# Adding the same number to all entries of a row changes nothing in the result. Which number makes every exponent
# at most 0?
# </details>


# %%
def softmax(x):
    """exp(x) / sum of exp(x) along the last axis, for x however large."""
    ### BEGIN SOLUTION
    weights = (x - x.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)
    ### END SOLUTION


# %%
# teachgrade: show
check("attention.q1", softmax)

# %% [markdown]
# ## q2. How well each query matches each key
#
# Write `scaled_scores(q, k)`: the dot product of every query with every key, divided by the square root of D.
#
# - `q` is (B, H, T, D), `k` is (B, H, S, D); the result is (B, H, T, S).
#
# <details><summary>Hint</summary>
# It is one matrix product, of `q` and of `k` with its last two axes exchanged.
# </details>


# %%
def scaled_scores(q, k):
    """(B, H, T, D) and (B, H, S, D) -> (B, H, T, S): q k^T / sqrt(D)."""
    ### BEGIN SOLUTION
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    ### END SOLUTION


# %%
# teachgrade: show
check("attention.q2", scaled_scores)

# %% [markdown]
# ## q3. Who may see whom
#
# While a model writes, T new tokens ask, and S tokens are there, the new ones included: they are the last T of the
# S. Write `causal_mask(T, S)`: a boolean tensor (T, S), `True` where the query may see the key. No token sees one
# that comes after it; every token sees itself.
#
# - T is at least 1 and at most S; otherwise raise `ValueError`.
#
# <details><summary>Hint</summary>
# Query number i is token number S - T + i.
# </details>


# %%
def causal_mask(T, S):
    """(T, S), True where query i, which is token S - T + i, may see key j."""
    ### BEGIN SOLUTION
    if not 1 <= T <= S:
        raise ValueError(f"T: expected 1 to {S}, got {T}")
    return torch.arange(S) <= torch.arange(S - T, S)[:, None]
    ### END SOLUTION


# %%
# teachgrade: show
check("attention.q3", causal_mask)

# %% [markdown]
# ## q4. Attention with a mask
#
# Write `attention(q, k, v, mask)`: for each query the mean of the values, weighed by the softmax of its scores.
#
# - `q` is (B, H, T, D), `k` and `v` are (B, H, S, D); `mask` is boolean, of a shape that broadcasts to
#   (B, H, T, S), `True` where a query may see a key. The result is (B, H, T, D), in the dtype of `q`.
# - What is masked weighs exactly nothing, whatever its score.
# - A query that may see no key at all gets zeros, not `nan`.
# - The inputs stay as they are.
# - PyTorch's own `scaled_dot_product_attention` is not there when this is graded.
#
# <details><summary>Hint</summary>
# A score of minus infinity becomes a weight of 0. A row that holds nothing else has a maximum of minus infinity:
# what is `-inf - -inf`?
# </details>


# %%
def attention(q, k, v, mask):
    """(B, H, T, D): the values, weighed by the softmax of the scores of those keys that may be seen."""
    ### BEGIN SOLUTION
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    highest = scores.amax(-1, keepdim=True)
    weights = (scores - highest.masked_fill(highest == -torch.inf, 0)).exp()
    total = weights.sum(-1, keepdim=True)
    return weights @ v / total.masked_fill(total == 0, 1)
    ### END SOLUTION


# %%
# teachgrade: show
check("attention.q4", attention)

# %% [markdown]
# ## q5. Query heads that share keys and values
#
# In most models of today several query heads share one head of keys and values, which makes the cache smaller. Write
# `grouped_attention(q, k, v, mask)` for `q` of (B, H, T, D) and `k`, `v` of (B, Hkv, S, D), where H is a multiple of
# Hkv, and neighbouring query heads share: with H = 4 and Hkv = 2, heads 0 and 1 read the first, 2 and 3 the second.
#
# - `mask` is (T, S), boolean. The result is (B, H, T, D).
# - If H is no multiple of Hkv, raise `ValueError`.
# - It need not use your `attention`, but it may.
#
# <details><summary>Hint</summary>
# `repeat_interleave` repeats each head, `repeat` repeats all of them in turn. Which of the two has neighbours
# share?
# </details>


# %%
def grouped_attention(q, k, v, mask):
    """Attention where H / Hkv neighbouring query heads share one head of k and v."""
    ### BEGIN SOLUTION
    n_query, n_shared = q.shape[1], k.shape[1]
    if n_query % n_shared:
        raise ValueError(f"q: expected a multiple of {n_shared} heads, got {n_query}")
    k, v = (x.repeat_interleave(n_query // n_shared, 1) for x in (k, v))
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights @ v / weights.sum(-1, keepdim=True)
    ### END SOLUTION


# %%
# teachgrade: show
check("attention.q5", grouped_attention)

# %% [markdown]
# ## q6. One block of keys at a time
#
# The scores of 8,192 queries and keys are 67 million numbers a head: too many to write to memory and read again. A
# kernel such as FlashAttention visits the keys in blocks and keeps, for each query, only three things: the highest
# score so far, the sum of the weights so far, and the sum of the values so weighed. When a block brings a higher
# score, what was summed before is scaled down.
#
# Write the class `OnlineAttention`.
#
# - `OnlineAttention(q)`: `q` is (T, D).
# - `add(k, v)`: one more block of keys and values, each (n, D), n at least 1. Returns nothing.
# - `result()`: attention over all blocks added so far, (T, D). It may be asked for at any time after the first
#   block, and more blocks may come after.
# - Scores are divided by the square root of D. Between calls it holds no more than a few tensors of the size of `q`:
#   it must not keep the keys or the values.
#
# <details><summary>Hint</summary>
# If the maximum rises from m to M, every weight computed before was e^(M - m) times too large.
# </details>


# %%
class OnlineAttention:
    """Attention of T queries over keys and values that come block by block."""

    def __init__(self, q):
        """q: (T, D)."""
        ### BEGIN SOLUTION
        self.q = q / q.shape[-1] ** 0.5
        self.highest = torch.full((len(q), 1), -torch.inf, dtype=q.dtype)
        self.total = torch.zeros(len(q), 1, dtype=q.dtype)
        self.mixed = torch.zeros_like(q)
        ### END SOLUTION

    def add(self, k, v):
        """One more block of keys and values, each (n, D)."""
        ### BEGIN SOLUTION
        scores = self.q @ k.T
        highest = torch.maximum(self.highest, scores.amax(-1, keepdim=True))
        weights, fade = (scores - highest).exp(), (self.highest - highest).exp()
        self.total = self.total * fade + weights.sum(-1, keepdim=True)
        self.mixed = self.mixed * fade + weights @ v
        self.highest = highest
        ### END SOLUTION

    def result(self):
        """(T, D): attention over all blocks added so far."""
        ### BEGIN SOLUTION
        return self.mixed / self.total
        ### END SOLUTION


# %%
# teachgrade: show
check("attention.q6", OnlineAttention)

# %% [markdown]
# ## q7. Why the scores are divided
#
# In three or four sentences: what happens to the weights if the scores are *not* divided by the square root of D,
# for D = 64 and queries and keys whose entries have variance 1? Say how large a score then typically is, and what
# the softmax of such scores looks like.
#
# *Your answer here.*

# %% [markdown]
# ## Your attention in a real model
#
# The bundled model has a grouped attention in each of its layers. The cell below puts yours in its place.

# %%
# teachgrade: show
import teachkit as tk


class YourView:
    """What a layer asks for: keys and values so far, and attention over them."""

    def __init__(self):
        self.past = None

    def attend(self, q, k, v, *, scale=None):
        self.past = (k, v) if self.past is None else tuple(torch.cat(x, 2) for x in zip(self.past, (k, v)))
        return grouped_attention(q, *self.past, causal_mask(q.shape[2], self.past[0].shape[2]))


class YourStep:
    def __init__(self, start, n, views):
        self.positions = torch.arange(start, start + n)[None]
        self.valid = torch.ones(1, n, dtype=torch.bool)
        self.views = views

    def layer(self, index):
        return self.views[index]


model = tk.load("bundled")
views = [YourView() for _ in range(model.config.n_layers)]
tokens = model.tokenizer.encode("def mean(values):\n    ")
held, new = 0, tokens
with torch.inference_mode():
    for _ in range(32):
        logits = model(torch.tensor([new]), step=YourStep(held, len(new), views))
        held += len(new)
        new = [int(logits[0, -1].argmax())]
        tokens = tokens + new
print(model.tokenizer.decode(tokens))
