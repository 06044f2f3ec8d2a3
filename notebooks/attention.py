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
#     stem: attention
#     modules: [attention, maps]
#     objectives:
#       - Write scaled dot-product attention as a loop and as one line, and show that both agree with PyTorch
#       - Say what dividing by the square root of D is for, and measure what happens without it
#       - Mask the future for any number of queries and keys, and test that nothing leaks
#       - Share key/value heads between query heads, and run a trained model on attention that you wrote
#       - Find out by computation what a head of a trained model reads, on text of your own
#       - Count the FLOPs and bytes of attention for T tokens, and for one more
#     minutes: 75
#     lab: attention
# ---

# %% [markdown]
# # Attention: what one token reads
#
# A language model has read 1,000 tokens. For every pair of them, each attention head holds a weight: how much the one reads from the other. In one head that is a table of a million weights. Now one more token arrives.
# **How many of the million weights change?**
#
# Write a number down. At the end of this lesson you will count them, on a trained model.
#
# **Afterwards you can**
#
# - write scaled dot-product attention as a loop and as one line, and show that both agree with PyTorch;
# - say what dividing by $\sqrt{D}$ is for, and measure what happens without it;
# - mask the future for any number of queries and keys, and test that nothing leaks;
# - share key/value heads between query heads, and run a trained model on attention that you wrote;
# - find out by computation what a head of a trained model reads, on text of your own;
# - count the FLOPs and bytes of attention for $T$ tokens, and for one more.
#
# **You need** Python, and PyTorch tensors as far as `@`, broadcasting and `softmax`. No GPU, and no network once
# `teachkit` is installed. Allow an hour and a quarter, and as much again for the exercises. The letters are those of the
# book's notation page: $B$ sequences in a batch, $T$ queries, $S$ keys, $H$ query heads, $H_{kv}$ key/value heads,
# $D$ numbers in a query or a key, $C$ numbers in a token's vector, $L$ layers, $V$ tokens in the vocabulary.

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
import json
import math
import time
from importlib import resources

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch import nn

import teachkit as tk
from teachkit import figures


started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. A dictionary that answers with a mixture
#
# A Python dictionary compares the key you ask for with the keys it holds, and hands back the value of the one that is
# equal. Attention keeps that shape and changes two things. Instead of `==` it takes a dot product, so every key
# matches to some degree. And instead of one value it hands back the mean of all of them, weighted by how well their
# keys match.
#
# Three tokens have been read. Each left a *key* (here four numbers) and a *value* (here two). A *query* asks:

# %%
query = torch.tensor([1.0, 1.0, 0.0, 0.0])
keys = torch.tensor([[0.0, 0.0, 3.0, 0.0], [2.0, 0.0, 0.0, 1.0], [2.0, 2.0, 0.0, 0.0]])
values = torch.tensor([[10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])

scores = keys @ query / 2  # the 2 is the square root of 4; section 3 says why
print(scores.tolist())

# %% [markdown]
# Scores become *attention weights* by the softmax: $e$ to the power of each, divided by their sum.
#
# $$w_j = \frac{e^{s_j}}{\sum_{j'} e^{s_{j'}}}$$
#
# **Predict.** The scores are 0, 1 and 2. How much of the third value does the answer contain: about a half, two
# thirds, or nine tenths?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Two thirds. One more in the score is a factor of $e \approx 2.72$ in the weight, so the three weights stand as
# $1 : 2.72 : 7.39$. The third is $7.39 / (1 + 2.72 + 7.39) = 0.67$.
#
# </details>

# %%
probs = scores.exp() / scores.exp().sum()
answer = probs @ values
print("attention weights", [round(w, 2) for w in probs.tolist()])
print("answer           ", [round(a, 2) for a in answer.tolist()])

# %% [markdown]
# **Explain.** Only differences between scores count: add 5 to all three and the weights stay as they are. In exact
# arithmetic no weight is 0, since $e^s$ never is. And the weights sum to 1, so a query must read something, even where
# no key suits it.
#
# In a model nobody writes these vectors by hand. Each token is represented by one vector $x$ of $C$ numbers, and three learnt
# matrices turn it into the three vectors: $q = W_q x$ is what the token looks for, $k = W_k x$ is what it can be found by,
# $v = W_v x$ is what it hands over when it is read. Numbers that are learnt, such as those matrices, we call
# *parameters*. The attention weights are not among them: they are computed anew for every text.

# %% [markdown]
# ## 2. Every token asks: from a loop to one line
#
# All $T$ tokens ask, each with its own query. Literally, one query and one key at a time:


# %%
def attend_loop(q, k, v):
    """q (T, D), k (S, D), v (S, D) -> (T, D)"""
    out = []
    for query in q:
        scores = torch.stack([query @ key for key in k]) / math.sqrt(k.shape[1])
        probs = scores.exp() / scores.exp().sum()
        out.append(sum(weight * value for weight, value in zip(probs, v)))
    return torch.stack(out)


# %% [markdown]
# All those dot products are the entries of one matrix product, $QK^\top$; all those weighted means are another. Together they
# are scaled dot-product attention ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 3.2.1):
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{D}}\right) V$$


# %%
def attend(q, k, v):
    """q (T, D), k (S, D), v (S, D) -> (T, D)"""
    return (q @ k.T / math.sqrt(k.shape[1])).softmax(-1) @ v


def one_head(function, **options):
    """A function of (B, H, T, D) tensors as one of (T, D) tensors"""
    return lambda *qkv: function(*(x[None, None] for x in qkv), **options)[0, 0]


def same(a, b):
    """Equal but for rounding: fp32 carries about 7 digits, and here every number is of the order of 1."""
    return bool((a - b).abs().max() < 1e-5)


package, pytorch = tk.attention.scaled_dot_product_attention, F.scaled_dot_product_attention
torch.manual_seed(0)
q, k, v = torch.randn(5, 8), torch.randn(7, 8), torch.randn(7, 8)
expected = attend_loop(q, k, v)
for name, function in {
    "one line": attend,
    "teachkit": one_head(package),
    "PyTorch": one_head(pytorch),
}.items():
    print(f"{name:8} equals the loop: {same(function(q, k, v), expected)}")

# %% [markdown]
# **Predict.** Take $T = S = D = 64$. The loop and the one line do the same multiplications and additions. How many
# times faster is the one line: 1, 10 or 1,000? The cell below also predicts the loop's time from its parts: per pair
# of tokens a dot product, a product, a sum, and three rows taken out of a tensor.

# %%
q, k, v = torch.randn(3, 64, 64)
a, b, weight = q[0], k[0], v[0, 0]


def each_s(call, n=100):
    """Seconds per call, of n calls in a row: a single one is not much longer than a look at the clock"""
    return tk.measure.time_call(lambda: [call() for _ in range(n)], repeats=20).median_s / n


part_s = {
    "dot product": each_s(lambda: a @ b),
    "product of a number and a row": each_s(lambda: weight * a),
    "sum of two rows": each_s(lambda: a + b),
    "three rows taken out": 3 * each_s(lambda: list(k)) / len(k),
}
loop_s = tk.measure.time_call(lambda: attend_loop(q, k, v), repeats=5, warmup=1).median_s
line_s = tk.measure.time_call(lambda: attend(q, k, v), repeats=50).median_s
predicted_s = 64 * 64 * sum(part_s.values())

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(f"| {name} | {s * 1e6:.1f} µs |" for name, s in part_s.items())
share, sum_of_parts = line_s / loop_s, predicted_s / loop_s
left_out = ", and of Python's own work between them" if sum_of_parts < 0.8 else ""
Markdown(f"""
| what | time |
| --- | ---: |
{rows}
| the loop, predicted: 64 × 64 times all of these | {predicted_s * 1e3:.1f} ms |
| the loop, measured | {loop_s * 1e3:.1f} ms |
| the one line, measured | {line_s * 1e6:.0f} µs |
| loop / one line | {loop_s / line_s:,.0f} |

**Explain.** The one line does all the arithmetic in {share:.2%} of the loop's time. The rest is the price of
starting many small operations, whose times add up to {sum_of_parts:.0%} of the loop's{left_out}.

{tk.measure.caption()}
""")

# %% [markdown]
# No row of the result needs another row, so all $T$ queries can be answered together, or in any order.
#
# ## 3. Why divide by √D
#
# **Predict.** A query and a key have 64 numbers each, all drawn independently with mean 0 and standard deviation 1, as
# the paper's footnote 4 assumes. Their dot product is 0 on average. What is its standard deviation: 1, 8 or 64?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# It is 8: a sum of $D$ independent products, each with mean 0 and variance 1. Variances of independent things add up,
# so the sum has variance $D$ and standard deviation $\sqrt{D}$.
#
# </details>
#
# The table below lets 1,000 random queries read 100 random keys, with scores as they are and divided. *Largest* is the
# biggest of a query's 100 attention weights, where an even spread would give 0.01. *Slope* is how far the weights move when
# a score moves: $w_j(1 - w_j)$, the derivative of $w_j$ with respect to $s_j$, summed over the keys.


# %%
def random_scores(width, n_queries=1000, n_keys=100):
    """(n_queries, n_keys) dot products of random vectors of `width` numbers"""
    generator = torch.Generator().manual_seed(width)
    q, k = (torch.randn(n, width, generator=generator) for n in (n_queries, n_keys))
    return q @ k.T


def summary(scores):
    """(largest, slope), each a mean over queries"""
    w = scores.softmax(-1)
    return w.max(-1).values.mean().item(), (w * (1 - w)).sum(-1).mean().item()


print("                    as it is           divided by √D")
print("   D  std of q·k    largest   slope    largest   slope")
for width in (4, 16, 64, 256, 1024):
    raw = random_scores(width)
    (top, slope), (scaled_top, scaled_slope) = summary(raw), summary(raw / math.sqrt(width))
    print(
        f"{width:4} {raw.std():11.0f} {top:10.2f} {slope:7.2f} {scaled_top:10.2f} {scaled_slope:7.2f}"
    )

# %% [markdown]
# **Explain.** Undivided, with entries of standard deviation 1, a wide head starts by reading one token and next to nothing of
# the others, a choice made by chance. And where one weight is near 1, the slope is near 0: the gradient that should correct the choice
# hardly arrives. Divided by $\sqrt{D}$, the scores have standard deviation 1 at every width. Real initialisations choose
# another standard deviation for the entries; the growth with $\sqrt{D}$ stays.

# %% [markdown]
# ## 4. What surrounds attention
#
# A language model reads *tokens*, pieces of text with a number each, and computes how likely each token of its vocabulary is
# to come next:
#
# 1. The *embedding*, a table with one vector of $C$ numbers per token of the vocabulary, turns each token into its row.
# 2. $L$ *layers* follow. In each, *attention* lets every token read from others and adds what it read to the token's vector;
#    then an *MLP* (two or three further matrices) computes something from each vector by itself and adds that, too. Only attention moves anything between tokens.
# 3. A last matrix turns each token's vector into $V$ scores, one for each token that could come next: the *logits*. Their softmax
#    is the model's probability for each.
#
# Queries compare contents and know nothing of places, so word order is usually supplied from outside (exercise 1 has the exception). The small model below adds a learnt
# vector for each position to the embedding; the trained model of section 7 turns queries and keys by angles that grow
# with the position (next chapter).
#
# If the model gave probability $p$ to the token that really came next, that token cost $-\log_2 p$ *bits*. The mean over a text is the
# loss in **bits per token**: 0 for a model that is always certain and right, $\log_2 V$ for one that finds all tokens equally likely, and
# more for one that is certain and wrong.
#
# A model that predicts the next token from those before it is called a *decoder*. In training it predicts the next token at every position of a text in the same pass.

# %% [markdown]
# ## 5. Not from the future
#
# The right answer at position $i$ is token $i+1$, and token $i+1$ is in the input, one row further down.
#
# **Predict.** One attention layer is trained on noise: each token is one of 16, all equally likely. The next one cannot
# be guessed, so nothing honest gets below $\log_2 16 = 4$ bits per token. What does the layer reach (a) when a token
# may read only itself and what came before, and (b) when it may read everything?


# %%
class OneLayer(nn.Module):
    """Embedding, one attention head, logits: no MLP and no output matrix."""

    def __init__(self, V=16, T=12, C=32):
        super().__init__()
        self.embedding, self.position = nn.Embedding(V, C), nn.Embedding(T, C)
        self.logits = nn.Linear(C, V)
        self.q, self.k, self.v = (nn.Linear(C, C, bias=False) for _ in range(3))

    def forward(self, tokens, causal):
        x = self.embedding(tokens) + self.position.weight
        # (B, 1, T, C): one head
        q, k, v = (project(x)[:, None] for project in (self.q, self.k, self.v))
        probs = tk.attention.attention_probs(q, k, causal=causal)
        return self.logits((probs @ v)[:, 0]), probs


def train_on_noise(causal, steps=150):
    """-> bits per token, and how far ahead the most read token usually stands"""
    torch.manual_seed(0)
    layer = OneLayer()
    adam = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(steps):
        tokens = torch.randint(16, (128, 12))
        logits, probs = layer(tokens, causal)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
    ahead = probs[:, 0, :-1].argmax(-1) - torch.arange(11)
    return loss.item() / math.log(2), ahead.flatten().mode().values.item()


honest, _ = train_on_noise(causal=True)
leaking, ahead = train_on_noise(causal=False)
print(f"reads itself and the past: {honest:.1f} bits per token")
print(f"reads everything:          {leaking:.1f} bits per token, mostly from {ahead:+d} ahead")

# %% [markdown]
# **Explain.** With everything in view the layer did not learn to predict; noise cannot be predicted. It learnt to copy the token one place to its right.
# It has no loss left to reduce, and it could not write a single token: when it writes, there is no token to the right.
#
# So the keys ahead of a query must get weight 0. Setting their scores to $-\infty$ before the softmax does it, since
# $e^{-\infty} = 0$, and the weights that remain still sum to 1. This is the *causal mask*.
#
# **Build.** Which keys lie ahead? When as many tokens ask as are read, $S = T$, query $i$ sees keys 0 to $i$. A decoder
# that continues a text has fewer queries than keys: the newest $T$ of $S$ tokens ask. Query $i$ is then token
# $S - T + i$.
#
# **Predict.** Two queries, five keys. How many keys does the first query see?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Four. It is the last but one of five tokens: itself and the three before it.
#
# </details>


# %%
def attend(q, k, v, *, causal=False):
    """Section 2's, with a mask: q (T, D), k (S, D), v (S, D) -> (T, D). The last query stands at the last key."""
    T, S = len(q), len(k)
    scores = q @ k.T / math.sqrt(k.shape[1])
    if causal:
        mask = torch.ones(T, S, dtype=torch.bool).tril(S - T)  # True where j <= S - T + i
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ v


# With the identity for v, the output is the attention weights themselves.
q, k, v = torch.randn(2, 8), torch.randn(5, 8), torch.eye(5)
ours = attend(q, k, v, causal=True)
for name, function in {
    "teachkit": one_head(package, causal=True),
    "PyTorch": one_head(pytorch, is_causal=True),
}.items():
    theirs = function(q, k, v)
    print(
        f"{name:8}  keys seen {(theirs > 0).int().tolist()}  equals ours: {same(ours, theirs)}"
    )

# %% [markdown]
# PyTorch's `is_causal=True` puts the diagonal at the top left and lets the first query see one key
# ([its documentation](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html)
# says so). When $S = T$ the two agree. When a decoder continues a text, the top-left mask hides most of the text from
# it, and nothing fails: the output has the right shape and is wrong.
#
# **Measure.** A mask that is off by one fails as quietly. So test the property: change the key and value of
# one token, and see which outputs move. Below, token 9 of 12 changes, counted from 0; when only 4 tokens ask, they are tokens 8 to 11.


# %%
def moved(function, T, S=12, token=9):
    """Tokens whose output changes when the key and value of `token` change, when the last T of S tokens ask"""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(n, 16, generator=generator) for n in (T, S, S))
    k2, v2 = k.clone(), v.clone()
    k2[token] += 1
    v2[token] += 1
    differs = (function(q, k, v) != function(q, k2, v2)).any(-1)
    return (differs.nonzero().flatten() + S - T).tolist()


for T in (12, 4):
    for causal in (False, True):
        ours = moved(lambda q, k, v, causal=causal: attend(q, k, v, causal=causal), T)
        theirs = moved(one_head(package, causal=causal), T)
        print(
            f"{T:2} queries, causal={causal!s:5}  moved {ours}  teachkit: the same {ours == theirs}"
        )

# %% [markdown]
# If this changes your answer to the puzzle at the top, write the new one beside the old.

# %% [markdown]
# ## 6. Heads
#
# One set of attention weights per token is one way of reading. A token may need several: what was the last name, where did this
# bracket open, how deep is the indentation. So a layer has $H$ *heads*. A head is one set of queries, keys and values, of $D$ numbers
# each, and it attends on its own. The $H$ outputs of a token are put side by side, and an output matrix $W_o$ takes them back to the
# token's width, mixing what the heads have found:
#
# $$x \;(C) \;\xrightarrow{W_q,\,W_k,\,W_v}\; q, k, v \;(H \text{ of } D \text{ each}) \;\xrightarrow{\text{attend}}\; H \cdot D
# \;\xrightarrow{W_o}\; C$$
#
# Usually $H \cdot D = C$; then $W_q$, $W_k$, $W_v$ and $W_o$ are $C \times C$ however many heads share them.
#
# There may be fewer heads for keys and values than for queries: *grouped-query attention*, GQA. With $H_{kv} < H$, each key/value head serves a group of $G = H / H_{kv}$ query heads, and $W_k$ and
# $W_v$ shrink to $C \times H_{kv} D$ ([Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)).
#
# **Predict.** The model of this lesson has 4 query heads and 2 key/value heads in each layer. Counting from 0, which
# key/value head does query head 2 read?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Head 1. Neighbours form a group: query heads 0 and 1 share key/value head 0, query heads 2 and 3 share
# key/value head 1. Query head $h$ reads $\lfloor h / G \rfloor$.
#
# </details>


# %%
def attend_heads(q, k, v):
    """q (B, H, T, D), k and v (B, Hkv, S, D) -> (B, H, T, D), causal"""
    B, H = q.shape[:2]
    G = H // k.shape[1]
    heads = [
        attend(q[b, h], k[b, h // G], v[b, h // G], causal=True)
        for b in range(B)
        for h in range(H)
    ]
    return torch.stack(heads).view_as(q)


# Sizes that differ from each other, so that no two axes can be confused unnoticed.
q, k, v = torch.randn(2, 6, 11, 16), torch.randn(2, 3, 11, 16), torch.randn(2, 3, 11, 16)
out = package(q, k, v, causal=True)
probs = tk.attention.attention_probs(q, k, causal=True)
print("out                   ", tuple(out.shape))
print("probs                 ", tuple(probs.shape))
print("teachkit equals ours   ", same(out, attend_heads(q, k, v)))
theirs = pytorch(q, k, v, is_causal=True, enable_gqa=True)  # as S = T
print("teachkit equals PyTorch", same(out, theirs))
print("rows of probs sum to 1 ", same(probs.sum(-1), torch.ones(2, 6, 11)))

# %% [markdown]
# **Explain.** `teachkit` needs no loop. It stacks the queries of a group's $G$ heads on top of each other and makes one matrix
# product per key/value head, so that each key is fetched once for the whole group:
#
# ```text
# stacked = (q * scale).reshape(B, Hkv, H // Hkv * T, D)
# scores = (stacked @ k.transpose(2, 3)).view(B, H, T, S)
# ```

# %% [markdown]
# ## 7. Your attention in a trained model

# %%
model = tk.load("bundled")
config = model.config
L, H, Hkv, D = config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim
n_parameters = sum(p.numel() for p in model.parameters())
first_layer = model.blocks[0].attention
shapes = ", ".join(
    f"$W_{name}$ {tuple(getattr(first_layer, name).weight.shape[::-1])}" for name in "qkvo"
)
Markdown(
    f"The model that comes with `teachkit` was trained on the source code of Python's standard library. It has "
    f"{n_parameters / 1e6:.1f} million parameters in {L} layers; each layer has {H} query heads and {Hkv} key/value heads of "
    f"{D} numbers, so there are {L * H} tables of attention weights, or *attention maps*, to look at. It reads at most "
    f"{config.context:,} tokens of a vocabulary of {config.vocab_size:,}. The matrices around attention, (from, to): {shapes}."
)

# %% [markdown]
# The model's attention can be replaced from outside. Each forward pass takes an object called a *step*; for every layer the model asks it
# for `step.layer(index)`, and calls that object's `attend(q, k, v)`. The two classes below only put your function in that place;
# *uncached* means that nothing is kept between passes. Queries and keys arrive with positions already applied.


# %%
class Layer:
    def __init__(self, function):
        self.function = function

    def attend(self, q, k, v, *, scale=None):
        return self.function(q, k, v) if scale is None else self.function(q, k, v, scale=scale)


class Step(tk.cache.UncachedStep):
    """A forward pass in which every layer attends with `function`."""

    def __init__(self, tokens, function):
        super().__init__(config, tokens)
        self.function = function

    def layer(self, index):
        return Layer(self.function)


START = model.tokenizer.bos  # the token that stands before every text in training


def encode(text):
    return torch.tensor([[START, *model.tokenizer.encode(text, special=False)]])


folder = resources.files("teachkit") / "checkpoints" / "bundled"
# Files of the library that the model was not trained on.
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
tokens = encode(held_out["functools.py"])
excerpts = torch.cat(
    [encode(text)[:, :257] for text in sorted(held_out.values(), key=len)[-6:]]
)

with torch.inference_mode():
    theirs = model(tokens[:, :200])
    ours = model(tokens[:, :200], step=Step(tokens[:, :200], attend_heads))
close = bool((ours - theirs).abs().max() < 1e-3)
print("logits", tuple(ours.shape), "differ by less than 0.001:", close)

# %% [markdown]
# **Predict.** Now change the divisor and leave the parameters as they were trained: make all scores half as large, twice as
# large, and so on up to no division at all, which is a factor of $\sqrt{D} = 8$. Where is the loss lowest, and is a
# factor of 2 a disaster?


# %%
@torch.inference_mode()
def bits_per_token(tokens, function):
    """Mean of -log2 p over the tokens that came next, when the model's layers attend with `function`"""
    logits = model(tokens, step=Step(tokens, function))
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    ).item() / math.log(2)


def scaled_by(factor):
    return lambda q, k, v: package(q, k, v, causal=True, scale=factor / math.sqrt(D))


factors = [1 / 4, 1 / 2, 1 / math.sqrt(2), 1, math.sqrt(2), 2, 4, 8]
loss = {factor: bits_per_token(excerpts, scaled_by(factor)) for factor in factors}
best = min(loss, key=loss.get)

# %% tags=["hide-input"]
worst = max(loss[2], loss[1 / 2]) - loss[1]
where = (
    "as it was trained"
    if best == 1
    else f"at {best:.2g}, {loss[1] - loss[best]:.2f} bits below its loss as trained"
)
Markdown(
    f"On the first {excerpts.shape[1] - 1} tokens of each of {len(excerpts)} files that it was not trained on, the model needs "
    f"**{loss[1]:.2f} bits per token** as trained, {loss[2] - loss[1]:+.2f} with scores twice as large, "
    f"{loss[1 / 2] - loss[1]:+.2f} with scores half as large, and {loss[8] - loss[1]:+.2f} with no division. "
    f"Of the factors tried, the model does best {where}. A factor of 2 costs {'less' if worst < 1 else 'more'} than a bit: "
    f"{'no disaster' if worst < 1 else 'a disaster'}."
)

# %% [markdown]
# This does not show that $1/\sqrt{D}$ is the best constant. Had training divided by another number, $W_q$ could have grown or
# shrunk to make up for it, and the loss would be lowest at that number instead. The constant decides where training starts and how far one
# optimiser step moves the scores.
#
# **Predict.** Random vectors with entries of standard deviation 1 would give undivided scores of standard deviation $\sqrt{64} = 8$. What do
# trained queries and keys give: less, 8 still, or more?

# %%
spread = []  # per layer: standard deviation of one query's undivided scores, over the keys it sees


def record_spread(q, k, v):
    scores = q @ k.repeat_interleave(H // Hkv, 1).transpose(2, 3)
    scores = scores.masked_fill(~tk.attention.visible(*scores.shape[2:]), math.nan)
    spread.append((scores - scores.nanmean(-1, keepdim=True)).square().nanmean().sqrt().item())
    return package(q, k, v, causal=True)


_ = bits_per_token(excerpts[:2], record_spread)

# %% tags=["hide-input"]
above = sum(std > math.sqrt(D) for std in spread)
Markdown(
    f"Standard deviation of a query's undivided scores, by layer: {', '.join(f'{std:.0f}' for std in spread)}. In {above} of {L} layers that is more than {math.sqrt(D):.0f}. "
    + (
        "The division keeps a new head undecided; training then makes the scores as large as it needs "
        "them. A sharp choice that was learnt is no fault; section 3 was about one made by chance."
        if above > L / 2
        else "Training has left most scores no larger than random ones."
    )
)

# %% [markdown]
# ## 8. What the heads read
#
# Put a text of your own between the quotes and run the cells. Python suits this model best. The last token is the one
# whose logits say what comes next. Layers and heads are counted from 0.

# %%
TEXT = """class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = """


def strongest(score):
    """Layer and head with the largest entry of an (L, H) tensor, and that entry"""
    layer, head = divmod(score.argmax().item(), score.shape[1])
    return layer, head, score.max().item()


def previous_token(maps):
    """(L, H): how much a head reads the token just before, mean over the tokens that have one"""
    return maps.diagonal(-1, dim1=-2, dim2=-1).mean(-1)


pieces = ["<start>", *model.tokenizer.pieces(TEXT)]
maps = tk.maps.attention_maps(model, encode(TEXT))
ahead = maps[..., torch.ones(len(pieces), len(pieces)).triu(1) > 0]
print(f"{len(pieces)} tokens, maps {tuple(maps.shape)}")
print("weight on tokens ahead:", ahead.max().item())
print("rows sum to 1:", same(maps.sum(-1), torch.ones(maps.shape[:3])))

# %% [markdown]
# **Predict.** What would a token need from the others? Name one pattern of reading that you would expect to find
# in some head, for any text.

# %% tags=["nbval-ignore-output"]
long_maps = tk.maps.attention_maps(model, tokens[:, :512])
previous = strongest(previous_token(long_maps))
figures.attention_explorer(pieces, maps, layer=previous[0], head=previous[1])

# %% [markdown]
# Look for a vertical stripe (everyone reads one token), a line beside the diagonal (the token just before), blocks. None was
# assigned. The figure opens at the head that, on 512 tokens of a held-out file, reads the token just before more than any other head does; on
# your few tokens it need not do so in every row.
#
# A picture is a place to form a guess. To test a guess, write it down as a number that every head gets, and measure it on text
# that did not suggest it.

# %%
T = long_maps.shape[-1]
# What one token gets when every query reads all that it sees alike.
even = (1 / torch.arange(2, T + 1)).mean().item()
first = strongest(long_maps[:, :, 1:, 0].mean(-1))

# %% tags=["hide-input"]
sink = (
    "On this text, a head puts most of its weight on the first token."
    if first[2] > 0.5
    else "On this text, no head of this small model puts most of its weight on the first token."
)
(l1, h1, w1), (l2, h2, w2) = previous, first
Markdown(f"""
On {T} tokens of held-out source. An even share is what one token gets if each query reads all that it sees
equally: {even:.3f} on average.

| pattern | head in which it is strongest | mean attention weight | times an even share |
| --- | --- | ---: | ---: |
| reads the token just before | layer {l1}, head {h1} | {w1:.2f} | {w1 / even:.0f} |
| reads the very first token | layer {l2}, head {h2} | {w2:.2f} | {w2 / even:.0f} |

{sink}
""")

# %% [markdown]
# Heads that read a neighbouring token have been found in translation models, too
# ([Voita et al. 2019](https://arxiv.org/abs/1905.09418)). The first token says the same in every text; but weights must sum to 1
# (section 1), and a head that has found nothing needs somewhere to put its weight. Large models put much of it on the first few
# tokens, *attention sinks*; when each query may see only the latest tokens, a *sliding window*, and those first ones drop out, the loss jumps
# ([Xiao et al. 2023](https://arxiv.org/abs/2309.17453)). The table's second row says how far this model does so.
#
# **A test that only reading can pass.** Draw 100 different tokens at random and write the list twice. The first copy is noise. In the second, every next token
# can be found: look for where the present token stood before, and read what came after it. A text
#
# $$\ldots\ A\ B\ \ldots\ A$$
#
# should continue with $B$. One layer cannot do that, however many heads it has: there the key of $B$ is made from $B$ and its position, and nothing in it says that an $A$ stood before. Two layers can:
#
# 1. In an earlier layer, a head that reads the token just before lets $B$ read $A$. The vector of $B$ now also carries "an $A$ stood before me".
# 2. In a later layer, the second $A$ asks: who has an $A$ before it? The key of $B$ says so. The head reads $B$ and raises the logit of $B$.
#
# **Predict.** No training text looked like this. What does a token of the second copy cost the model, compared with the first copy, and with a
# second copy in another order?

# %%
n, generator = 100, torch.Generator().manual_seed(0)
known = excerpts.unique()
known = known[known != START]


def shuffled(ids):
    return ids[torch.randperm(len(ids), generator=generator)]


start = torch.tensor([START])
lists = [shuffled(known)[:n] for _ in range(10)]
twice = torch.stack([torch.cat((start, once, once)) for once in lists])
control = torch.stack([torch.cat((start, once, shuffled(once))) for once in lists])


@torch.inference_mode()
def copies(tokens):
    """Bits per token in the first copy and in the second, each without its first token"""
    bits = F.cross_entropy(
        model(tokens)[:, :-1].mT, tokens[:, 1:], reduction="none"
    ) / math.log(2)
    return bits[:, 1:n].mean().item(), bits[:, n + 1 :].mean().item()


(noise, repeated), (_, other_order) = copies(twice), copies(control)
uniform = math.log2(config.vocab_size)

# %% tags=["hide-input"]
verdict = (
    "The same tokens in another order help little: the model has read the *order* of the first copy."
    if other_order - repeated > 1
    else "The order makes little difference: this model does not read it off the first copy."
)
verdict += f" Knowing only which {n} tokens can occur would already bring a token down to {math.log2(n):.1f} bits; the reordered copy shows that this is not what the model does."
if noise > uniform:
    verdict += " In noise it does worse than guessing, because it expects Python."
Markdown(f"""
| mean of {len(lists)} lists | bits per token |
| --- | ---: |
| guessing uniformly, $\\log_2 {config.vocab_size}$ | {uniform:.1f} |
| first copy | {noise:.1f} |
| second copy, same order | {repeated:.1f} |
| second copy, another order | {other_order:.1f} |

{verdict}
""")

# %% [markdown]
# Which heads read so? In the second copy, the token after the earlier copy of token $i$ stands at $i - n + 1$.

# %%
# The tokens of the second copy that have a token after their earlier copy
i = torch.arange(n + 1, 2 * n)
twice_maps = torch.stack([tk.maps.attention_maps(model, row[None]) for row in twice]).mean(0)
induction = strongest(twice_maps[:, :, i, i - n + 1].mean(-1))
below = strongest(previous_token(twice_maps)[: induction[0]]) if induction[0] else None

# %% tags=["hide-input"]
Markdown(
    f"Layer {induction[0]}, head {induction[1]} puts {induction[2]:.0%} of its weight in the second copy on the token after the earlier copy "
    f"(an even share: {(1 / (i + 1)).mean():.1%}). "
    + (
        f"Of the layers below it, the head that most reads the token just before is layer {below[0]}, head {below[1]}, with {below[2]:.0%}."
        if below
        else "There is no layer below it that could have passed on what stood before."
    )
    + (
        " The first of these two heads is also the one that most reads the first token of ordinary text, as one would expect of a head that often finds no match."
        if first[:2] == induction[:2]
        else ""
    )
)

# %% tags=["nbval-ignore-output", "hide-input"]
m = 16
piece = torch.cat((start, lists[0][:m], lists[0][:m]))[None]
piece_maps = tk.maps.attention_maps(model, piece)
j = torch.arange(m + 1, 2 * m)
shown = {
    "just before": (previous, previous_token(piece_maps)),
    "the first": (first, piece_maps[:, :, 1:, 0].mean(-1)),
    "after the earlier copy": (induction, piece_maps[:, :, j, j - m + 1].mean(-1)),
}


def draw_maps():
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    ink = figures.colours()
    ramp = LinearSegmentedColormap.from_list("house", [ink["surface"], ink["accent"]])
    fig, axes = plt.subplots(1, 3, figsize=(7.6, 3.1))
    for ax, (name, ((layer, head, _), _)) in zip(axes, shown.items()):
        ax.imshow(piece_maps[layer, head], cmap=ramp, vmin=0, vmax=1)
        ax.set(
            xticks=[0, m],
            yticks=[0, m],
            xlabel="token read",
            title=f"{name}\nlayer {layer}, head {head}",
        )
        ax.axhline(m + 0.5, color=ink["muted"], linewidth=0.8)
        ax.axvline(m + 0.5, color=ink["muted"], linewidth=0.8)
        ax.grid(False)
    axes[0].set_ylabel("token that reads")
    return fig


on_pattern = "; ".join(
    f"layer {layer}, head {head}, {score[layer, head]:.0%} on “{name}”"
    for name, ((layer, head, _), score) in shown.items()
)
display(
    figures.static(
        draw_maps,
        alt=f"Three attention maps over {m} tokens written twice. Attention weight on the pattern: {on_pattern}.",
    )
)
Markdown(
    f"*One list of {m} tokens, twice; thin lines: where the second copy begins. Where two titles name the same head, the two maps are one: a head may rest on the first token where it finds no match, and read the match where it finds one.* {tk.measure.caption()}"
)

# %% [markdown]
# A head that does this *and* raises the probability of what it read is an induction head
# ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895)); the map shows only the reading. Nor does reading prove importance: in text classifiers on recurrent encoders, attention weights could be changed much while the answer hardly changed
# ([Jain and Wallace 2019](https://arxiv.org/abs/1902.10186); disputed by
# [Wiegreffe and Pinter 2019](https://arxiv.org/abs/1908.04626)). Exercise 4 removes heads and measures the loss.

# %% [markdown]
# ## 9. The million weights
#
# The model reads 1,000 tokens of a file it has never seen, and then the same 1,000 and one more. Every head of every layer draws its
# table both times. A weight counts as changed when it differs by more than a thousandth of itself, so that small weights count like large ones. To see that the
# count can be anything but what it is, the same is done with the mask removed. The counts are over all heads
# together; the million of the puzzle is the share of one.

# %%
n_read = 1000


def changed(before, after):
    """How many weights of `before` differ in `after` by more than rounding"""
    T = before.shape[-1]
    return sum(
        (~torch.isclose(b, a[:, :T, :T], rtol=1e-3, atol=1e-12)).sum().item()
        for b, a in zip(before, after)
    )


@torch.inference_mode()
def maps_without_mask(tokens):
    maps = []

    def attend_all(q, k, v):
        maps.append(tk.attention.attention_probs(q, k))
        return package(q, k, v)

    model(tokens, step=Step(tokens, attend_all))
    return torch.cat(maps)


before = tk.maps.attention_maps(model, tokens[:, :n_read])
masked = changed(before, tk.maps.attention_maps(model, tokens[:, : n_read + 1]))
unmasked = changed(
    maps_without_mask(tokens[:, :n_read]), maps_without_mask(tokens[:, : n_read + 1])
)
print(f"attention weights in all {L * H} heads   {before.numel():,}")
ahead_of = before.numel() - L * H * n_read * (n_read + 1) // 2
print(f"0 by the mask                      {ahead_of:,}")
print(f"changed by one more token          {masked:,}")
print(f"changed, had there been no mask    over a million: {unmasked > 1_000_000}")

# %% [markdown]
# **None.**
#
# **Explain.** In the first layer, token $i$ makes its query, key and value from itself alone, and by the mask reads
# tokens up to $i$. So its output depends on tokens up to $i$ only; that output is all that the second layer has of
# token $i$, and so on upwards. A token that arrives later is in the past of none of those already read. Nor does the softmax spread
# their weights anew: row $i$ divides by a sum over tokens 0 to $i$, and the new score is not in that sum. The mask was put in so that training
# could not cheat, and it has settled something else: **what has been read stays read.** In a model without a causal
# mask, such as those that only classify texts, all million may change.
#
# What does the new token need, then? One row of the table. It asks one question of 1,001 keys.

# %% [markdown]
# ## 10. What one more token costs
#
# **Predict.** For $T$ queries, $S$ keys and $H$ heads of $D$ numbers, with a multiplication and an addition counted as
# two FLOPs: how many FLOPs does attention take? And how many bytes do the attention weights take in fp32?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Each of $H T S$ scores is a dot product of $D$ numbers, $2D$ FLOPs; each of $H T D$ outputs sums $S$ terms, $2S$ FLOPs.
# Together $4 H T S D$, pairs that the mask sets to 0 included. The softmax adds a few FLOPs per score and by custom is not counted. The attention weights take
# $4 H T S$ bytes.
#
# </details>
#
# PyTorch can count the FLOPs of the matrix products that are really called:

# %%
from torch.utils.flop_counter import FlopCounterMode


def inputs(T, S):
    """Random q, k, v with the shapes of one layer of the model"""
    return torch.randn(1, H, T, D), torch.randn(1, Hkv, S, D), torch.randn(1, Hkv, S, D)


print("    T     S    FLOPs counted  = 4HTSD   bytes of weights")
for T, S in ((500, 500), (1000, 1000), (1, 1000)):
    with FlopCounterMode(display=False) as counter:
        package(*inputs(T, S), causal=True)
    counted = counter.get_total_flops()
    print(f"{T:5} {S:5} {counted:16,} {counted == 4 * H * T * S * D!s:>8} {4 * H * T * S:18,}")

# %% [markdown]
# Twice the tokens, four times the FLOPs and four times the bytes; one row, a thousandth of both.
#
# **Predict.** The last row takes a thousandth of the arithmetic. Does it take a thousandth of the time?

# %%
every_row, last_row, one_key = inputs(n_read, n_read), inputs(1, n_read), inputs(1, 1)
calls = {
    "every row": lambda: package(*every_row, causal=True),
    "last row": lambda: package(*last_row, causal=True),
    "one key": lambda: package(*one_key, causal=True),
}
time_s = {
    name: timing.median_s for name, timing in tk.measure.time_calls(calls, repeats=15).items()
}
kv_bytes = sum(x.nbytes for x in every_row[1:])
flops = {"every row": 4 * H * n_read**2 * D, "last row": 4 * H * n_read * D}

# %% tags=["nbval-ignore-output", "hide-input"]
time_ratio = time_s["every row"] / time_s["last row"]
overhead = time_s["one key"] / time_s["last row"]
Markdown(
    f"""
| attention of one layer, {n_read:,} keys | every row | the last row | ratio |
| --- | ---: | ---: | ---: |
| FLOPs, by the formula | {flops["every row"]:,} | {flops["last row"]:,} | {flops["every row"] / flops["last row"]:,.0f} |
| bytes of attention weights, written and read | {2 * 4 * H * n_read**2:,} | {2 * 4 * H * n_read:,} | {n_read:,} |
| bytes of keys and values, read | {kv_bytes:,} | {kv_bytes:,} | 1 |
| FLOPs per byte of keys and values | {flops["every row"] / kv_bytes:,.0f} | {flops["last row"] / kv_bytes:,.0f} | {n_read:,} |
| time | {time_s["every row"] * 1e6:,.0f} µs | {time_s["last row"] * 1e6:,.0f} µs | {time_ratio:,.0f} |

**Explain.** The time of the last row is 1/{time_ratio:,.0f} of the full table's. The same call with a single key, so with next to nothing to compute or
read, takes {time_s["one key"] * 1e6:.0f} µs, {overhead:.0%} of the last row's time: """
    + (
        "most of that time here is the price of making the call."
        if overhead > 0.5
        else "most of that time here goes to its keys and values, which are as many bytes as for all rows."
    )
    + f"""

{tk.measure.caption()}
"""
)

# %% [markdown]
# The bytes of keys and values do not shrink. To write one token, a head reads every one of them and does little with
# each: one query head does half a FLOP per byte in fp32 ($4SD$ FLOPs for $8SD$ bytes), $G$ heads that share the key do $G/2$, here 1. With keys and values of 16 bits the bytes halve and both figures double.
#
# Two questions remain. The model above computed all million weights a second time, to no purpose: who keeps
# the keys and values, so that only the new row is computed? And an A100 with 80 GB can do 312 TFLOP/s in 16 bits while it reads 2.0 TB/s
# ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)),
# some 150 FLOPs in the time that it takes to fetch a byte: what is it doing while it writes your token?

# %% [markdown]
# ## What real systems do
#
# - **They never store the table.** [FlashAttention](https://arxiv.org/abs/2205.14135) computes the attention weights a tile at a time, on the chip, and
#   never holds more than a few tiles. `F.scaled_dot_product_attention` chooses such a *fused* kernel, one program for the whole formula, when it can.
# - **They mask by position, not by matrix.** The alignment of section 5 has cost them, too: FlashAttention moved its
#   causal mask from the top left to the bottom right in version 2.1
#   ([change log](https://github.com/Dao-AILab/flash-attention#21-change-behavior-of-causal-flag)).
# - **They share key/value heads.** Llama 3 has 8 of them in all three models of the paper, for 32 query heads in the
#   smallest and 128 in the largest ([Llama 3, table 3](https://arxiv.org/abs/2407.21783)).

# %% [markdown]
# ## What the sources claim, checked


# %%
def even_length(config):
    """Tokens at which a layer's attention takes as many FLOPs as its matrices: 4·H·T·D = 2·(parameters of the layer)"""
    q_and_o = 2 * config.d_model * config.n_heads * config.head_dim
    k_and_v = 2 * config.d_model * config.n_kv_heads * config.head_dim
    mlp = 3 * config.d_model * config.d_ff
    return 2 * (q_and_o + k_and_v + mlp) / (4 * config.n_heads * config.head_dim)


half, full = inputs(500, 500), inputs(1000, 1000)
calls = {
    "table, 500": lambda: package(*half, causal=True),
    "table, 1000": lambda: package(*full, causal=True),
    "fused, 500": lambda: pytorch(*half, is_causal=True, enable_gqa=True),
    "fused, 1000": lambda: pytorch(*full, is_causal=True, enable_gqa=True),
}
claim_s = {
    name: timing.median_s for name, timing in tk.measure.time_calls(calls, repeats=7).items()
}
growth = {
    kind: claim_s[f"{kind}, 1000"] / claim_s[f"{kind}, 500"] for kind in ("table", "fused")
}
llama_7b = tk.ModelConfig(vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008)
length, llama_length = even_length(config), even_length(llama_7b)

# %% tags=["nbval-ignore-output", "hide-input"]
beyond = "beyond its context" if length > config.context else "within its context"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| Self-attention takes time and memory quadratic in the length | [FlashAttention](https://arxiv.org/abs/2205.14135), abstract | Right for the arithmetic (section 10). Time from 500 to 1,000 tokens, measured: {growth["table"]:.1f} times with the table, {growth["fused"]:.1f} times with PyTorch's fused kernel; a square would give 4, which fixed costs can hide at such lengths. Memory is quadratic if the table is kept; the paper's own kernel does without. |
| The attention layer is the main bottleneck in scaling to longer sequences | [FlashAttention-2](https://arxiv.org/abs/2307.08691), abstract | In FLOPs, a matter of length. Counting every pair, attention draws level with the layer's matrices at {length:,.0f} tokens in our model ({beyond}) and at {llama_length:,.0f} in LLaMA-7B; at the 2,048 of LLaMA's context it takes {2048 / llama_length:.0%} of what the matrices take. |
| Transformers are highly parallelizable | *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024 | Right for reading: all rows in one product (section 2). Not across the tokens of one answer, each of which needs the one before; answers to different users can be written in parallel. |

LLaMA-7B's shape and context: [config.json](https://huggingface.co/huggyllama/llama-7b/blob/main/config.json).

{tk.measure.caption()}
""")

# %% [markdown]
# ## Exercises
#
# **1. A set has no order.** Shuffle the rows of `k` and `v` with the same permutation and call `attend(q, k, v)` without
# a mask. Predict what happens to the output. What does that say about where a model's knowledge of word order must come
# from?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# q, k, v = torch.randn(3, 12, 16)
# p = torch.randperm(12)
# print(same(attend(q, k, v), attend(q, k[p], v[p])))  # True
# ```
#
# Nothing happens: a weighted mean does not depend on the order of what it is taken over. In one unmasked layer, order has to be put
# into the queries and keys. In a stack, the causal mask alone lets a model infer positions, though less directly
# ([Haviv et al. 2022](https://arxiv.org/abs/2203.16634)).
#
# </details>
#
# **2. A window.** Let each query see only the last $W$ keys, itself included. Write `attend_window(q, k, v, window)`, and
# compare it with `package(..., causal=True, window=3)` for $T = 4$, $S = 9$. How do the FLOPs that are
# needed now grow with $T$?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def attend_window(q, k, v, window):
#     T, S = len(q), len(k)
#     ones = torch.ones(T, S, dtype=torch.bool)
#     mask = ones.tril(S - T) & ones.triu(S - T - window + 1)
#     return (q @ k.T / math.sqrt(k.shape[1])).masked_fill(~mask, -math.inf).softmax(-1) @ v
#
# q, k, v = torch.randn(4, 16), torch.randn(9, 16), torch.randn(9, 16)
# print(same(attend_window(q, k, v, 3), one_head(package, causal=True, window=3)(q, k, v)))  # True
# ```
#
# Each of $T$ queries needs $W$ keys, so $4HTWD$: linear in $T$. This code still computes all $TS$ scores and throws most
# away; a kernel that profits has to skip them.
#
# </details>
#
# **3. The mask, removed after training.** Section 5 trained without a mask. Now take the mask away from the *trained*
# model: run `bits_per_token` on the excerpts with `causal=False`. Every next token is now in view of the query that has to predict it. Does the loss fall to nothing, as it did there?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# everything = lambda q, k, v: package(q, k, v, causal=False)
# print(loss[1], bits_per_token(excerpts, everything))
# ```
#
# No. These parameters were learnt without a single key from ahead, so no head has learnt to copy what stands there. A
# leak has to be learnt before it pays; that is why the mask must be in place during training.
#
# </details>
#
# **4. What a head is worth.** Set one head's output to 0, and measure the bits per token on two excerpts. Do it for all heads. Is
# the head with the most striking map the one the model misses most? And what does removing the head of section 8 do to the second copy?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# class Without(Step):
#     def __init__(self, tokens, layer, head):
#         super().__init__(tokens, scaled_by(1))
#         self.removed = layer, head
#
#     def silenced(self, q, k, v):
#         out = self.function(q, k, v)
#         out[:, self.removed[1]] = 0
#         return out
#
#     def layer(self, index):
#         return Layer(self.silenced if index == self.removed[0] else self.function)
#
# @torch.inference_mode()
# def bits_without(tokens, layer, head, begin=0):
#     logits = model(tokens, step=Without(tokens, layer, head))[:, begin:-1]
#     return F.cross_entropy(logits.flatten(0, 1), tokens[:, begin + 1:].flatten()).item() / math.log(2)
#
# cost = torch.tensor([[bits_without(excerpts[:2], layer, head) for head in range(H)] for layer in range(L)])
# cost -= bits_per_token(excerpts[:2], scaled_by(1))
# print(cost.round(decimals=2), strongest(cost), previous, first, induction)
# print("second copy:", repeated, "without the head:", bits_without(twice, *induction[:2], begin=n + 1))
# ```
#
# The table's largest entry names the costliest head; beside it stand the three of section 8. Where they differ, a striking map was not an
# important one, on this text. The last line is the test that the map could not make. Heads can also stand in for each other, so that removing either costs
# little and removing both costs much.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("attention")

# %% [markdown]
# Then in your own words:
#
# **A.** A query is all zeros. What does it read?
#
# <details>
# <summary>Answer</summary>
#
# The plain mean of all values that it may see: every score is 0, so all weights are equal.
#
# </details>
#
# **B.** The scores of one query are 100, 99 and 98. In fp32 $e^{100}$ is infinite, so `scores.exp() / scores.exp().sum()`
# gives NaN, and `scores.softmax(-1)` does not. How does it avoid that?
#
# <details>
# <summary>Answer</summary>
#
# Only differences count (section 1). It subtracts the largest score first: $e^{0}$, $e^{-1}$ and $e^{-2}$ give the same
# weights, and no power is above 1.
#
# </details>
#
# **C.** A model with a causal mask has read a text, and you replace its *first* token. Which rows of the attention maps
# may change?
#
# <details>
# <summary>Answer</summary>
#
# All but row 0: the first token is in everybody's past, but a token that sees only itself gives itself weight 1
# whatever it is. What stays read is only what comes before a change; that is why stored keys and values can be reused as
# far as two texts agree and no further.
#
# </details>
#
# ## Not covered here
#
# How $q$ and $k$ get their positions, and the other parts of the model: next chapter. Attention between two texts
# (an encoder's and a decoder's), training in earnest, and how a fused kernel computes a softmax that it never sees
# whole.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
