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
# part of what is checked; what is checked for the mark uses other sizes and the corners of each description. Shapes
# are written as in the course: B sequences, H heads, T queries, S keys, D numbers a head. Sums may be added up in any
# order: last digits that differ for that reason do not count. Do not change the tensors that your functions are given.

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
# ## q1. A softmax that does not overflow
#
# Write `softmax(x)`: e to the x, divided by the sum of these along the last axis.
#
# - `x` is a float tensor of any shape; the result has the same shape and dtype.
# - Large numbers must not become `inf` or `nan`: of `[1000., 1000.]` it is `[0.5, 0.5]`. That holds for each row by
#   itself, however far it lies from the others.
# - You may use `exp`, `sum`, `max` and the like. PyTorch's own `softmax`, `log_softmax` and `logsumexp` are not there
#   while this question is graded; from q2 on they are.
#
# <details><summary>Hint</summary>
# Adding the same number to all entries of a row changes nothing in the result. Which number makes every exponent
# at most 0?
# </details>
#
# <details><summary>Another hint</summary>
# `x.amax(-1, keepdim=True)` has one number for each row, and keeps the axis, so that it can be taken away from `x`. The
# sum needs `keepdim=True` for the same reason.
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
# - `q` is (B, H, T, D), `k` is (B, H, S, D), both floats of one dtype; the result is (B, H, T, S), of that dtype.
#
# <details><summary>Hint</summary>
# It is one matrix product, of `q` and of `k` with its last two axes exchanged: `k.mT`, or `k.transpose(-2, -1)`.
# </details>


# %%
def scaled_scores(q, k):
    """(B, H, T, D) and (B, H, S, D) -> (B, H, T, S): q k^T / sqrt(D)."""
    ### BEGIN SOLUTION
    return q @ k.mT / q.shape[-1] ** 0.5
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
#
# <details><summary>Another hint</summary>
# Compare a row of S key numbers, `torch.arange(S)`, with a column of T token numbers; `[:, None]` makes a column.
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
# - Large scores must not overflow.
# - You may use `Tensor.softmax`, or your own functions above. PyTorch's own `scaled_dot_product_attention` and
#   `MultiheadAttention` are not there while this question and the next two are graded.
#
# <details><summary>Hint</summary>
# A score of minus infinity becomes a weight of 0. A row that holds nothing else has a maximum of minus infinity:
# what is `-inf - -inf`?
# </details>
#
# <details><summary>Another hint</summary>
# Mask twice: the scores before the softmax, with minus infinity, and the weights after it, with 0, which also takes the
# place of every `nan`. (`masked_fill` fills where its mask is `True`.)
# </details>


# %%
def attention(q, k, v, mask):
    """(B, H, T, D): the values, weighed by the softmax of the scores of what is seen."""
    ### BEGIN SOLUTION
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).masked_fill(~mask, 0)
    return weights @ v
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
# - `mask` is (T, S), boolean, as in q4, and lets every query see at least one key. The result is (B, H, T, D), in the
#   dtype of `q`.
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
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ v
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
# - `OnlineAttention(q)`: `q` is (T, D), float32 or float64.
# - `add(k, v)`: one more block of keys and values, each (n, D), n at least 1, of the dtype of `q`. Returns nothing.
# - `result()`: attention over all blocks added so far, (T, D), in the dtype of `q`. It may be asked for at any time
#   after the first block, and more blocks may come after.
# - Scores are divided by the square root of D, and may be large. There is no mask.
# - Between calls it should hold no more than a few tensors of the size of `q`; keeping all keys and values would be
#   beside the point.
#
# <details><summary>Hint</summary>
# If the maximum rises from m to M, every weight computed before was e^(M - m) times too large.
# </details>
#
# <details><summary>Another hint</summary>
# Start with a maximum of minus infinity for each query, (T, 1), and with sums of 0. A block then takes five lines: its
# scores; the new maximum; the weights e^(scores - new maximum); the factor e^(old maximum - new maximum); and both sums,
# each times that factor, plus what the block brings.
# </details>
#
# <details><summary>A third hint</summary>
# `result()` divides the one sum by the other. Nothing else is left to do there, so blocks may come afterwards.
# </details>


# %%
class OnlineAttention:
    """Attention of T queries over keys and values that come block by block."""

    def __init__(self, q):
        """q: (T, D)."""
        ### BEGIN SOLUTION
        self.q = q / q.shape[1] ** 0.5
        self.highest = q.new_full((len(q), 1), -torch.inf)
        self.total = q.new_zeros(len(q), 1)
        self.mixed = torch.zeros_like(q)
        ### END SOLUTION

    def add(self, k, v):
        """One more block of keys and values, each (n, D)."""
        ### BEGIN SOLUTION
        scores = self.q @ k.T
        highest = torch.maximum(self.highest, scores.amax(1, keepdim=True))
        weights, fade = (scores - highest).exp(), (self.highest - highest).exp()
        self.total = self.total * fade + weights.sum(1, keepdim=True)
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
# The bundled model has grouped attention in each of its six layers: four query heads over two heads of keys and values.
# The next cell puts your `grouped_attention` and `causal_mask` in its place, lets the model write, and compares with what
# it writes by itself.

# %%
# teachgrade: show
import matplotlib.pyplot as plt
import teachkit as tk


def ready(**answers):
    """Whether these answers pass their checks; if not, it says which do not."""
    missing = [q for q, answer in answers.items() if not check(f"attention.{q}", answer)]
    if missing:
        print(f"Not yet: {', '.join(missing)} should pass the check first.")
    return not missing


class YourLayer:
    """One layer's attention: keys and values so far, and your function over them."""

    def __init__(self):
        self.calls = []

    def attend(self, q, k, v, *, scale=None):
        if self.calls:
            _, past_k, past_v = self.calls[-1]
            k, v = torch.cat((past_k, k), 2), torch.cat((past_v, v), 2)
        self.calls.append((q, k, v))
        return grouped_attention(q, k, v, causal_mask(q.shape[2], k.shape[2]))


class YourStep:
    """One pass of new tokens through the model, the first of them at position ``start``."""

    def __init__(self, start, n, layers):
        self.positions = torch.arange(start, start + n)[None]
        self.valid = torch.ones(1, n, dtype=torch.bool)
        self.layers = layers

    def layer(self, index):
        return self.layers[index]


@torch.inference_mode()
def write(tokens, n_new, yours):
    """The tokens with n_new more, each the likeliest; the layers, for what they have seen."""
    layers = [YourLayer() for _ in range(model.config.n_layers)]
    held, new = 0, tokens
    for _ in range(n_new):
        if yours:
            logits = model(torch.tensor([new]), step=YourStep(held, len(new), layers))
        else:
            logits = model(torch.tensor([tokens]))
        held, new = held + len(new), [int(logits[0, -1].argmax())]
        tokens = tokens + new
    return tokens, layers


model = tk.load("bundled")
prompt = model.tokenizer.encode("def mean(values):\n    ")
if ready(q3=causal_mask, q5=grouped_attention):
    text, layers = write(prompt, 32, yours=True)
    print(model.tokenizer.decode(text))
    by_itself, _ = write(prompt, 32, yours=False)
    print("\nthe same as the model writes by itself:", text == by_itself)

# %% [markdown]
# What did its heads look at? Below are the weights that three of its 24 heads gave, computed with your `scaled_scores`,
# `causal_mask` and `softmax` from the queries and keys of the text above: those of all heads that look most at the token
# before, at the first token, and at what came after an earlier copy of the token (which is how a model repeats itself). A
# row is a query; its weights add up to 1. Nothing is to the right of the diagonal: that is your mask.

# %%
# teachgrade: show
if ready(q1=softmax, q2=scaled_scores, q3=causal_mask, q5=grouped_attention):
    n = min(len(text) - 1, 30)
    q = torch.cat([torch.cat([q for q, _, _ in layer.calls], 2) for layer in layers])[:, :, :n]
    k = torch.cat([layer.calls[-1][1] for layer in layers])[:, :, :n].repeat_interleave(2, 1)
    hidden = torch.zeros(n, n).masked_fill(~causal_mask(n, n), -torch.inf)
    weights = softmax(scaled_scores(q, k) + hidden)  # (layers, heads, n, n)
    tokens = torch.tensor(text[:n])
    copy = (tokens[:, None] == tokens.roll(1)) & (torch.arange(n) > 0) & causal_mask(n, n)
    after_copy = (weights * copy).sum((2, 3)) / copy.any(1).sum()
    shares = {
        "the token before": weights.diagonal(-1, 2, 3).mean(-1),
        "the first token": weights[..., 2:, 0].mean(-1),
        "what came after\nan earlier copy of the token": after_copy,
    }
    labels = [repr(model.tokenizer.decode([token]))[1:-1] for token in text[:n]]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), layout="constrained")
    for axis, (what, share) in zip(axes, shares.items(), strict=True):
        layer, head = divmod(int(share.argmax()), model.config.n_heads)
        image = axis.imshow(weights[layer, head], vmin=0, vmax=1, cmap="Blues")
        axis.set_title(f"layer {layer}, head {head}\n{share.max():.0%} on {what}")
        axis.set_xticks(range(n), labels, rotation=90, fontsize=6)
        axis.set_yticks(range(n), labels, fontsize=6)
        axis.set_xlabel("key")
    axes[0].set_ylabel("query")
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    plt.show()

# %% [markdown]
# And the last piece: the last token's attention in the last layer, with your `OnlineAttention`, which sees four keys at a
# time and never all the scores.

# %%
# teachgrade: show
if ready(q3=causal_mask, q5=grouped_attention, q6=OnlineAttention):
    q, k, v = (x[0, 0] for x in layers[-1].calls[-1])
    online = OnlineAttention(q)
    for start in range(0, len(k), 4):
        online.add(k[start : start + 4], v[start : start + 4])
    whole = (q @ k.T / k.shape[1] ** 0.5).softmax(-1) @ v
    error = (online.result() - whole).abs().max()
    print(f"{len(k)} keys in blocks of 4; largest difference {error:.1e}")
