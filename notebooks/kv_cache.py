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
#     stem: kv_cache
#     modules: [cache, decode]
#     objectives:
#       - Say which numbers of a forward pass the next one needs again, and show that they have not changed
#       - Write a KV cache of about 25 lines, test it on the logits of a trained model, and recognise three quiet ways to get it wrong
#       - Predict the FLOPs per token with and without a cache, measure the time, and explain the difference
#       - Compute the bytes of a cache for any published shape, in GB and in GiB, and say when it outweighs the weights
#       - Name cases in which a cache saves little or nothing, each with a measurement
#       - Go back, share a prefix and read a prompt in pieces, and test that nothing changes
#     minutes: 60
#     lab: kv_cache
# ---

# %% [markdown]
# # The KV cache: time bought with memory
#
# A university lecture says: to serve GPT-3 to 100 people at once, 1,000 tokens each, the *KV cache* alone takes about 700 GB, twice
# the 350 GB of the model's weights. **Is that right?**
#
# Write down your guess: right, too low, or too high. In section 4 you settle it with one line of arithmetic. The lecture is
# J. Liu, *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024, slide “Computation Resources Needed For LLMs”;
# the model's shape is in [Brown et al. 2020, table 2.1](https://arxiv.org/abs/2005.14165).
#
# **Afterwards you can**
#
# - say which numbers of a forward pass the next one needs again, and show that they have not changed;
# - write a KV cache of about 25 lines, test it on the logits of a trained model, and recognise three quiet ways to get it wrong;
# - predict the FLOPs per token with and without a cache, measure the time, and explain the difference;
# - compute the bytes of a cache for any published shape, in GB and in GiB, and say when it outweighs the weights;
# - name cases in which a cache saves little or nothing, each with a measurement;
# - go back, share a prefix and read a prompt in pieces, and test that nothing changes.
#
# **You need** the lessons on attention (queries, keys, values, the causal mask), on the model (layers, rotary positions) and on
# generation (prefill, decoding, logits). No GPU, and no network once `teachkit` is installed. Allow an hour, and
# half as much again for the exercises. The letters are those of the book's notation page: $B$ sequences in a batch, $T$ new tokens,
# $S$ tokens attended to, $L$ layers, $H$ query heads, $H_{kv}$ key/value heads, $D$ numbers in a key. A text has $n$ tokens.

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
import statistics
import time
from dataclasses import replace
from importlib import resources
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import teachkit as tk
from teachkit import figures

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. What is computed again
#
# In the lesson on generation a step of decode fed the model one token, and attention read a past that was not in the input. Do without
# that first: send the whole text through the model, take the last row of logits, append a token, and send the whole text again.

# %%
model = tk.load("bundled")
config = model.config
L, H, Hkv, D = config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim
folder = resources.files("teachkit") / "checkpoints" / "bundled"
# A file of Python's library that the model was not trained on.
source = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))["functools.py"]
tokens = torch.tensor([[model.tokenizer.bos, *model.tokenizer.encode(source, special=False)]])


def write(prompt, n_new):
    """n_new tokens, each the likeliest after all before it; everything is computed each time"""
    ids = list(prompt)
    for _ in range(n_new):
        logits = model(torch.tensor([ids]), last_only=True)  # of the last token alone
        ids.append(logits[0, -1].argmax().item())
    return ids[len(prompt) :]


prompt = tokens[0, :200].tolist()
written = write(prompt, 24)
print(f"{L} layers, {H} query heads, {Hkv} key/value heads of {D} numbers")
print("The text ends:", repr(model.tokenizer.decode(prompt[-20:])))
print("It writes:    ", repr(model.tokenizer.decode(written)))

# %% [markdown]
# **Predict.** For the 501st token of a text the model reads 500; for the 1,001st it reads 1,000. How much more arithmetic is the second:
# exactly 2 times, between 2 and 4, or exactly 4 times?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Between 2 and 4; here 2.5 times. Each token goes through the matrices once, a multiplication and an addition for every number in
# them: that part grows with $n$. Attention takes $4HDn^2$ FLOPs per layer. The logits are taken for the last token only.
#
# </details>

# %%
in_layers = [p for p in model.blocks.parameters() if p.ndim == 2]
matrices = sum(p.numel() for p in in_layers)
head = model.embedding.weight  # this model's last matrix, too: from a token's vector to logits


def pass_flops(T, S):
    """FLOPs of T new tokens that see S, themselves included: matrices, logits, attention"""
    return 2 * matrices * T + 2 * head.numel() + 4 * L * H * D * T * S


print("tokens   GFLOP   of them attention")
for n in (250, 500, 1000):
    with FlopCounterMode(display=False) as counter:
        model(tokens[:, :n], last_only=True)
    counted = counter.get_total_flops()
    assert counted == pass_flops(n, n)
    print(f"{n:6} {counted / 1e9:7.2f} {4 * L * H * D * n * n / counted:19.0%}")

# %% [markdown]
# The attention lesson found that what has been read stays read: one more token changes none of the attention weights between those before it.
#
# **Predict.** The model reads 500 tokens, and then the same 500 and one more. How many of the first 500 tokens get another key or value, in
# any layer? And how many if instead the *first* of the 500 is replaced?
#
# As in the attention lesson, `step=` hands the model an object whose `layer(i).attend(q, k, v)` we write; this one also notes the keys and values.


# %%
class Recorder(tk.cache.UncachedStep):
    """A pass without a cache that notes the keys and values of every layer."""

    def __init__(self, tokens):
        super().__init__(config, tokens)
        self.noted = []

    def layer(self, index):
        def attend(q, k, v, *, scale=None):
            self.noted.append(torch.stack((k, v)))
            return tk.attention.scaled_dot_product_attention(q, k, v, causal=True, scale=scale)

        return SimpleNamespace(attend=attend)


def keys_values(tokens):
    """Keys and values of all layers, (L, 2, B, Hkv, T, D)"""
    recorder = Recorder(tokens)
    model(tokens, step=recorder)
    return torch.stack(recorder.noted)


def changed(a, b):
    """(L, 2, T): True where a token's key or value differs by more than rounding"""
    far = ~torch.isclose(a, b, rtol=1e-3, atol=1e-3)
    return far.any(dim=(2, 3, 5))  # over B, Hkv and D


def tokens_changed(a, b):
    return changed(a, b).any(dim=(0, 1)).sum().item()


read = tokens[:, :500]
before, after = keys_values(read), keys_values(tokens[:, :501])[..., :500, :]
other_first = read.clone()
other_first[0, 0] = tokens[0, 1]
print("tokens whose keys or values change")
print("  with one more token at the end  ", tokens_changed(before, after))
print("  with another first token        ", tokens_changed(before, keys_values(other_first)))

# %% [markdown]
# **Explain.** A token's key and value are made from that token and the ones before it. One more at the end comes before none of them, so 500 of
# the 501 rows were computed a second time to give the same numbers. The first token, though, is in everybody's past.
#
# The new token needs one query, its own, and the keys and values of all tokens. No old query is used again; old outputs only served to make
# the next layer's keys and values. So keys and values are all that has to be kept: the **KV cache**.

# %% [markdown]
# ## 2. Build it
#
# The model never touches stored keys and values. It asks a cache three things:
#
# 1. Once per pass, `cache.plan([T])`: so many tokens are new (one number per row of the batch), reserve their places. It returns a *plan*,
#    which is what `step=` took above. `model(x, cache=cache)` calls `plan` itself.
# 2. `plan.positions`: where the new tokens stand, so that rotary turns them by the right angles; and `plan.valid`: which are not
#    padding, the filler where the rows of a batch differ in length (exercise 1).
# 3. For each layer, `plan.layer(index)`: a *view*, whose `attend(q, k, v)` stores the new keys and values and returns what the new
#    queries read from all of them.
#
# The simplest cache appends:


# %%
class GrowingCache:
    """Keys and values of one sequence, longer by the new tokens after every pass"""

    def __init__(self):
        self.stored, self.length = {}, 0

    def plan(self, n_new):
        start, self.length = self.length, self.length + n_new[0]
        return Plan(self.stored, torch.arange(start, self.length)[None])


class Plan:
    def __init__(self, stored, positions):
        self.stored, self.positions = stored, positions
        self.valid = torch.ones_like(positions, dtype=torch.bool)

    def layer(self, index):
        return View(self.stored, index)


class View:
    def __init__(self, stored, index):
        self.stored, self.index = stored, index

    def attend(self, q, k, v, *, scale=None):
        if self.index in self.stored:
            old_k, old_v = self.stored[self.index]
            k, v = torch.cat((old_k, k), 2), torch.cat((old_v, v), 2)
        self.stored[self.index] = k, v
        return self.read(q, k, v, scale)

    def read(self, q, k, v, scale):
        return tk.attention.scaled_dot_product_attention(q, k, v, causal=True, scale=scale)


# %% [markdown]
# `causal=True` masks to the bottom right: the last query sees the last key. With one query over $S$ keys nothing is masked; with a piece of
# a prompt, $T$ queries over $S$ keys, each sees what stood before it.
#
# **Measure.** Compare *all* rows of logits with those of one pass without a cache, whichever way the text is cut: equal texts may hide
# unequal logits. `teachkit`'s own `ContiguousCache`, which the end of this section explains, goes beside ours. Then let the cache write.

# %%
text = tokens[:, :257]
expected = model(text)


def through(cache, text, sizes):
    """All logits of a text that goes through a cache in pieces of these sizes"""
    return torch.cat([model(piece, cache=cache) for piece in text.split(sizes, 1)], 1)


def same(a, b):
    """Equal but for rounding: logits are of the order of 10"""
    return bool((a - b).abs().max() < 1e-3)


cuts = {
    "in one pass": [257],
    "token by token": [1] * 257,
    "a prompt, then tokens": [200] + [1] * 57,
    "in unequal pieces": [100, 1, 50, 6, 100],
}
for name, sizes in cuts.items():
    ours = through(GrowingCache(), text, sizes)
    theirs = through(tk.cache.ContiguousCache(config, 1, 257), text, sizes)
    print(f"{name:22} ours {same(ours, expected)}   teachkit {same(theirs, expected)}")


def write_cached(prompt, n_new):
    """As write(); but each pass takes only what the cache has not seen"""
    cache, new, ids = GrowingCache(), list(prompt), []
    for _ in range(n_new):
        logits = model(torch.tensor([new]), cache=cache, last_only=True)
        new = [logits[0, -1].argmax().item()]
        ids += new
    return ids


print("same text, ours       ", write_cached(prompt, 24) == written)
print("same text, tk.generate", tk.generate(model, prompt, max_new_tokens=24).tokens == written)

# %% [markdown]
# ### Three quiet ways to get it wrong
#
# None of these raises an error; every shape is right.
#
# 1. The positions of each pass start at 0 again.
# 2. The mask is aligned to the top left, as PyTorch's `is_causal=True` has it, so the first new query sees the first key only.
# 3. Eight tokens are tried and taken back, but the cache is cut one token too late, or one too early.
#
# **Predict.** Which of the three raises the loss most, and which would you not notice in the loss at all?


# %%
class Restarted(GrowingCache):
    def plan(self, n_new):
        super().plan(n_new)
        return Plan(self.stored, torch.arange(n_new[0])[None])


class TopLeft(GrowingCache):
    def plan(self, n_new):
        return TopLeftPlan(self.stored, super().plan(n_new).positions)


class TopLeftPlan(Plan):
    def layer(self, index):
        return TopLeftView(self.stored, index)


class TopLeftView(View):
    def read(self, q, k, v, scale):
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=True, scale=scale
        )


def taken_back(keep):
    """All logits, when eight foreign tokens were tried after 128 and the cache then kept `keep`"""
    cache = tk.cache.ContiguousCache(config, 1, 300)
    first = model(text[:, :128], cache=cache)
    model(tokens[:, 600:608], cache=cache)
    cache.truncate(0, keep)  # row 0 forgets all but its first `keep` tokens
    return torch.cat((first, model(text[:, 128:], cache=cache)), 1)


# %%
def bits(logits):
    """Mean of -log2 p of the tokens that came next, from row 128 on: after the mistake"""
    return F.cross_entropy(logits[0, 128:-1], text[0, 129:]).item() / math.log(2)


sizes = [129] + [1] * 128
tried = {
    "right": through(GrowingCache(), text, sizes),
    "positions restart": through(Restarted(), text, sizes),
    "mask to the top left": through(TopLeft(), text, sizes),
    "taken back, right": taken_back(128),
    "taken back, one too many": taken_back(129),
    "taken back, one too few": taken_back(127),
}
print("                         bits per token   largest error of a logit   right")
for name, logits in tried.items():
    assert logits.shape == expected.shape
    off = (logits - expected).abs().max()
    print(f"{name:24} {bits(logits):14.2f} {off:26.1f} {same(logits, expected)!s:>7}")

# %% [markdown]
# **Explain.** The first two raise the loss by bits. With positions restarted a token still reads the whole past, at wrong angles; with the
# mask at the top left it reads the first token and nothing else, not even itself. The third moves the loss in the second decimal only, while single
# logits are off by several units: a mean over a text hides it. So a cache is tested on logits, row by row, against a pass
# without one, with the text cut in several ways.
#
# ### Append or write in place
#
# `torch.cat` makes a new tensor and copies the whole past into it, for every token and layer. `tk.cache.ContiguousCache(config, batch, capacity)`
# allocates beforehand and writes the new keys and values into their slots.
#
# **Predict.** With a past of 100,000 tokens, how many bytes does `torch.cat` write to add one token to the keys alone of one layer, in fp32?


# %%
def in_rounds(calls, rounds=3):
    """Median seconds of each call: at least three measured in each round, after one that is not.

    In rounds, so that a slow spell of the machine falls on all alike. One not measured, because it
    pays for what the call before it has left in the processor's own caches.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            timing = tk.measure.time_call(call, warmup=1, repeats=8, budget_s=0.05)
            times[name] += timing.times_s
    return {name: statistics.median(values) for name, values in times.items()}


def ways_of_appending(S):
    """Three ways to add one token's keys to S"""
    past, new = torch.zeros(1, Hkv, S, D), torch.zeros(1, Hkv, 1, D)
    room = torch.zeros(1, Hkv, S + 1, D)
    return {
        ("cat", S): lambda: torch.cat((past, new), 2),
        ("cat into room", S): lambda: torch.cat((past, new), 2, out=room),
        ("slot", S): lambda: room[:, :, S:].copy_(new),
    }


pasts = (100, 1_000, 10_000, 100_000)
append_s = {key: s for S in pasts for key, s in in_rounds(ways_of_appending(S)).items()}

# %% tags=["nbval-ignore-output", "hide-input"]
row_bytes = Hkv * D * 4
table = "\n".join(
    f"| {S:,} | {(S + 1) * row_bytes:,} | "
    + " | ".join(f"{append_s[name, S] * 1e6:,.0f}" for name in ("cat", "cat into room", "slot"))
    + " |"
    for S in pasts
)
ratio = {S: append_s["cat", S] / append_s["slot", S] for S in pasts}
short = "about as long" if 0.5 < ratio[100] < 2 else f"{ratio[100]:.1f} times as long"
fresh = append_s["cat", 100_000] / append_s["cat into room", 100_000]
fresh_told = (
    f"At the longest past, copying into memory that is already there takes 1/{fresh:.0f} of the "
    "time; the rest is the price of fresh memory for a large tensor."
    if fresh >= 2
    else "Copying into memory that is already there takes much the same time at the longest past."
)
Markdown(f"""
| past, tokens | bytes that `cat` writes | `cat`, µs | `cat` into memory already there, µs | slot, µs |
| ---: | ---: | ---: | ---: | ---: |
{table}

The keys of one layer; the slot is {row_bytes} bytes at every length. With a past of 100 tokens `cat` takes {short} as the slot, with 10,000 it takes
{ratio[10_000]:,.0f} times as long. {fresh_told} Over a text of $n$ tokens `cat` copies, for each key/value head of a layer, some $n^2/2$ keys, none of which had changed.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 3. Predict, then measure
#
# Walk through a generation of the model. Each step of the figure is one pass that writes one token: without a cache it reads the whole text, with one
# only what is new. Step 0 reads the prompt. Each table is one head's: rows are queries, columns keys.

# %% tags=["nbval-ignore-output"]
words = model.tokenizer.encode("def area(width, height):\n    return", special=False)
opening = [model.tokenizer.bos, *words]
ids = opening + tk.generate(model, opening, max_new_tokens=12).tokens
shape = figures.DecodeShape(
    L, H, Hkv, D, matrix_params=matrices, head_params=head.numel(), itemsize=4
)
pieces = ["<start>", *(model.tokenizer.decode([i]) for i in ids[1:])]
figures.decode_steps(pieces, len(opening), shape, step=3)

# %% [markdown]
# Without a cache one more row of matrix work is added at each step, and a whole row and column of attention. With it, a step is one row
# through the matrices and one row of attention: for one token the matrices go from $O(n)$ to $O(1)$, attention from $O(n^2)$ to $O(n)$.
#
# **Predict.** Our formula gives the FLOPs of both. In a text of 1,000 tokens, how many times fewer does the cached step take: 10, 100 or
# 900? And how many times *faster* is it?

# %%
print("tokens   GFLOP without    with   ratio")
for n in (16, 128, 1000):
    cache = tk.cache.ContiguousCache(config, 1, n)
    model(tokens[:, : n - 1], cache=cache)
    with FlopCounterMode(display=False) as counter:
        model(tokens[:, n - 1 : n], cache=cache)
    again, cached = pass_flops(n, n), pass_flops(1, n)
    assert counter.get_total_flops() == cached
    print(f"{n:6} {again / 1e9:15.3f} {cached / 1e9:7.3f} {again / cached:7.0f}")


# %%
def passes(model, n):
    """Two ways to one more token in a text of n: everything again, and with a cache"""
    generator = torch.Generator().manual_seed(n)
    ids = torch.randint(model.config.vocab_size, (1, n), generator=generator)
    cache = tk.cache.ContiguousCache(model.config, 1, n)
    model(ids, cache=cache)

    def cached():
        cache.truncate(0, n - 1)  # the step before this one is taken back
        model(ids[:, -1:], cache=cache)

    return {("again", n): lambda: model(ids, last_only=True), ("cached", n): cached}


def products_alone(n):
    """The control: a pass's matrix products, all layers' on n rows, and nothing else"""
    rows = {width: torch.randn(n, width) for width in {p.shape[1] for p in in_layers}}
    return lambda: [F.linear(rows[p.shape[1]], p) for p in in_layers]


lengths = (4, 16, 64, 256, 1000)
calls = {key: call for n in lengths for key, call in passes(model, n).items()}
calls |= {("products", n): products_alone(n) for n in (1, 1000)}
pass_s = in_rounds(calls)


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_curve():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for kind, label in (("again", "everything again"), ("cached", "with a cache")):
        ax.loglog(lengths, [pass_s[kind, n] * 1e3 for n in lengths], marker="o", label=label)
    ax.set(xlabel="tokens in the text", ylabel="ms for one more token")
    ax.set(xticks=lengths, xticklabels=lengths)
    ax.minorticks_off()
    ax.legend()
    return fig


def ms(seconds):
    """Milliseconds, two digits or whole ones"""
    return f"{seconds * 1e3:.1f}" if seconds < 0.00995 else f"{seconds * 1e3:.0f}"


display(
    figures.static(
        draw_curve,
        alt="Time for one more token over the length of the text, both axes logarithmic. "
        f"Computing everything takes {ms(pass_s['again', 16])} ms at 16 tokens and {ms(pass_s['again', 1000])} ms "
        f"at 1,000; with a cache {ms(pass_s['cached', 16])} and {ms(pass_s['cached', 1000])} ms.",
    )
)
Markdown(tk.measure.caption())


# %% tags=["nbval-ignore-output", "hide-input"]
def rate(kind, n):
    """GFLOP/s"""
    flops = pass_flops(n if kind == "again" else 1, n)
    return flops / pass_s[kind, n] / 1e9


table = "\n".join(
    f"| {n:,} | {pass_flops(n, n) / pass_flops(1, n):.0f} "
    f"| {pass_s['again', n] / pass_s['cached', n]:.1f} "
    f"| {rate('again', n):.1f} | {rate('cached', n):.1f} |"
    for n in lengths
)
gap = rate("again", 1000) / rate("cached", 1000)
alone = {n: 2 * matrices * n / pass_s["products", n] / 1e9 for n in (1, 1000)}
part = pass_s["products", 1] / pass_s["cached", 16]
cause = (
    "So the gap is not the cache's doing: the same products, with nothing around them, run much "
    "slower on one row. With 1,000 rows each number of a matrix is used 1,000 times, with one row once."
    if alone[1000] > 3 * alone[1]
    else "In this run the products alone do not show the gap; it comes from what surrounds them."
)
above = (
    " With everything again, softmax and masks come on top, which take time and count no FLOPs."
    if alone[1000] > rate("again", 1000)
    else ""
)
of_step = (
    f"On one row the products take {part:.0%} of a cached step at 16 tokens; the rest is the last "
    "matrix, attention and many small operations. Section 5 bounds the price of the last."
    if part < 0.9
    else "On one row the products take as long as a whole cached step at 16 tokens, so this run "
    "cannot tell what the small operations around them cost."
)
Markdown(f"""
| tokens | times fewer FLOPs | times faster | GFLOP/s, everything again | GFLOP/s, with a cache |
| ---: | ---: | ---: | ---: | ---: |
{table}

**Explain.** At 1,000 tokens the FLOPs say {pass_flops(1000, 1000) / pass_flops(1, 1000):.0f} times and the clock says
{pass_s["again", 1000] / pass_s["cached", 1000]:.0f}: per second the cached step does {gap:.0f} times less arithmetic. The control is the layers' matrix products
alone: {alone[1000]:.0f} GFLOP/s on 1,000 rows, {alone[1]:.1f} on one. {cause}{above} {of_step}

{tk.measure.caption()}
""")

# %% [markdown]
# What one row has to wait for is the question of the next chapter.
#
# ## 4. The bytes
#
# Per token, each layer keeps a key and a value for each of its key/value heads:
#
# $$\text{bytes per token} = 2 \cdot L \cdot H_{kv} \cdot D \cdot \text{bytes per number}$$
#
# **Predict.** This model has 6 layers with 2 key/value heads of 64 numbers, kept in fp32. Work it out by hand before you run the cell.

# %%
by_hand = 2 * L * Hkv * D * 4
cache = tk.cache.ContiguousCache(config, 3, 500)
ours = GrowingCache()
model(text, cache=ours)
grown = sum(k.nbytes + v.nbytes for k, v in ours.stored.values())
print("by hand                     ", by_hand)
print("config.kv_bytes_per_token(4)", config.kv_bytes_per_token(4))
print("cache.nbytes / (3 * 500)    ", cache.nbytes // (3 * 500))
print("GrowingCache, per token     ", grown // 257)

# %% [markdown]
# Two conventions decide what a number of bytes is called: a *GB* is $10^9$ bytes, a *GiB* is $2^{30}$, and $2^{30} / 10^9 = 1.07$. Models are
# usually served with numbers of 16 bits, 2 bytes each.
#
# **Predict.** Now the puzzle. GPT-3 has 96 layers and 96 heads of 128 numbers, each with its own keys and values. How many bytes does a token
# leave, at 16 bits? And how many do 100 sequences of 1,000 tokens?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# $2 \cdot 96 \cdot 96 \cdot 128 \cdot 2 = 4{,}718{,}592$ bytes per token, and $100 \cdot 1{,}000$ times as many are $4.72 \cdot 10^{11}$.
#
# </details>

# %%
GPT3 = tk.ModelConfig(
    vocab_size=50257, d_model=12288, n_layers=96, n_heads=96, d_ff=49152, context=2048,
    norm="layer", gated_mlp=False, position="learned", qkv_bias=True, o_bias=True,
    mlp_bias=True, tied=True, activation="gelu_tanh",
)  # fmt: skip


def n_parameters(config):
    with torch.device("meta"):  # shapes without memory
        return sum(p.numel() for p in tk.Decoder(config).parameters())


per_token = GPT3.kv_bytes_per_token(2)
total, weights = per_token * 100 * 1000, n_parameters(GPT3) * 2

# %% tags=["hide-input"]
Markdown(f"""
| GPT-3, 16 bits | bytes | GB | GiB |
| --- | ---: | ---: | ---: |
| keys and values of one token | {per_token:,} | {per_token / 1e9:.4f} | {per_token / 2**30:.4f} |
| keys and values, 100 × 1,000 tokens | {total:,} | {total / 1e9:.1f} | {total / 2**30:.1f} |
| weights | {weights:,} | {weights / 1e9:.1f} | {weights / 2**30:.1f} |
| claimed for the keys and values | | 700 | |
| **if queries were kept as well** | {total * 3 // 2:,} | {total * 1.5 / 1e9:.1f} | {total * 1.5 / 2**30:.1f} |

**The claim is about one and a half times the right figure** ({700e9 / total:.2f} in GB). The cache does outweigh the weights, {total / weights:.2f} times and not twice.
""")

# %% [markdown]
# One way to the lecture's figure is to count three vectors per token and layer: the query beside key and value. That fits,
# $707.8 / 700 = 1.01$, but it is our guess; the slide shows no derivation. Queries are never read again (section 1): no need to keep them.
#
# The claim's point stands: for 100 people the cache outweighs the model. From how many tokens on is that so?
#
# **Predict.** LLaMA-7B has 6.7 billion parameters and 32 layers with 32 heads of 128 ([table 2](https://arxiv.org/abs/2302.13971)). Llama 3 8B has
# 8.0 billion, as many layers, and 8 key/value heads of 128 ([table 3](https://arxiv.org/abs/2407.21783)). At 16 bits, how many tokens, over all
# sequences together, weigh as much as the weights?

# %%
LLAMA_7B = tk.ModelConfig(
    vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008, context=2048
)
LLAMA3_8B = tk.ModelConfig(
    vocab_size=128256, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336,
    context=8192,
)  # fmt: skip
shapes = {"this model": config, "LLaMA-7B": LLAMA_7B, "Llama 3 8B": LLAMA3_8B, "GPT-3": GPT3}
print("at 16 bits   bytes per token   weights, GB   tokens that weigh as much")
for name, c in shapes.items():
    weights, kv = 2 * n_parameters(c), c.kv_bytes_per_token(2)
    print(f"{name:12} {kv:15,} {weights / 1e9:13.3g} {weights // kv:27,}")

# %% [markdown]
# How the tokens are divided into sequences does not matter: 12 of 2,048, or 100 of 257, weigh about as much as LLaMA-7B itself. Sharing key/value
# heads divides the cache by $G = H / H_{kv}$ and the weights by hardly anything.
#
# In the figure, choose GPT-3, 1,000 tokens, 100 sequences. Then find how many sequences of LLaMA-7B fit on an A10. The figure's table names the sources
# of the shapes. In Jupyter the fields above it make your own Python process allocate the cache that you choose and report the bytes it got.


# %% tags=["nbval-ignore-output"]
def allocate(shape, tokens, bits):
    c, dtype = shapes[shape], {16: torch.bfloat16, 32: torch.float32}[bits]
    predicted = c.kv_bytes_per_token(dtype.itemsize) * tokens
    if predicted > 6e8:
        return Markdown(
            f"{predicted / 1e9:.2f} GB: too much for this page. Fewer tokens, please."
        )
    n_bytes = tk.cache.ContiguousCache(c, 1, tokens, dtype=dtype).nbytes
    equal = "as predicted" if n_bytes == predicted else f"predicted were {predicted:,}"
    sizes = f"{n_bytes:,} bytes = {n_bytes / 1e9:.3f} GB = {n_bytes / 2**30:.3f} GiB"
    return Markdown(f"{shape}, {tokens:,} tokens: **{sizes}**, {equal}")


calculator = figures.kv_memory("LLaMA-7B", "A10", context=2048, sequences=1)
figures.live(
    allocate,
    calculator,
    with_twin=True,
    shape=list(shapes),
    tokens=(64, 1024, 64),
    bits=[16, 32],
)

# %% [markdown]
# A label follows neither convention reliably: `nvidia-smi` shows 23,028 MiB, or 24.15 GB, for an A10 sold as 24 GB, and 81,920 MiB, exactly 80 GiB, for
# an A100 sold as 80 ([a list by Modal](https://github.com/modal-labs/modal-client/pull/2797)). Ask the device: `torch.cuda.mem_get_info()` returns free and total bytes.
#
# ### Long texts: the step grows with what is kept
#
# A step reads all weights once, and all keys and values once. The first part stays, the second grows with the text.
#
# **Predict.** Take an untrained model of the same shape with room for long texts. When a step reads 9 times the bytes, from 512 tokens to 32,768, does it slow down by
# less than that, as much, or more?

# %%
long_model = tk.Decoder(replace(config, context=32768))
weights_bytes = sum(p.nbytes for p in model.parameters())


def step_behind(S):
    """One more token behind S - 1 others"""
    cache = tk.cache.ContiguousCache(long_model.config, 1, S)
    cache.plan([S])  # zeros instead of a text: as many bytes to read

    def step():
        cache.truncate(0, S - 1)
        long_model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)

    return step


long_s = in_rounds({S: step_behind(S) for S in (512, 4096, 32768)})

# %% tags=["nbval-ignore-output", "hide-input"]
kv_bytes = {S: config.kv_bytes_per_token(4) * S for S in long_s}
table = "\n".join(
    f"| {S:,} | {kv_bytes[S] / 1e6:.0f} | {kv_bytes[S] / weights_bytes:.1f} | {ms(s)} |"
    for S, s in long_s.items()
)
more_bytes = (weights_bytes + kv_bytes[32768]) / (weights_bytes + kv_bytes[512])
more_flops = pass_flops(1, 32768) / pass_flops(1, 512)
slower = long_s[32768] / long_s[512]
less = (
    ", and slows down by less than either: bytes and FLOPs alone do not set its time here"
    if slower < min(more_bytes, more_flops)
    else ""
)
Markdown(f"""
| tokens in the cache | keys and values, MB | times the weights | one step, ms |
| ---: | ---: | ---: | ---: |
{table}

From 512 to 32,768 tokens a step takes {slower:.1f} times as long. It reads {more_bytes:.1f} times the bytes and does
{more_flops:.0f} times the FLOPs{less}; the next chapter separates the two.

{tk.measure.caption()}
""")

# %% [markdown]
# In a batch one reading of the weights serves all sequences; the keys and values are each sequence's own. Memory that one keeps is taken from the others:
# (memory − weights) / (bytes of a sequence) is how many people can be served at once.
#
# ## 5. When it saves little or nothing
#
# ### Short texts, small models
#
# A pass calls hundreds of PyTorch operations, most of them small. Starting one costs about the same whatever its size.
#
# **Predict.** A model of the same build is made narrower by a factor of 8, which leaves it next to no arithmetic. Does its
# step start fewer operations than ours, or as many? And from which length of text, 4, 16, 64 or 256 tokens, is a step with a cache
# 1.5 times as fast as one without?


# %%
class CountCalls(TorchDispatchMode):
    """Counts the operations that PyTorch is asked for."""

    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def calls_of_a_step(model, past):
    cache = tk.cache.ContiguousCache(model.config, 1, past + 1)
    cache.plan([past])  # room is reserved, nothing computed: enough for counting
    with CountCalls() as count:
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)
    return count.calls


torch.manual_seed(0)
narrow = tk.Decoder(
    tk.ModelConfig(
        vocab_size=64, d_model=32, n_layers=6, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=88
    )
)
n_calls = calls_of_a_step(model, 10)
for name, m in {"ours": model, "narrow": narrow}.items():
    print(f"{name:7} {sum(p.numel() for p in m.parameters()):9,} parameters")
print("as many operations behind 1,000 tokens", calls_of_a_step(model, 1000) == n_calls)
print("as many operations in the narrow model", calls_of_a_step(narrow, 10) == n_calls)

# %%
short_lengths = (4, 16, 64, 256)
calls = {
    (name, *key): call
    for name, m in {"ours": model, "narrow": narrow}.items()
    for n in short_lengths
    for key, call in passes(m, n).items()
}
short_s = in_rounds(calls, rounds=4)


# %% tags=["nbval-ignore-output", "hide-input"]
def faster(name, n):
    return short_s[name, "again", n] / short_s[name, "cached", n]


def first_win(name):
    wins = [
        n for n in short_lengths if all(faster(name, m) >= 1.5 for m in short_lengths if m >= n)
    ]
    return f"from {wins[0]} tokens on" if wins else "at none of these lengths"


table = "\n".join(
    f"| {n} | {faster('ours', n):.1f} | {faster('narrow', n):.1f} "
    f"| {ms(short_s['ours', 'cached', n])} | {ms(short_s['narrow', 'cached', n])} |"
    for n in short_lengths
)
steps = {name: [short_s[name, "cached", n] for n in (4, 16, 64)] for name in ("ours", "narrow")}
floor = min(steps["narrow"])
share = floor / min(steps["ours"])
spread = max(steps["narrow"]) / floor
share_told = (
    f"That is **at most {share:.0%} of our model's step**, and no cache removes it; fewer and larger "
    "operations do."
    if share < 0.9 and spread < 1.4
    else "How much of our model's step that is cannot be told from this run."
)
disturbed = (
    "\n\n*The narrow model's cached step should take about the same time up to 64 tokens. Here it "
    f"varies {spread:.1f}-fold: something else was probably running. Run the cell above again before you "
    "believe a row.*"
    if spread >= 1.4
    else ""
)
Markdown(f"""
| tokens | ours: times faster | narrow: times faster | ours: step with a cache, ms | narrow: step with a cache, ms |
| ---: | ---: | ---: | ---: | ---: |
{table}

Among these lengths the cache is at least 1.5 times as fast {first_win("ours")} in our model and {first_win("narrow")} in the narrow one, whose cached step starts
{n_calls} operations and does little arithmetic: at most {floor / n_calls * 1e6:.1f} µs per operation, Python included. {share_told} Section 3 timed some of the same calls; where the two tables
differ, the machine did.{disturbed}

{tk.measure.caption()}
""")

# %% [markdown]
# ### One pass over a given text
#
# To *score* a text, to read a prompt once, to train: all tokens are known, one pass does them all, and no second one could reuse anything.
#
# **Predict.** 128 given tokens are scored in one pass, in one pass that also fills a cache, and token by token through a cache. Order the three by time.

# %%
scored = tokens[:, :128]


def token_by_token():
    cache = tk.cache.ContiguousCache(config, 1, 128)
    for i in range(128):
        model(scored[:, i : i + 1], cache=cache)


one_pass = {
    "no cache": lambda: model(scored),
    "filling": lambda: model(scored, cache=tk.cache.ContiguousCache(config, 1, 128)),
}
timings = tk.measure.time_calls(one_pass, repeats=15)  # in turn: A B A B
score_s = {name: timing.median_s for name, timing in timings.items()}
score_s["by token"] = tk.measure.time_call(token_by_token, warmup=0, repeats=3).median_s

# %% tags=["nbval-ignore-output", "hide-input"]
extra = score_s["filling"] / score_s["no cache"] - 1
filled_bytes = config.kv_bytes_per_token(4) * 128
told = (
    "no measurable difference"
    if abs(extra) < 0.15
    else f"{extra:+.0%} in this run, which writing {filled_bytes / 1e6:.1f} MB does not explain: run the "
    "cell again before you believe it"
)
Markdown(f"""
| 128 given tokens, logits of all | ms |
| --- | ---: |
| one pass, no cache | {ms(score_s["no cache"])} |
| one pass, filling a cache | {ms(score_s["filling"])} |
| token by token, with a cache | {ms(score_s["by token"])} |

Filling a cache on the way: {told}. Token by token takes {score_s["by token"] / score_s["no cache"]:.0f} times as long as one pass, for the same logits and
even fewer FLOPs: no pair is computed that the mask would hide. But each weight is used for one token at a time, and each of the {n_calls} operations is started 128 times.

{tk.measure.caption()}
""")

# %% [markdown]
# ### Editing what has been read
#
# **Predict.** In a cache of 500 tokens, one token is replaced by another: the first, the one in the middle, the last. How many of the 500 keys stay as they were, in
# the first layer and in the last?

# %%
print("replaced   keys unchanged: first layer   last layer")
for at in (0, 250, 499):
    edit = read.clone()
    edit[0, at] = tokens[0, 700]
    kept = ~changed(before, keys_values(edit))[:, 0]  # (L, T), of the keys
    print(f"{at:8} {kept[0].sum().item():29} {kept[-1].sum().item():12}")

# %% [markdown]
# **Explain.** In the first layer a key is made from its own token, so exactly one changes. From the second layer on it is made from what that token has read, and the
# change reaches everything behind it. A cache is worth as much as the *unbroken beginning* that old text and new share; an edit at the front makes it worthless.

# %% [markdown]
# ## 6. What a cache makes possible
#
# **Going back.** `truncate(row, length)` erases nothing: the length is a number, and the slots behind it are written over. So another
# continuation costs no more than itself; `taken_back(128)` in section 2 was the test.
#
# **Sharing a beginning.** Two requests begin with the same 300 tokens, a *system prompt*. Computed once, its keys and values serve both. Below they are copied;
# a chapter on paged caches shares them without a copy. A third request differs in its first token.
#
# **Predict.** How many tokens must the model compute for each?


# %%
def common(a, b):
    """Length of the beginning that two lists of tokens share"""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


system = tokens[0, :300].tolist()
held = tk.cache.ContiguousCache(config, 1, 400)
model(torch.tensor([system]), cache=held)
requests = {
    "same beginning": system + tokens[0, 600:620].tolist(),
    "system prompt alone": system,
    "a date in front": [tokens[0, 800].item(), *system, *tokens[0, 600:620].tolist()],
}
for name, request in requests.items():
    # At least the last token goes through the model: its logits are wanted.
    reused = min(common(system, request), len(request) - 1)
    cache = tk.cache.ContiguousCache(config, 1, 400)
    if reused:
        cache.plan([reused])  # reserves the slots, which are then filled from what is held
        cache.k[:, :, :, :reused] = held.k[:, :, :, :reused]
        cache.v[:, :, :, :reused] = held.v[:, :, :, :reused]
    logits = model(torch.tensor([request[reused:]]), cache=cache)[:, -1]
    right = same(logits, model(torch.tensor([request]))[:, -1])
    n = len(request)
    print(f"{name:20} computed {n - reused:3} of {n} tokens, right logits: {right}")

# %% [markdown]
# **Reading in pieces.** Attention as we wrote it holds, for one layer at a time, weights of shape $(H, T, S)$. Prompts that go through in chunks have a smaller $T$, and a server
# can serve other people between two chunks.

# %%
long_prompt = tokens[0, :1000].tolist()
whole = model(tokens[:, :1000], last_only=True)[:, -1]
print("chunk   attention weights, largest pass, bytes (calculated)   right logits")
for chunk in (1000, 300, 64):
    cache = tk.cache.ContiguousCache(config, 1, 1000)
    logits = tk.decode.prefill(model, cache, long_prompt, chunk=chunk)
    # (T, S) of each pass: its tokens, and all up to its last
    passes_made = [(min(chunk, 1000 - s), min(s + chunk, 1000)) for s in range(0, 1000, chunk)]
    largest = max(4 * H * T * S for T, S in passes_made)
    print(f"{chunk:5} {largest:53,} {same(logits, whole)!s:>14}")

# %% [markdown]
# ## What real systems do
#
# - **They do the same accounts.** [Shazeer 2019](https://arxiv.org/abs/1911.02150) starts from the cost of fetching keys and values for every token, and shares one key/value head among all
#   query heads. [Pope et al. 2022](https://arxiv.org/abs/2211.05102) reckon with 3 TB of keys and values, 3 times the weights, for 512 sequences of 2,048 tokens in a model of more than 500B parameters without such sharing.
# - **They preallocate.** [gpt-fast](https://github.com/meta-pytorch/gpt-fast/blob/24428d7ef4325b6d9a5714da08e04fa366d1f419/model.py)'s cache is two zero-filled buffers written by position.
#   [Hugging Face transformers](https://huggingface.co/docs/transformers/kv_cache) has both: `DynamicCache`, the default, grows as ours does; `StaticCache` is preallocated.
# - **They allocate in blocks.** Room reserved for the longest answer mostly stays empty: in the systems that [Kwon et al. 2023](https://arxiv.org/abs/2309.06180) measured, 20.4% to 38.2% of the cache's memory held tokens.
#   vLLM, theirs, hands it out in small blocks.
# - **They sell the shared beginning.** Providers keep the keys and values of prompts and charge less for tokens found there: [OpenAI](https://developers.openai.com/api/docs/guides/prompt-caching) and
#   [Mistral](https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching) require the same beginning (section 5 says why), so what changes goes at the end of a prompt.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
sequence = LLAMA_7B.kv_bytes_per_token(2) * 4096
llama_weights = n_parameters(LLAMA_7B) * 2


def fits(n_bytes):
    """Sequences beside the weights, in so many bytes"""
    return (n_bytes - llama_weights) / sequence


def total_growth(attention):
    """How much more a text of 2,000 tokens costs than one of 1,000, all steps together"""
    cost = [sum(attention(t) for t in range(1, n + 1)) for n in (1000, 2000)]
    return cost[1] / cost[0]


a10, a100 = ((fits(gb * 10**9), fits(gb * 2**30)) for gb in (24, 80))
a10_reported = fits(23028 * 2**20)  # nvidia-smi: 23,028 MiB
talk = (
    "T. Lacroix, [*Exploring the Latency/Throughput & Cost Space for LLM Inference*]"
    "(https://www.youtube.com/watch?v=mYRqvB1_gRk), talk, October 2023"
)
lecture = "J. Liu, *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| GPT-3: about 700 GB of KV cache for 100 sequences of 1,000 tokens | {lecture}, slide “Computation Resources Needed For LLMs” | Too high: section 4. |
| LLaMA-7B: about 2 GB per sequence of 4K | {talk} | Right: {sequence:,} bytes, {sequence / 2**30:.2f} GiB or {sequence / 1e9:.3f} GB. The first LLaMA's context is 2K; at that length it is half. |
| An A10 with 24 GB holds about 5 such sequences | same talk | Right in round numbers, (24 − 14) / 2 = 5, where 14 is 7 billion weights of 2 bytes. Unrounded, {a10[0]:.2f} if a GB is 10⁹ bytes, {a10[1]:.2f} if it is 2³⁰. By the memory that an A10 reports (section 4), {a10_reported:.2f}: four whole ones, with nothing set aside for anything else. |
| An A100 with 80 GB holds about 33 | same talk | Right in round numbers, (80 − 14) / 2 = 33. Unrounded, {a100[0]:.2f} or {a100[1]:.2f}; an A100 reports 80 GiB, so 33. |
| A KV cache turns the time of generation from quadratic to linear | [Shi et al. 2024](https://arxiv.org/abs/2407.18003), abstract | Right for attention's arithmetic per token. Over a whole text, doubling the length multiplies it by {total_growth(lambda t: t * t):.0f} without a cache, by {total_growth(lambda t: t):.0f} with it: from cubic to quadratic, not to linear. |
""")

# %% [markdown]
# ## Exercises
#
# **1. Two people at once.** Put `tokens[:, :50]` and `tokens[:, 600:620]` into one `ContiguousCache` of two rows, then give each one more token, and show that
# both rows get the logits they would get alone. The rows differ in length: what must the plan know of each?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# a, b = tokens[:, :50], tokens[:, 600:620]
# padded = torch.zeros(2, 50, dtype=torch.int64)
# padded[0], padded[1, :20] = a[0], b[0]
# cache = tk.cache.ContiguousCache(config, 2, 60)
# logits = model(padded, step=cache.plan([50, 20]))
# print(same(logits[:1], model(a)), same(logits[1:, :20], model(b)))  # True True
#
# new = torch.tensor([[5], [7]])
# logits = model(new, cache=cache)
# for row, alone in enumerate((a, b)):
#     fresh = model(torch.cat((alone, new[row : row + 1]), 1))
#     print(cache.lengths[row].item(), same(logits[row, -1], fresh[0, -1]))  # 51 True, 21 True
# ```
#
# Its start, so that its positions and slots go on where it ended; how many of its tokens are real, so that padding is not stored; and a mask of its own, because attention runs
# over as many slots as the longer row has, and the shorter row has nothing in the last of them.
#
# </details>
#
# **2. Half the bytes.** Give `ContiguousCache` the argument `dtype=torch.bfloat16` and leave the model in fp32. What happens to `nbytes`, to the logits and to the bits per token?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for dtype in (torch.float32, torch.bfloat16):
#     cache = tk.cache.ContiguousCache(config, 1, 257, dtype=dtype)
#     logits = through(cache, text, [200] + [1] * 57)
#     off = (logits - expected).abs().max().item()
#     print(f"{cache.nbytes:,} bytes, logits off by {off:.0e}, {bits(logits):.2f} bits per token")
# # 1,579,008 bytes, logits off by 1e-05, 3.47 bits per token
# #   789,504 bytes, logits off by 5e-02, 3.47 bits per token
# ```
#
# Half the bytes. The logits no longer pass `same`, and the loss hardly moves: bfloat16 keeps 8 of fp32's 24 significant bits. Rounded
# keys need a measurement of quality, on more text than this; the chapter on quantization goes on to 8 and 4 bits.
#
# </details>
#
# **3. A chat.** Ten turns of 100 tokens each. At each turn the server needs the whole conversation, the new 100 tokens included. How many tokens go through the model in all if it forgets the
# cache between turns, and if it keeps it? And with the time of day in front of the conversation?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# forgetting = sum(100 * turn for turn in range(1, 11))
# print(forgetting, 10 * 100)  # 5500 1000
# ```
#
# With the time of day in front nothing is shared: keeping is as dear as forgetting, and takes memory besides.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("kv_cache")

# %% [markdown]
# Then in your own words:
#
# **A.** A cache holds 100 tokens, and 3 new ones go through the model. How many queries does a head have, how many keys, and how many of them does the first new token see?
#
# <details>
# <summary>Answer</summary>
#
# 3 queries, 103 keys; the first sees 101 of them: the 100 and itself.
#
# </details>
#
# **B.** A model that classifies texts has no causal mask. Would a KV cache help it to classify a text that grows by a token at a time?
#
# <details>
# <summary>Answer</summary>
#
# No. From its second layer on, every token's key depends on every other token, so one more token changes every key of those layers.
#
# </details>
#
# **C.** A model has twice the layers of another, half the key/value heads, and heads of the same width. Whose cache is larger? Whose step does more arithmetic in attention, if both have equally many query heads?
#
# <details>
# <summary>Answer</summary>
#
# The caches are equal: $2 \cdot L \cdot H_{kv} \cdot D$ is. The arithmetic goes with $L \cdot H \cdot D$, so the deeper model does twice as much, for the same bytes read.
#
# </details>
#
# ## Not covered here
#
# Where a step's time must go, from the bandwidth and FLOP/s of a machine, is the next chapter. Keeping fewer or smaller keys, and handing the memory out in
# blocks, are Parts III and IV. The book does not treat the keys and values that an encoder leaves for a decoder.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
