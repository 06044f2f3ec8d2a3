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
#       - Write a KV cache of about 25 lines, prove it on the logits of a trained model, and recognise three quiet ways to get it wrong
#       - Predict FLOPs and time per token with and without a cache, measure both, and explain why they disagree
#       - Compute the bytes of a cache for any published shape, in GB and in GiB, and say when it outweighs the weights
#       - Name cases in which a cache saves nothing, each with a measurement
#       - Go back, share a prefix and read a prompt in pieces, and test that nothing changes
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # The KV cache: time bought with memory
#
# A university lecture says: to serve GPT-3 to 100 people at once, 1,000 tokens each, the *KV cache* alone takes about 700 GB, twice
# the 350 GB of the model's weights. **Is that right?**
#
# Write down your guess: right, too low, or too high. By the end you can settle it with one line of arithmetic. The lecture is
# *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024; the model's shape is in
# [Brown et al. 2020, table 2.1](https://arxiv.org/abs/2005.14165).
#
# **Afterwards you can**
#
# - say which numbers of a forward pass the next one needs again, and show that they have not changed;
# - write a KV cache of about 25 lines, prove it on the logits of a trained model, and recognise three quiet ways to get it wrong;
# - predict FLOPs and time per token with and without a cache, measure both, and explain why they disagree;
# - compute the bytes of a cache for any published shape, in GB and in GiB, and say when it outweighs the weights;
# - name cases in which a cache saves nothing, each with a measurement;
# - go back, share a prefix and read a prompt in pieces, and test that nothing changes.
#
# **You need** the lessons on attention (queries, keys, values, the causal mask), on the model (layers, rotary positions) and on
# generation (prefill, decoding, logits). No GPU, and no network once `teachkit` is installed. Allow an hour, and as
# much again for the exercises. New letters are explained where they come; the old ones are those of the book's notation page: $T$ new tokens,
# $S$ tokens attended to, $L$ layers, $H$ query heads, $H_{kv}$ key/value heads, $D$ numbers in a key, $C$ in a token's vector,
# $V$ tokens in the vocabulary.

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
# In the lesson on generation a step of decode fed the model one token, and attention read a past that was not in the input. To see what
# makes that possible, do without it first: send the whole text through the model, take the last row of logits, append a token, and send
# the whole text again.

# %%
model = tk.load("bundled")
config = model.config
L, H, Hkv, D = config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim
folder = resources.files("teachkit") / "checkpoints" / "bundled"
# A file of Python's library that the model was not trained on.
source = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))["functools.py"]
tokens = torch.tensor([[model.tokenizer.bos, *model.tokenizer.encode(source, special=False)]])


def write(prompt, n_new):
    """n_new tokens, each the likeliest after all that stands before it; everything is computed each time"""
    ids = list(prompt)
    for _ in range(n_new):
        logits = model(
            torch.tensor([ids]), last_only=True
        )  # last_only: logits of the last token alone
        ids.append(logits[0, -1].argmax().item())
    return ids[len(prompt) :]


prompt = tokens[0, :200].tolist()
written = write(prompt, 24)
print("The text ends:", repr(model.tokenizer.decode(prompt[-20:])))
print("It writes:    ", repr(model.tokenizer.decode(written)))

# %% [markdown]
# **Predict.** For the 501st token of a text the model reads 500; for the 1,001st it reads 1,000. How much more arithmetic is the second:
# as much, 2 times, or 4 times?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Between 2 and 4 times. Each token goes through the matrices once, which takes a multiplication and an addition for every number in them: that part grows with $T$. Attention
# takes $4HDT^2$ FLOPs per layer: that part grows with $T^2$. The logits are taken for the last token only and cost the same.
#
# </details>

# %%
matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
head = config.vocab_size * config.d_model  # turns a token's vector into logits


def pass_flops(T, S):
    """FLOPs of a pass over T new tokens that see S, themselves included: matrices, logits, attention"""
    return 2 * matrices * T + 2 * head + 4 * L * H * D * T * S


print("    T           FLOPs   counted: equal   of them attention")
for T in (250, 500, 1000):
    with FlopCounterMode(display=False) as counter:
        model(tokens[:, :T], last_only=True)
    equal = counter.get_total_flops() == pass_flops(T, T)
    attention = 4 * L * H * D * T * T / pass_flops(T, T)
    print(f"{T:5} {pass_flops(T, T):15,} {equal!s:>16} {attention:19.0%}")

# %% [markdown]
# The attention lesson ended with a finding: what has been read stays read. One more token changes none of the attention weights between the
# tokens before it.
#
# **Predict.** The model reads 500 tokens, and then the same 500 and one more. How many of the first 500 tokens get another key or value, in
# any layer? And how many if instead the *first* of the 500 is replaced?


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
    step = Recorder(tokens)
    model(tokens, step=step)
    return torch.stack(step.noted)


def changed(a, b):
    """(L, 2, T): True where a token's key or value differs by more than rounding"""
    return (~torch.isclose(a, b, rtol=1e-3, atol=1e-3)).any(-1).any(3).any(2)


def tokens_changed(a, b):
    return changed(a, b).flatten(0, 1).any(0).sum().item()


read = tokens[:, :500]
before, after = keys_values(read), keys_values(tokens[:, :501])[..., :500, :]
other_first = read.clone()
other_first[0, 0] = tokens[0, 1]
print("tokens whose keys or values change")
print("  with one more token at the end  ", tokens_changed(before, after))
print("  with another first token        ", tokens_changed(before, keys_values(other_first)))

# %% [markdown]
# **Explain.** A token's key and value are made from that token and the ones before it, and nothing before it has changed. So
# 500 of the 501 rows were computed a second time to give the same numbers.
#
# Is there anything else in the old rows that the new token needs? It writes one row of logits, which comes from one row of each layer's
# output, which needs one query: its own. It reads the keys and values of all tokens. Old queries are never asked again, and old outputs were only needed to make
# the keys and values of the next layer. So the keys and values are all that has to be kept: the **KV cache**.

# %% [markdown]
# ## 2. Build it
#
# The model never touches stored keys and values; it asks for them in three questions, and whoever answers them is a cache.
#
# 1. Once per pass: `cache.plan([T])` is told how many tokens are new and returns a *plan*. (Its type in `teachkit` is called `Step`.)
# 2. `plan.positions` says at which positions the new tokens stand, so that rotary turns them by the right angles, and `plan.valid` which of them are
#    not padding.
# 3. For each layer, `plan.layer(index)` gives a *view*, and `view.attend(q, k, v)` stores the new keys and values and returns what the new queries
#    read from all of them.
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
        return self.read(q, k, v)

    def read(self, q, k, v):
        return tk.attention.scaled_dot_product_attention(q, k, v, causal=True)


# %% [markdown]
# `causal=True` masks to the bottom right: the last query sees the last key. With one query over $S$ keys nothing is masked; with a piece of a prompt, $T$
# queries over $S$ keys, each sees what stood before it.
#
# **Measure.** Same logits? Compare *all* rows of logits with those of one pass without a cache, whichever way the text is cut. Two texts can agree by luck;
# 257 rows of 4,096 logits cannot. Then let the cache write.

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
# 3. Eight tokens are tried and taken back, but the cache keeps one of them too many, or one too few.
#
# **Predict.** Which of the three raises the loss most, and which would you not notice in the loss at all?


# %%
class Restarted(GrowingCache):
    def plan(self, n_new):
        super().plan(n_new)
        return Plan(self.stored, torch.arange(n_new[0])[None])


class TopLeft(GrowingCache):
    def plan(self, n_new):
        plan = super().plan(n_new)
        plan.layer = lambda index: TopLeftView(plan.stored, index)
        return plan


class TopLeftView(View):
    def read(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def taken_back(keep):
    """All logits, when eight foreign tokens were tried after 128 and the cache then kept `keep`"""
    cache = tk.cache.ContiguousCache(config, 1, 300)
    first = model(text[:, :128], cache=cache)
    model(tokens[:, 600:608], cache=cache)
    cache.truncate(0, keep)
    return torch.cat((first, model(text[:, 128:], cache=cache)), 1)


# %%
def bits(logits):
    """Mean of -log2 p of the tokens that came next"""
    return F.cross_entropy(logits[0, :-1], text[0, 1:]).item() / math.log(2)


sizes = [129] + [1] * 128
tried = {
    "right": through(GrowingCache(), text, sizes),
    "positions restart": through(Restarted(), text, sizes),
    "mask to the top left": through(TopLeft(), text, sizes),
    "taken back, right": taken_back(128),
    "taken back, one too many": taken_back(129),
    "taken back, one too few": taken_back(127),
}
print("                           right logits   largest error   bits per token")
for name, logits in tried.items():
    assert logits.shape == expected.shape
    off = (logits - expected).abs().max()
    print(f"{name:26} {same(logits, expected)!s:>12} {off:15.0f} {bits(logits):16.2f}")

# %% [markdown]
# **Explain.** The first two destroy the text, and still nothing fails. The third is the dangerous one: single logits are off by several units, yet the mean loss
# moves in the second decimal only, which no look at the written text would show. So a cache is tested on logits, against a pass without one, cut in several ways. That is
# what `teachkit`'s own tests do.
#
# ### Append or write in place
#
# `torch.cat` makes a new tensor and copies the whole past into it, for every token and every layer. `tk.cache.ContiguousCache(config, batch, capacity)`
# allocates all it may need beforehand and writes the new keys and values into their slots.
#
# **Predict.** With a past of 100,000 tokens, one layer's `torch.cat` copies how many bytes to add one token?


# %% tags=["nbval-ignore-output"]
def times_of_appending(S):
    """Seconds to add one token's keys to S: (with cat, in place)"""
    past, new = torch.zeros(1, Hkv, S, D), torch.zeros(1, Hkv, 1, D)
    room = torch.zeros(1, Hkv, S + 1, D)

    def in_place():
        room[:, :, S : S + 1] = new

    calls = {"cat": lambda: torch.cat((past, new), 2), "slot": in_place}
    return [timing.median_s for timing in tk.measure.time_calls(calls, repeats=15).values()]


appending = {S: times_of_appending(S) for S in (100, 1_000, 10_000, 100_000)}
row_bytes = Hkv * D * 4
table = "\n".join(
    f"| {S:,} | {(S + 1) * row_bytes:,} | {row_bytes:,} | {cat * 1e6:,.0f} | {slot * 1e6:,.0f} |"
    for S, (cat, slot) in appending.items()
)
ratio = {S: cat / slot for S, (cat, slot) in appending.items()}
short = "about as much" if 0.5 < ratio[100] < 2 else f"{ratio[100]:.1f} times as much"
Markdown(f"""
| past, tokens | bytes that `cat` writes | bytes that a slot takes | `cat`, µs | slot, µs |
| ---: | ---: | ---: | ---: | ---: |
{table}

The keys of one layer. With a past of 100 tokens `cat` takes {short} time as a slot; with 100,000, {ratio[100_000]:,.0f} times as much.
Over a text of $n$ tokens it copies some $n^2/2$ rows: the quadratic cost that the cache was to remove has come back in another place.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 3. Predict, then measure
#
# Walk through a generation of the model. Each step of the figure is one pass that reads what is new and writes one token. The table of a side is one head's: rows are queries,
# columns keys.

# %% tags=["nbval-ignore-output"]
opening = model.tokenizer.encode("def area(width, height):\n    return")
ids = opening + tk.generate(model, opening, max_new_tokens=12).tokens
shape = figures.DecodeShape(L, H, Hkv, D, matrix_params=matrices, head_params=head, itemsize=4)
pieces = ["<start>", *(model.tokenizer.decode([i]) for i in ids[1:])]
figures.decode_steps(pieces, len(opening), shape, step=3)

# %% [markdown]
# Without a cache the work of a step grows: one more row of matrix work and a whole row and column of attention each time. With it, a step is one row through the matrices, and one row of
# attention: for one token the matrices go from $O(T)$ to $O(1)$, attention from $O(T^2)$ to $O(T)$. What grows now is what is kept.
#
# **Predict.** Our formula gives the FLOPs of both. At $T = 1000$, how many times fewer does the cached step take: 10, 100 or 900? And
# how many times *faster* is it?

# %%
print("    T   FLOPs without    FLOPs with   ratio")
for T in (16, 128, 1000):
    cache = tk.cache.ContiguousCache(config, 1, T)
    model(tokens[:, : T - 1], cache=cache)
    with FlopCounterMode(display=False) as counter:
        model(tokens[:, T - 1 : T], cache=cache)
    assert counter.get_total_flops() == pass_flops(1, T)
    print(
        f"{T:5} {pass_flops(T, T):15,} {pass_flops(1, T):13,} {pass_flops(T, T) / pass_flops(1, T):7.0f}"
    )


# %% tags=["nbval-ignore-output"]
def pass_times(model, T, repeats=9):
    """Seconds for one more token at length T: (everything computed, cached)"""
    ids = torch.randint(
        model.config.vocab_size, (1, T), generator=torch.Generator().manual_seed(T)
    )
    cache = tk.cache.ContiguousCache(model.config, 1, T)
    model(ids, cache=cache)

    def cached():
        cache.truncate(0, T - 1)
        model(ids[:, -1:], cache=cache)

    # One after the other, not in turn: steps follow on steps when a text is written, and what a long
    # pass leaves in the processor's own caches would slow the next step down.
    everything = tk.measure.time_call(lambda: model(ids, last_only=True), repeats=repeats)
    return everything.median_s, tk.measure.time_call(cached, repeats=2 * repeats).median_s


lengths = (4, 8, 16, 32, 64, 128, 256, 512, 1000)
curve = {T: pass_times(model, T) for T in lengths}
speedup = {T: again / cached for T, (again, cached) in curve.items()}


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_curve():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    for i, name in enumerate(("everything again", "with a cache")):
        ax.loglog(lengths, [curve[T][i] * 1e3 for T in lengths], marker="o", label=name)
    ax.set(
        xlabel="T (tokens in the text)",
        ylabel="ms for one more token",
        xticks=lengths,
        xticklabels=lengths,
    )
    ax.minorticks_off()
    ax.legend()
    return fig


display(
    figures.static(
        draw_curve,
        alt="Time for one more token over the length of the text, both axes logarithmic: computing everything takes "
        f"{curve[16][0] * 1e3:.1f} ms at 16 tokens and {curve[1000][0] * 1e3:.0f} ms at 1,000; "
        f"with a cache {curve[16][1] * 1e3:.1f} and {curve[1000][1] * 1e3:.1f} ms.",
    )
)
Markdown(tk.measure.caption())

# %% tags=["nbval-ignore-output"]
weights_bytes = sum(p.nbytes for p in model.parameters())
table = "\n".join(
    f"| {T:,} | {a * 1e3:.1f} | {b * 1e3:.1f} | {a / b:.1f} | {pass_flops(T, T) / pass_flops(1, T):.0f} |"
    for T, (a, b) in curve.items()
    if T in (16, 64, 256, 1000)
)
rate_all, rate_cached = (
    pass_flops(1000, 1000) / curve[1000][0] / 1e9,
    pass_flops(1, 1000) / curve[1000][1] / 1e9,
)
Markdown(f"""
| T | everything again, ms | with a cache, ms | times faster | times fewer FLOPs |
| ---: | ---: | ---: | ---: | ---: |
{table}

**Explain.** At 1,000 tokens the cached step takes 1/{pass_flops(1000, 1000) / pass_flops(1, 1000):.0f} of the FLOPs and 1/{speedup[1000]:.0f} of the time. Both passes fetch
the same {weights_bytes / 1e6:.0f} MB of weights. The long one uses each weight for 1,000 tokens and reaches {rate_all:.0f} GFLOP/s; the step uses it once and reaches {rate_cached:.1f}. It is not
short of arithmetic. Its time goes to fetching the weights and to starting its operations; a cache saves neither. Section 5 takes the two apart.

{tk.measure.caption()}
""")

# %% [markdown]
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
print("by hand                     ", by_hand)
print("config.kv_bytes_per_token(4)", config.kv_bytes_per_token(4))
print("cache.nbytes / (3 * 500)    ", cache.nbytes // (3 * 500))

# The text of section 2, as our own cache holds it
ours = GrowingCache()
model(text, cache=ours)
print(
    "GrowingCache, per token     ",
    sum(k.nbytes + v.nbytes for k, v in ours.stored.values()) // 257,
)

# %% [markdown]
# Two conventions decide what a number of bytes is called: a *GB* is $10^9$ bytes, a *GiB* is $2^{30}$, and $2^{30} / 10^9 = 1.07$. Models are usually served with numbers of 16 bits, 2 bytes each.
#
# The puzzle now needs GPT-3's shape: 96 layers, 96 heads of 128 numbers, each with its own keys and values.

# %%
GPT3 = tk.ModelConfig(
    vocab_size=50257, d_model=12288, n_layers=96, n_heads=96, d_ff=49152, context=2048, norm="layer", gated_mlp=False,
    position="learned", qkv_bias=True, o_bias=True, mlp_bias=True, tied=True, activation="gelu_tanh",
)  # fmt: skip
LLAMA_7B = tk.ModelConfig(
    vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008, context=2048
)


def n_parameters(config):
    with torch.device("meta"):  # shapes without memory
        return sum(p.numel() for p in tk.Decoder(config).parameters())


per_token = GPT3.kv_bytes_per_token(2)
total, weights = per_token * 100 * 1000, n_parameters(GPT3) * 2
Markdown(f"""
| GPT-3, 16 bits | bytes | GB | GiB |
| --- | ---: | ---: | ---: |
| keys and values of one token | {per_token:,} | {per_token / 1e9:.4f} | {per_token / 2**30:.4f} |
| keys and values, 100 × 1,000 tokens | {total:,} | {total / 1e9:.1f} | {total / 2**30:.1f} |
| weights | {weights:,} | {weights / 1e9:.1f} | {weights / 2**30:.1f} |
| claimed for the keys and values | | 700 | |
| **if queries were kept as well** | {total * 3 // 2:,} | {total * 1.5 / 1e9:.1f} | {total * 1.5 / 2**30:.1f} |
| if numbers had 32 bits | {total * 2:,} | {total * 2 / 1e9:.1f} | {total * 2 / 2**30:.1f} |
""")

# %% [markdown]
# **The claim is too high by half.** The cache outweighs the weights, but not twice: $471.9 / 349.2 = 1.35$. One way to arrive at the
# lecture's figure is to count three vectors per token and layer instead of two: the query beside key and value. That fits, $707.8 / 700 = 1.01$, but it is our
# guess; the slide shows no derivation. Queries are never read again (section 1), so there is no need to keep them.
#
# The claim's point stands: for 100 people the cache outweighs the model. From how many tokens on is that so?
#
# **Predict.** LLaMA-7B has 32 layers with 32 heads of 128; Llama 3 8B has as many layers, and 8 key/value heads of 128. How many tokens, over all sequences together, weigh as much as the
# weights?

# %%
LLAMA3_8B = tk.ModelConfig(
    vocab_size=128256,
    d_model=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    d_ff=14336,
    context=8192,
)
print("                bytes per token     weights, GB   tokens that weigh as much")
for name, c in {
    "this model": config,
    "LLaMA-7B": LLAMA_7B,
    "Llama 3 8B": LLAMA3_8B,
    "GPT-3": GPT3,
}.items():
    n, kv = n_parameters(c), c.kv_bytes_per_token(2)
    print(f"{name:12} {kv:18,} {2 * n / 1e9:15.2f} {2 * n // kv:27,}")

# %% [markdown]
# The number of sequences does not matter to this, only their tokens together: 6 sequences of 4,096 tokens, or 100 of 257, are about as much as LLaMA-7B itself. Sharing key/value heads divides the cache by $G = H / H_{kv}$ and
# the weights by hardly anything. Now turn the knobs. The shapes are published ones; each row of the table under the figure names its source. Set the puzzle: GPT-3, 1,000 tokens, 100 sequences. Then find what fits on an A10.

# %% tags=["nbval-ignore-output"]
figures.kv_memory("LLaMA-7B", "A100-80GB", context=2048, sequences=1)

# %% [markdown]
# A formula is not memory. Below, the kernel really allocates the cache that you choose and reports what it got. Where no kernel runs, as in the book, the calculator stands in its place once more.

# %% tags=["nbval-ignore-output"]
SHAPES = {"this model": config, "Llama 3 8B": LLAMA3_8B, "LLaMA-7B": LLAMA_7B}


def allocate(shape, tokens, bits):
    dtype = {16: torch.bfloat16, 32: torch.float32}[bits]
    predicted = SHAPES[shape].kv_bytes_per_token(dtype.itemsize) * tokens
    if predicted > 6e8:
        return Markdown(
            f"{predicted / 1e9:.2f} GB: more than this page will take. Choose fewer tokens."
        )
    cache = tk.cache.ContiguousCache(SHAPES[shape], 1, tokens, dtype=dtype)
    equal = "as predicted" if cache.nbytes == predicted else f"predicted were {predicted:,}"
    sizes = (
        f"{cache.nbytes:,} bytes = {cache.nbytes / 1e9:.3f} GB = {cache.nbytes / 2**30:.3f} GiB"
    )
    return Markdown(f"{shape}, {tokens:,} tokens: **{sizes}**, {equal}")


calculator = figures.kv_memory("LLaMA-7B", "A10", context=1024, sequences=1)
figures.live(allocate, calculator, shape=list(SHAPES), tokens=(64, 1024, 64), bits=[16, 32])

# %% [markdown]
# ## 5. When it does not help
#
# ### Short texts, small models
#
# A pass calls hundreds of PyTorch operations, most of them small. Starting one costs about the same whatever its size.
#
# **Predict.** A model of the same build, 6 layers and all, is made narrower by a factor of 8, which leaves it next to no arithmetic. How many operations does its step
# start, compared with ours? And from which length on does a cache make it faster by half?


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
print(
    "parameters, ours and narrow      ",
    *(sum(p.numel() for p in m.parameters()) for m in (model, narrow)),
)
print("calls of a step: hundreds        ", 200 < n_calls < 1000)
print("as many after 1,000 tokens       ", calls_of_a_step(model, 1000) == n_calls)
print("as many in the narrow model      ", calls_of_a_step(narrow, 10) == n_calls)

# %% tags=["nbval-ignore-output"]
narrow_curve = {T: pass_times(narrow, T) for T in lengths if T <= 256}


def first_win(curve, factor=1.5):
    """The shortest length measured from which on the cache is `factor` times faster, in words"""
    wins = [
        T for T in curve if all(curve[t][0] >= factor * curve[t][1] for t in curve if t >= T)
    ]
    return f"from {wins[0]} tokens on" if wins else "at none of the lengths measured"


def cells(T):
    return " | ".join(f"{s * 1e3:.2f}" for s in (*curve[T], *narrow_curve[T]))


table = "\n".join(f"| {T} | {cells(T)} |" for T in (4, 16, 64, 256))
floor = narrow_curve[16][1] / curve[16][1]
growth = narrow_curve[16][0] / narrow_curve[4][0]
Markdown(f"""
| T | ours: everything, ms | ours: cached, ms | narrow: everything, ms | narrow: cached, ms |
| ---: | ---: | ---: | ---: | ---: |
{table}

The cache is at least 1.5 times faster {first_win(curve)} in our model, and {first_win(narrow_curve)} in the narrow one. Reading 16 tokens takes the narrow model
{growth:.1f} times as long as reading 4. Its cached step starts {n_calls} operations and computes next to nothing, so it is close to the price of the calls alone:
{narrow_curve[16][1] / n_calls * 1e6:.1f} µs each, and **{floor:.0%} of our model's cached step** at the same length. No cache removes that part; fewer and larger operations do.

{tk.measure.caption()}
""")

# %% [markdown]
# ### One pass over a given text
#
# To *score* a text, to read a prompt once, to train: all tokens are known, and one pass does them all. There is no second pass that could reuse anything.
#
# **Predict.** 256 given tokens are scored in one pass, in one pass that also fills a cache, and token by token through a cache. Order the three by time.

# %% tags=["nbval-ignore-output"]
scored = tokens[:, :256]


def token_by_token():
    cache = tk.cache.ContiguousCache(config, 1, 256)
    for i in range(256):
        model(scored[:, i : i + 1], cache=cache)


calls = {
    "no cache": lambda: model(scored),
    "filling a cache": lambda: model(scored, cache=tk.cache.ContiguousCache(config, 1, 256)),
}
score_s = {
    name: timing.median_s for name, timing in tk.measure.time_calls(calls, repeats=7).items()
}
score_s["token by token"] = tk.measure.time_call(token_by_token, warmup=0, repeats=3).median_s
extra = score_s["filling a cache"] / score_s["no cache"] - 1
told = "no measurable difference" if abs(extra) < 0.15 else f"{extra:+.0%}"
slower = score_s["token by token"] / score_s["no cache"]
Markdown(f"""
| 256 given tokens | ms |
| --- | ---: |
| one pass, no cache | {score_s["no cache"] * 1e3:.0f} |
| one pass, filling a cache | {score_s["filling a cache"] * 1e3:.0f} |
| token by token, with a cache | {score_s["token by token"] * 1e3:.0f} |

Filling a cache on the way: {told}. Token by token takes {slower:.0f} times as long as one pass, for the same logits
and fewer FLOPs (no pair is computed that the mask then hides): each weight is fetched 256 times instead of once. The cache makes writing
affordable; it does not make it as cheap as reading.

{tk.measure.caption()}
""")

# %% [markdown]
# ### Long texts: reading the cache becomes the work
#
# A step reads all weights once, and all keys and values once. The second part grows with the text.
#
# **Predict.** For a model of this size with room for long texts, at how many tokens are there as many bytes of keys and values as of weights? What does that do to the time of a step?

# %% tags=["nbval-ignore-output"]
fields = (
    "vocab_size",
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_ff",
    "tied",
)
long = tk.Decoder(
    tk.ModelConfig(**{name: getattr(config, name) for name in fields}, context=32768)
)
even = sum(p.nbytes for p in long.parameters()) / long.config.kv_bytes_per_token(4)


def step_time(S):
    """Seconds for one more token behind S - 1 others"""
    cache = tk.cache.ContiguousCache(long.config, 1, S)
    cache.plan([S])  # zeros instead of a text: the bytes to read are the same

    def one_more():
        cache.truncate(0, S - 1)
        long(torch.zeros(1, 1, dtype=torch.int64), cache=cache)

    return tk.measure.time_call(one_more, repeats=9).median_s


def kv_bytes(S):
    return long.config.kv_bytes_per_token(4) * S


long_s = {S: step_time(S) for S in (512, 4096, 32768)}
table = "\n".join(
    f"| {S:,} | {kv_bytes(S) / 1e6:.0f} | {kv_bytes(S) / weights_bytes:.1f} | {s * 1e3:.1f} |"
    for S, s in long_s.items()
)
more_s = long_s[32768] - long_s[512]
arithmetic_s = 4 * L * H * D * (32768 - 512) / (rate_all * 1e9)
fetching = (
    "most of it is fetching"
    if arithmetic_s < more_s / 2
    else "fetching is not the larger part here"
)
Markdown(f"""
| tokens in the cache | keys and values, MB | times the weights | one step, ms |
| ---: | ---: | ---: | ---: |
{table}

Keys and values are as many bytes as the weights at {even:,.0f} tokens. From 512 to 32,768 tokens a step takes {long_s[32768] / long_s[512]:.1f} times as long, {more_s * 1e3:.1f} ms more. The
arithmetic on the added keys would take {arithmetic_s * 1e3:.1f} ms of them at the rate that section 3's long pass reached: {fetching}. In a batch the weights are
fetched once for all sequences, the keys and values for each.

{tk.measure.caption()}
""")

# %% [markdown]
# What one sequence keeps is also not there for another. The device's memory divided by the bytes of a sequence is the number of people served at once, which is what the puzzle was about.
#
# ### Editing what has been read
#
# **Predict.** In a cache of 500 tokens, one token is replaced by another: the first, the one in the middle, the last. What share of the keys stays as it was, in the first layer and in the last?

# %%
print("replaced   keys unchanged: first layer   last layer")
for at in (0, 250, 499):
    edit = read.clone()
    edit[0, at] = tokens[0, 700]
    kept = ~changed(before, keys_values(edit))[:, 0]  # (L, T), of the keys
    print(f"{at:8} {kept[0].sum().item():29} {kept[-1].sum().item():12}")

# %% [markdown]
# **Explain.** In the first layer a key is made from its own token, so exactly one changes. From the second layer on it is made from what that token has read, and the
# change reaches everything behind it. The keys before the edit are as they were. So a cache is worth as much as the *unbroken beginning* that the old text and the new one share, and an edit at the front makes it worthless.

# %% [markdown]
# ## 6. What a cache makes possible
#
# **Going back.** `truncate(row, length)` forgets all but the first `length` tokens. Nothing is erased: the length is a number, and the slots behind it are written over. So trying another
# continuation costs nothing but the continuation.

# %%
cache = tk.cache.ContiguousCache(config, 1, 400)
model(tokens[:, :300], cache=cache)
for name, trial in {"one": tokens[:, 600:640], "another": tokens[:, 700:740]}.items():
    again = model(trial, cache=cache)
    cache.truncate(0, 300)  # back to the prompt
    fresh = model(torch.cat((tokens[:, :300], trial), 1))[:, 300:]
    print(f"continuation {name:8} equals a fresh start: {same(again, fresh)}")

# %% [markdown]
# **Sharing a beginning.** Two requests begin with the same 300 tokens, a *system prompt*. Their keys and values for it are the same numbers; computed once, they serve both. Below they are copied;
# a chapter on paged caches shares them without a copy. A third request differs in its first token, and none of it can be used.


# %%
def common(a, b):
    """Length of the beginning that two lists of tokens share"""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


system = tokens[0, :300].tolist()
held = tk.cache.ContiguousCache(config, 1, 400)
model(torch.tensor([system]), cache=held)
requests = {
    "same beginning": system + tokens[0, 600:620].tolist(),
    "also the same": system + tokens[0, 700:750].tolist(),
    "a date in front": [tokens[0, 800].item(), *system, *tokens[0, 600:620].tolist()],
}
for name, request in requests.items():
    reused = common(system, request)
    cache = tk.cache.ContiguousCache(config, 1, 400)
    if reused:
        cache.plan([reused])  # reserve the slots, then fill them from what is held
        cache.k[:, :, :, :reused], cache.v[:, :, :, :reused] = (
            held.k[:, :, :, :reused],
            held.v[:, :, :, :reused],
        )
    logits = model(torch.tensor([request[reused:]]), cache=cache)[:, -1]
    fresh = model(torch.tensor([request]))[:, -1]
    print(
        f"{name:16} computed {len(request) - reused:3} of {len(request)} tokens, right logits: {same(logits, fresh)}"
    )

# %% [markdown]
# **Reading in pieces.** A prompt can go through in chunks. A pass over $T$ new tokens holds attention weights of shape $(H, T, S)$ in each layer; a smaller $T$ bounds them. A server
# can also serve other people between two chunks.

# %%
long_prompt = tokens[0, :1000].tolist()
whole = model(tokens[:, :1000], last_only=True)[:, -1]
print("chunk   right logits   largest attention weights of a layer, bytes")
for chunk in (1000, 300, 64):
    cache = tk.cache.ContiguousCache(config, 1, 1000)
    logits = tk.decode.prefill(model, cache, long_prompt, chunk=chunk)
    print(f"{chunk:5} {same(logits, whole)!s:>14} {4 * H * chunk * 1000:46,}")

# %% [markdown]
# ## What real systems do
#
# - **They measured what you measured.** [Shazeer 2019](https://arxiv.org/abs/1911.02150) starts from the cost of fetching keys and values again for every token, and proposes to share one key/value head among all
#   query heads. [Pope et al. 2022](https://arxiv.org/abs/2211.05102) do the accounts for a model of more than 500B parameters: for 512 sequences of 2,048 tokens its keys and values take 3 TB, 3 times the weights (exercise 2).
# - **They preallocate.** [gpt-fast](https://github.com/pytorch-labs/gpt-fast/blob/main/model.py)'s cache is two zero-filled buffers written by position, as `ContiguousCache` is; fixed shapes also let a compiler work.
#   [Hugging Face transformers](https://huggingface.co/docs/transformers/kv_cache) has both: `DynamicCache`, the default, grows as ours of section 2 does; `StaticCache` is preallocated.
# - **They waste, and page.** Room for the longest possible answer stands empty in most. [Kwon et al. 2023](https://arxiv.org/abs/2309.06180) found that in the systems they measured only 20.4 % to 38.2 % of the cache's memory held tokens;
#   vLLM, their system, hands it out in small blocks.
# - **They sell the shared beginning.** Providers keep the keys and values of prompts and charge less for tokens they find there: [OpenAI](https://developers.openai.com/api/docs/guides/prompt-caching) and
#   [Mistral](https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching) both require the same beginning, for the reason that section 5 measured. What changes goes at the end of a prompt.

# %% [markdown]
# ## What the sources claim, checked

# %%
sequence = LLAMA_7B.kv_bytes_per_token(2) * 4096
llama_weights = n_parameters(LLAMA_7B) * 2


def fits(gb, unit):
    """Whole sequences beside the weights, in memory of `gb` times `unit` bytes"""
    return (gb * unit - llama_weights) // sequence


def total_growth(attention):
    """How much more a text of 2,000 tokens costs than one of 1,000, all steps together"""
    cost = [sum(attention(t) for t in range(1, n + 1)) for n in (1000, 2000)]
    return cost[1] / cost[0]


a10, a100 = ((fits(gb, 10**9), fits(gb, 2**30)) for gb in (24, 80))
talk = "*Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk by T. Lacroix"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| GPT-3: about 700 GB of KV cache for 100 sequences of 1,000 tokens | *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024 | Too high: {total / 1e9:.1f} GB = {total / 2**30:.1f} GiB at 16 bits. It fits if queries are counted too ({total * 1.5 / 1e9:.1f} GB); that is a hypothesis. |
| LLaMA-7B: about 2 GB per sequence of 4K | {talk} | Right: {sequence:,} bytes, {sequence / 2**30:.2f} GiB or {sequence / 1e9:.3f} GB. The first LLaMA's context is 2K; at that length it is half. |
| An A10 with 24 GB holds about 5 such sequences | the same talk | GB or GiB decides: {a10[0]} or {a10[1]}, nothing set aside for anything else. |
| An A100 with 80 GB holds about 33 | the same talk | Again: {a100[0]} or {a100[1]}. |
| A KV cache turns the time of generation from quadratic to linear | [Shi et al. 2024](https://arxiv.org/abs/2407.18003), abstract | Right per token. Over a whole text, doubling the length multiplies attention by {total_growth(lambda t: t * t):.0f} without a cache, by {total_growth(lambda t: t):.0f} with it: total attention stays quadratic. |

Which of the two is in the box, ask the device: `torch.cuda.mem_get_info()` answers in bytes. One cluster's documentation prints 42,405,855,232 for an A100 sold as 40 GB
([PC2](https://upb-pc2.atlassian.net/wiki/spaces/PC2DOK/pages/1900609/NVIDIA+A100+40GB+with+NVLINK)): {42_405_855_232 / 1e9:.1f} GB, {42_405_855_232 / 2**30:.1f} GiB. The label is closer to GiB, less a little.
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
# Its own start, so that its positions go on where it ended and its keys go into its own next slots; how many of its tokens are real, so that padding is not stored; and a mask of its own, because the longer
# row's slots lie behind the end of the shorter one.
#
# </details>
#
# **2. Three terabytes.** [Pope et al. 2022](https://arxiv.org/abs/2211.05102) give 3 TB for 512 sequences of 2,048 tokens in a multi-head model of more than 500B parameters. PaLM 540B, which they serve, has 118
# layers and 48 query heads of 256 numbers, and one key/value head ([Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)). Which head counts and widths give their figure, at 16 bits?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for n_kv_heads, width in ((48, 256), (48, 128), (1, 256)):
#     n_bytes = 2 * 118 * n_kv_heads * width * 2 * 512 * 2048
#     print(f"{n_kv_heads:2} heads of {width}: {n_bytes / 1e12:.2f} TB")
# ```
#
# 48 heads of 256 give twice the figure; 48 heads of 128 give it. So it fits a multi-head relative with heads half as wide, not PaLM with its heads merely unshared. PaLM's own single key/value head takes
# a small fraction.
#
# </details>
#
# **3. Half the bytes.** Give `ContiguousCache` the argument `dtype=torch.bfloat16` and leave the model in fp32. What happens to `nbytes`, to the logits and to the bits per token?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for dtype in (torch.float32, torch.bfloat16):
#     cache = tk.cache.ContiguousCache(config, 1, 257, dtype=dtype)
#     logits = through(cache, text, [200] + [1] * 57)
#     off = (logits - expected).abs().max().item()
#     print(f"{cache.nbytes:,} bytes, logits off by {off:.2g}, {bits(logits):.3f} bits per token")
# ```
#
# Half the bytes. The logits no longer pass `same`, and the loss hardly moves: bfloat16 keeps 8 of fp32's 24 significant bits, and this model was stored in bfloat16 itself. Rounding
# keys is no longer "the same logits": it needs a measurement of quality, on more text than this. The chapter on quantization goes on to 8 and 4 bits.
#
# </details>
#
# **4. A chat.** Ten questions and answers, 100 tokens each time for the two together. Before each turn the server reads the whole conversation so far. How many tokens go through the model in all if it forgets the
# cache between turns, and if it keeps it? And if the server puts the time of day in front of the conversation?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# turns, each = 10, 100
# forgetting = sum(each * turn for turn in range(1, turns + 1))
# print(forgetting, turns * each, forgetting / (turns * each))  # 5500 1000 5.5
# ```
#
# With the time of day in front nothing is shared, so keeping is as dear as forgetting, and takes memory besides. At the end of the prompt it would cost its own few tokens.
#
# </details>

# %% [markdown]
# ## Check yourself
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
# No. From its second layer on, every token's key depends on every other token, so one more token changes all of them. It has to read everything again.
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
# Where the step's time must go, from the bandwidth and FLOP/s of a machine: next chapter. Keeping fewer or smaller keys (sharing heads, windows, 8 and 4 bits, eviction), and handing the memory out in
# blocks: Parts III and IV. Keys and values that an encoder leaves for a decoder.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
