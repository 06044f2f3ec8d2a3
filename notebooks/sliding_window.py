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
#     stem: sliding_window
#     modules: [rolling, attention]
#     objectives:
#       - Write the mask of a sliding window, and say how far back a token can know through it, to the token
#       - Tell what information can reach from what a model makes of it, with a test that only reading can pass
#       - Write a rolling buffer of about 40 lines, and say which token each slot holds after any number of them
#       - Explain why a key may stay in any slot while positions go on counting
#       - Recognise the quiet way in which chunks of a prompt break a ring, and mend it
#       - Measure whether a model needs attention sinks, and compute the bytes and the time that a window saves
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # Sliding window: a cache that stops growing
#
# Mistral 7B keeps the keys and values of the last 4,096 tokens and writes over all others; yet its authors give it an attention span of about
# 131,000 tokens. **How can a model know what its cache has thrown away, and how much of it does it know?**
#
# Both figures are from [Jiang et al. 2023](https://arxiv.org/abs/2310.06825), section 2. Write down a guess for the second half of the question: nearly
# all of it, a little, nothing. Section 2 measures it, on a smaller model.
#
# **Afterwards you can**
#
# - write the mask of a sliding window, and say how far back a token can know through it, to the token;
# - tell what information *can* reach from what a model makes of it, with a test that only reading can pass;
# - write a rolling buffer of about 40 lines, and say which token each slot holds after any number of them;
# - explain why a key may stay in any slot while positions go on counting;
# - recognise the quiet way in which chunks of a prompt break a ring, and mend it;
# - measure whether a model needs attention sinks, and compute the bytes and the time that a window saves.
#
# **You need** the lessons on attention (the causal mask), on the model (rotary positions) and on the KV cache (plan and view). No GPU, and no
# network once `teachkit` is installed. Allow an hour, and half as much again for the exercises. New is $W$, the tokens that a query sees, its own
# included; $L$ layers, $H_{kv}$ key/value heads of $D$ numbers, $T$ new tokens and $S$ attended ones are as before.

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
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import pairwise
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

import teachkit as tk
from teachkit import cost, figures, hardware, memory, rolling, roofline
from teachkit.cache import ContiguousCache, RollingCache
from teachkit.shapes import shape

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. The window
#
# A causal mask lets a token read itself and all before it. A **sliding window** lets it read itself and the $W - 1$ tokens before: key $j$ is visible to
# the query at place $i$ if $i - W < j \le i$.
#
# **Predict.** Of 12 tokens with $W = 4$, how many pairs of query and key remain of the 78 that the causal mask allows? And
# of a text of $n$ tokens, as $n$ grows?


# %%
def sees(query, key, W):
    """(T, S): True where a token at place `query` may read one at place `key`; -1 is no token"""
    query, key = query[:, None], key[None, :]
    return (key >= 0) & (key <= query) & (key > query - W)


places = torch.arange(12)
mask = sees(places, places, 4)
for row in mask:
    print(" ".join("x" if seen else "." for seen in row.tolist()))
print("pairs:", mask.sum().item(), "by formula:", 12 * 4 - 4 * 3 // 2)
print("equals teachkit's:", torch.equal(mask, tk.attention.visible(12, 12, window=4)))
last_three = tk.attention.visible(3, 12, window=4)
print("the last three queries, over all keys:", torch.equal(mask[-3:], last_three))

generator = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(1, heads, 12, 16, generator=generator) for heads in (4, 2, 2))
by_mask = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
by_window = tk.attention.scaled_dot_product_attention(q, k, v, causal=True, window=4)
print(
    "attention equals PyTorch's with our mask:", torch.allclose(by_mask, by_window, atol=1e-6)
)

# %% [markdown]
# $nW - W(W-1)/2$ pairs instead of $n(n+1)/2$: linear in the length of the text. (A program gains time from that only if it skips the masked pairs;
# this one computes and discards them. What a window saves in *memory* comes in section 3.)
#
# **Predict.** The model that comes with `teachkit` was trained without a window. Put one on it now: how many bits per byte does it cost
# to see 256 tokens back, 64, 16 or 4?

# %%
model = tk.load("bundled")
config = model.config
L, H, Hkv, D = config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim
folder = resources.files("teachkit") / "checkpoints" / "bundled"
# Files of Python's library that the model was not trained on, the longest first.
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
longest = sorted(held_out, key=lambda name: -len(held_out[name]))


def encode(name, n):
    """The first n tokens of a file, the start token in front included"""
    return [model.tokenizer.bos, *model.tokenizer.encode(held_out[name], special=False)][:n]


def with_window(W, context=config.context):
    """The same weights; every layer looks back over W tokens (None: over all)"""
    other = tk.Decoder(replace(config, windows=(W,) * L, context=context), model.tokenizer)
    other.load_state_dict(model.state_dict())
    return other


def bits_per_byte(logits, tokens, first, last):
    """Bits per byte of the tokens at places first to last - 1, by logits (B, T, V)"""
    target = tokens[:, first:last]
    guesses = logits[:, first - 1 : last - 1].flatten(0, 1)
    nats = F.cross_entropy(guesses, target.flatten(), reduction="sum").item()
    n_bytes = sum(len(model.tokenizer.decode(row).encode()) for row in target.tolist())
    return nats / math.log(2) / n_bytes


texts = torch.tensor([encode(name, 1024) for name in longest[:4]])
print(f"{config.n_layers} layers, trained on texts of {config.context} tokens")
print("scored: tokens 512 to 1,023 of four files, so that every window could have been full")
for W in (1024, 256, 64, 16, 4):
    print(
        f"W = {W:4}: {bits_per_byte(with_window(W)(texts), texts, 512, 1024):.2f} bits per byte"
    )

# %% [markdown]
# **Explain.** Most of what this model uses stands near. That does not make far tokens worth
# nothing: a mean over all tokens hides the few that need them, and section 2 looks for those. And a model that is *trained* with its window, as Mistral 7B was, can
# learn to live with it; ours could not.

# %% [markdown]
# ## 2. Beyond the window: what can reach, and what does
#
# A token reads the vectors of others, not the others themselves, and those vectors have read in the layers below. So through two layers it can hear of
# something that its window does not show.
#
# **Predict.** The token at place 100 is replaced by another. With $W = 8$ and the six layers of this model, what is the last place whose logits
# change: 107, 142 or 148?


# %%
def moves(W, n_layers, at=100):
    """(T): the largest change of a logit at each place, when the token at `at` is another"""
    exact = with_window(W).double()  # so that small changes are not lost in rounding
    exact.blocks = exact.blocks[:n_layers]
    text, other = texts[:1, :240], texts[:1, :240].clone()
    other[0, at] = texts[0, 600]
    return (exact(text) - exact(other)).abs().amax(-1)[0]


print("  W   layers   last place that moves   100 + layers x (W - 1)")
for W, n_layers in ((8, 1), (8, 2), (8, 3), (8, 6), (4, 6), (16, 6)):
    last = moves(W, n_layers).nonzero().max().item()
    print(f"{W:3} {n_layers:8} {last:23} {100 + n_layers * (W - 1):24}")

# %% [markdown]
# **Explain.** Exactly $L(W - 1)$ tokens on, and not one further: to the last bit, nothing beyond has changed. In each layer, what is known moves
# on by at most $W - 1$ places. That is the first half of the answer: a token that was written over has been read by those after it, and these are still there, for a while,
# with what they made of it.
#
# How much of it arrives?
#
# **Predict.** With $W = 16$: at the end of the first window a logit moves by about 1. By how much at the end of the third, and of the sixth?

# %%
change = moves(16, 6)
print("windows back   places back   largest change of a logit, as a power of ten")
for windows in range(1, 7):
    back = windows * 15
    print(f"{windows:12} {back:13} {round(math.log10(change[100 + back].item())):15}")

# %% [markdown]
# **Explain.** At the far end of the reach there is one path only: one step of the longest length in every layer. Nearer by, there are many. So the reach is a
# bound for what *can* be known, and the change shrinks by orders of magnitude on the way to it.
#
# **A test that only reading can pass.** From the first lesson: a list of random tokens, written twice. The first copy is noise; in the second, every next token can be found by looking up what came
# after the present one in the first copy. With lists of $n$ tokens, that token stands $n - 1$ places back.
#
# **Predict.** Lists of 64. What does a token of the second copy cost with $W = 32$, whose reach of 186 covers both copies? And with $W$ = 63, 64, 65?

# %%
n, generator = 64, torch.Generator().manual_seed(0)
lists = torch.stack([torch.randperm(4000, generator=generator)[:n] + 50 for _ in range(8)])
start = torch.full((8, 1), model.tokenizer.bos)
twice = torch.cat((start, lists, lists), 1)
print("   W   reach   bits per token: first copy   second copy")
for W in (32, 62, 63, 64, 65, 128):
    logits = with_window(W)(twice)[:, :-1]
    nats = F.cross_entropy(logits.transpose(1, 2), twice[:, 1:], reduction="none")
    first, second = (
        nats[:, part].mean().item() / math.log(2) for part in (slice(1, n), slice(n + 1, None))
    )  # the first of a copy cannot be known
    print(f"{W:4} {L * (W - 1):7} {first:28.1f} {second:13.1f}")

# %% [markdown]
# **Explain.** One token decides. With $W = 64$ the answer is the oldest key in view and the model finds it; with $W = 63$ it has just left and the second copy is
# as hard as the first: harder than an even guess, $\log_2 4096 = 12$, for the model expects Python. With $W = 128$ it is found among more keys, and costs a little more. Though the reach covers the whole text, nothing useful comes through relays. The reason lies in training, not only in the mask: relays have to be
# learnt, and this model never needed one. What a model trained with a window carries on has to be measured on that model.
#
# So the answer to the puzzle has two parts. It *can* know through $L$ layers, $L(W - 1)$ tokens back. How much it *does* know is no property of the mask; the
# theoretical span says nothing about it, and a test such as this one does.

# %% [markdown]
# ## 3. A ring
#
# What no later query may see need not be kept. The token at place $p$ is out of view as soon as the one at $p + W$ arrives, so that one can take its place:
# slot $p \bmod W$. Nothing is moved, nothing is freed: a **rolling buffer**, or ring.
#
# **Predict.** $W = 4$. Which slot does the token at place 9 take, and which places do the four slots then hold, in order?


# %%
class RingPlan:
    """One pass over the tokens at places `new`: write, then attend"""

    def __init__(self, ring, new, batch):
        self.ring, self.new = ring, new
        self.positions = new.expand(batch, -1)
        self.valid = torch.ones_like(self.positions, dtype=torch.bool)
        self.settle()

    def settle(self):
        """Who goes where, and who sees whom"""
        self.staying = torch.arange(len(self.new))[-self.ring.W :]  # the others find no room
        self.slots = self.new[self.staying] % self.ring.W
        self.ring.holds[self.slots] = self.new[self.staying]
        self.mask = sees(self.new, self.ring.holds, self.ring.W)

    def layer(self, index):
        return SimpleNamespace(attend=partial(self.attend, index))

    def attend(self, index, q, k, v, *, scale=None):
        self.write(index, k, v)
        return self.read(q, self.ring.k[index], self.ring.v[index], scale)

    def write(self, index, k, v):
        self.ring.k[index][:, :, self.slots] = k[:, :, self.staying]
        self.ring.v[index][:, :, self.slots] = v[:, :, self.staying]

    def read(self, q, k, v, scale):
        return tk.attention.scaled_dot_product_attention(q, k, v, mask=self.mask, scale=scale)


class Ring:
    """Keys and values of the last W tokens of each text; all texts have the same length"""

    Plan = RingPlan

    def __init__(self, W, batch=1, n_slots=None):
        self.W, self.length = W, 0
        self.k, self.v = torch.zeros(2, L, batch, Hkv, n_slots or W, D)
        self.holds = torch.full((n_slots or W,), -1)  # the place in the text; -1: nothing yet

    def plan(self, n_new):
        new = torch.arange(self.length, self.length + n_new[0])
        self.length += n_new[0]
        return self.Plan(self, new, len(n_new))


ring = Ring(4)
for place in range(10):
    ring.plan([1])
    if place in (0, 2, 3, 4, 9):
        print(f"after place {place}: slots hold", ring.holds.tolist())
slots = rolling.Ring(window=4, sinks=0).positions(torch.tensor([10]), 4)
print("teachkit's, after place 9:", slots[0].tolist())

# %% [markdown]
# The places lie in no order, and attention does not mind: a softmax and a weighted sum are the same in any order, as long as the mask knows which place lies where.
#
# **Measure**, on all logits, against the mask of section 1 in a pass that keeps everything: below the window, at it, and beyond.

# %%
W = 16
text = texts[:1, :128]
windowed = with_window(W)
expected = windowed(text)


def through(cache, text, size=1):
    """All logits of a text that goes through a cache in pieces of this size"""
    return torch.cat([model(piece, cache=cache) for piece in text.split(size, 1)], 1)


def same(a, b):
    """Equal but for rounding: logits are of the order of 10"""
    return bool((a - b).abs().max() < 1e-3)


keep_all = ContiguousCache(windowed.config, 1, 128)  # the mask hides, nothing is forgotten
stepwise = torch.cat([windowed(piece, cache=keep_all) for piece in text.split(1, 1)], 1)
print("a mask over a cache that keeps everything:", same(stepwise, expected))
print("tokens   ours: bytes, right   teachkit: bytes, right   keeping all: bytes")
for n in (15, 16, 17, 33, 128):
    ours, theirs = Ring(W), RollingCache(config, 1, window=W)
    right = [same(through(cache, text[:, :n]), expected[:, :n]) for cache in (ours, theirs)]
    all_bytes = ContiguousCache(config, 1, n).nbytes
    our_bytes = ours.k.nbytes + ours.v.nbytes
    print(
        f"{n:6} {our_bytes:13,} {right[0]!s:>6} {theirs.nbytes:17,} {right[1]!s:>6} {all_bytes:20,}"
    )

# %% [markdown]
# **Explain.** The same logits from a memory that does not depend on the text. It is taken in full from the start: for texts shorter than the window, a ring saves
# nothing.
#
# What is lost is lost for good. A contiguous cache can go back to any earlier length, because a length is all that changes. In a ring each new token has overwritten the key of an older one.
#
# **Predict.** 40 tokens have gone through a ring with $W = 16$. How many may be taken back, if what follows is to be right?

# %%
for back in (1, 2):
    cache = RollingCache(config, 1, window=W)
    model(text[:, :40], cache=cache)
    try:
        cache.truncate(0, 40 - back)
        again = model(text[:, 40 - back : 60], cache=cache)
        print(f"{back} taken back: right {same(again, expected[:, 40 - back : 60])}")
    except ValueError as error:
        print(f"{back} taken back: {error}")

# %% [markdown]
# One. The last token overwrote the oldest that *its predecessor* saw; when it is read again, it does not need that one. Two back, and the first would. Sampling several
# tokens ahead and taking them back, or sharing the beginning of a prompt, needs spare slots or a copy.

# %% [markdown]
# ## 4. Why positions survive
#
# A key is stored after rotary has turned it by its place in the text, and stays in its slot, as it is, until it is overwritten. The query that meets it is turned by its own place. Their score depends on the
# difference of the two angles: on the *distance*, which has nothing to do with the slot.
#
# To see what is needed, keep the keys unturned, and turn query and keys at each step by numbers of our choice:
#
# - *place in the text*, as so far;
# - *slot*: the key in slot 3 counts as standing at place 3;
# - *place in the window*: the oldest key in view is number 0, the query number $W - 1$.
#
# **Predict.** Which of the three give the right logits?


# %%
def turn(x, numbers):
    """x (B, H, T, D), turned as at places `numbers` (T)"""
    frequencies = tk.layers.rope_frequencies(D, config.rope_theta)
    return tk.layers.apply_rope(x, *tk.layers.rope_angles(numbers[None], frequencies, x.dtype))


class Renumbered(RingPlan):
    """Keys are stored unturned; query and keys are turned anew at each step, by `numbering`"""

    numbering = None  # (place of the query, places that the slots hold, W) -> their numbers

    def settle(self):
        super().settle()
        self.positions = torch.zeros_like(self.positions)  # the model turns by 0: not at all

    def read(self, q, k, v, scale):
        for_q, for_k = self.numbering(self.new, self.ring.holds, self.ring.W)
        return super().read(turn(q, for_q), turn(k, for_k), v, scale)


numberings = {
    "place in the text": lambda new, held, W: (new, held),
    "slot": lambda new, held, W: (new % W, torch.arange(W)),
    "place in the window": lambda new, held, W: (new * 0 + W - 1, held - (new - W + 1)),
}
for name, numbering in numberings.items():
    ring = Ring(W)
    ring.Plan = type("Numbered", (Renumbered,), {"numbering": staticmethod(numbering)})
    logits = through(ring, text[:, :96])
    loss = bits_per_byte(logits, text[:, :96], 32, 96)
    print(f"{name:20} right {same(logits, expected[:, :96])!s:5}   {loss:.2f} bits per byte")

# %% [markdown]
# **Explain.** Places in the text and in the window differ by the same number for query and keys, which the score does not see. Slots wrap around: a key that stands one place back may
# count as fifteen ahead. Keys that are stored turned need no more work; numbering by the window turns $W$ keys again at each step, and keeps all numbers below $W$ however long the text.
# With learnt positions (GPT-2) the place is added to the token's vector before keys are made, so a key carries it for good, and the text ends where the table of places does.

# %% [markdown]
# ## 5. A prompt in chunks
#
# Up to here one token went through at a time. A prompt goes through in chunks: ask our ring for several tokens at once, with $W = 16$.
#
# **Predict.** In chunks of 2, how many of the 128 rows of logits are right: 127, about half, or the first 16?


# %%
def rows_right(logits):
    return ((logits - expected).abs().amax(-1) < 1e-3).sum().item()


print("chunk   rows of 128 that are right   largest error   bits per byte of places 32 on")
for size in (1, 2, 4, 16, 32):
    logits = through(Ring(W), text, size)
    off = (logits - expected).abs().max().item()
    off = "rounding" if off < 1e-3 else f"{off:.1f}"
    loss = bits_per_byte(logits, text, 32, 128)
    print(f"{size:5} {rows_right(logits):28} {off:>15} {loss:31.2f}")

# %% [markdown]
# **Explain.** `write, then attend` is right for one token: it overwrites the one that it may not see. The *last* of a chunk of 2 overwrites the oldest that the *first* must see. In the first layer only that
# token's output is wrong; the layers above read it, and soon every row is off. All shapes are right, nothing is raised, and in the loss a chunk of 2 hardly shows. Beyond $W$ tokens in a chunk,
# several even claim one slot.
#
# The remedy is to attend first, to the ring *as it was* and to the chunk itself, and then to write the last $W$.


# %%
class AttendFirst(RingPlan):
    """Attend to the ring as it was and to each other, then write"""

    def settle(self):
        before = self.ring.holds.clone()
        super().settle()
        self.mask = sees(self.new, torch.cat((before, self.new)), self.ring.W)

    def attend(self, index, q, k, v, *, scale=None):
        before_k, before_v = self.ring.k[index], self.ring.v[index]
        out = self.read(q, torch.cat((before_k, k), 2), torch.cat((before_v, v), 2), scale)
        self.write(index, k, v)
        return out


class ChunkedRing(Ring):
    Plan = AttendFirst


print("chunk   rows right: ours   teachkit")
for size in (1, 2, 15, 16, 17, 32, 128):
    caches = (ChunkedRing(W), RollingCache(config, 1, window=W))
    ours, theirs = (rows_right(through(cache, text, size)) for cache in caches)
    print(f"{size:5} {ours:18} {theirs:10}")
ours, theirs = (
    torch.cat([through(cache, text[:, :100], 100), through(cache, text[:, 100:], 9)], 1)
    for cache in (ChunkedRing(W), RollingCache(config, 1, window=W))
)
print("a prompt of 100, then nines:", rows_right(ours), rows_right(theirs))

# %% [markdown]
# The price is a copy of the ring beside each chunk, $W + T$ keys. `teachkit` writes in place where it can: one token at a time, and as long as everything fits.

# %% [markdown]
# ## 6. Far beyond, and the first tokens
#
# With a window no distance exceeds $W - 1$, so a text can grow past what the model was trained on, and no score sees it. That is the promise. The experience of
# [Xiao et al. 2023](https://arxiv.org/abs/2309.17453) is another: on a text of 65,000 tokens Llama-2-13B has a perplexity of over 5,000 with a window of 1,024, and of 5.40 with 1,020 and the first 4 tokens of the text (their table 1). Weights must sum to 1, and
# these models rest most of theirs on the first tokens when there is nothing to read: **attention sinks**. Take them away, and the rest has to go elsewhere.
#
# Does ours need them? Look before you run it. If a head puts a share $s$ of its weight on the first four tokens, dropping them multiplies its other weights by $1/(1 - s)$.

# %%
maps = torch.cat([tk.maps.attention_maps(model, row[None, :768]) for row in texts[:3]], 1)
share = maps[:, :, 64:, :4].sum(-1).mean(-1).view(L, -1, H).mean(1)  # (L, H)
layer, head = divmod(share.argmax().item(), H)
print(f"weight on the first four tokens, mean over heads: {share.mean():.2%}")
print(f"largest: {share.max():.1%}, layer {layer}, head {head}")
print(f"dropping them multiplies that head's other weights by {1 / (1 - share.max()):.3f}")
even = (4 / torch.arange(65, 769)).mean()
print(f"an even share of all that is visible would be {even:.1%}")

# %% [markdown]
# **Predict.** Five ways to read texts three times as long as those of training: everything; windows of 64 and of 512; a window of 60 and the first 4 tokens; a
# window of 60 and 4 tokens drawn at random from the first 200. Which lose, within the length of training and beyond it?
#
# The random four are the control: if *they* help as much as the first four, it is for being four tokens more. They need a ring that keeps given places:


# %%
class KeepPlan(AttendFirst):
    def settle(self):
        """Kept places have slots of their own, before the ring's"""
        ring, n = self.ring, len(self.ring.keep)
        before = ring.holds.clone()
        kept = torch.isin(self.new, ring.keep)
        self.staying = ((self.new > self.new[-1] - ring.W) | kept).nonzero().flatten()
        staying = self.new[self.staying]
        own = torch.searchsorted(ring.keep, staying).clamp_max(n - 1)
        self.slots = torch.where(kept[self.staying], own, n + staying % ring.W)
        ring.holds[self.slots] = staying
        keys = torch.cat((before, self.new))
        for_good = torch.isin(keys, ring.keep) & (keys <= self.new[:, None])
        self.mask = sees(self.new, keys, ring.W) | for_good


class KeepingRing(Ring):
    Plan = KeepPlan

    def __init__(self, W, keep, batch=1):
        super().__init__(W, batch, n_slots=len(keep) + W)
        self.keep = torch.tensor(sorted(keep))


ours = through(KeepingRing(12, [0, 1, 2, 3]), text, 7)
theirs = through(RollingCache(config, 1, window=12, sinks=4), text, 7)
token_by_token = through(RollingCache(config, 1, window=12, sinks=4), text)
print("sinks, ours and teachkit's:", same(ours, theirs), same(ours, token_by_token))

# %%
far_texts = torch.tensor([encode(name, 3072) for name in longest[2:5]])
far_model = with_window(None, context=3072)
drawn = torch.randperm(200, generator=torch.Generator().manual_seed(1))[:4].tolist()
B, far = len(far_texts), far_model.config
ways = {
    "everything": ContiguousCache(far, B, 3072),
    "window of 64": RollingCache(far, B, window=64),
    "60 and the first 4": RollingCache(far, B, window=60, sinks=4),
    "60 and 4 at random": KeepingRing(60, drawn, B),
    "window of 512": RollingCache(far, B, window=512),
}
edges = [0, *range(256, 3073, 256)]
curves, near_far = {}, {}
for name, cache in ways.items():
    pieces = far_texts.split(256, 1)
    logits = torch.cat([far_model(piece, cache=cache) for piece in pieces], 1)
    score = partial(bits_per_byte, logits, far_texts)
    near_far[name] = score(256, 1024), score(1024, 3072)
    curves[name] = [score(max(a, 1), b) for a, b in pairwise(edges)]
print("kept at random: places", sorted(drawn))
print("bits per byte          places 256 to 1,023   1,024 to 3,071")
for name, (near, beyond) in near_far.items():
    print(f"{name:20} {near:21.2f} {beyond:16.2f}")


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_far():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    for name in ("everything", "window of 64", "60 and the first 4", "window of 512"):
        ax.plot(middles, curves[name], label=name)
    ax.axvline(config.context, color=figures.colours()["muted"], linewidth=1)
    ax.set(xlabel="place in the text", ylabel="bits per byte", ylim=(0, None))
    ax.legend(fontsize="small")
    return fig


ends = {name: curves[name][-1] for name in curves}
display(
    figures.static(
        draw_far,
        alt="Bits per byte over the place in the text, in blocks of 256 tokens, mean of three files. In the last block: "
        + ", ".join(f"{name} {ends[name]:.1f}" for name in ends)
        + ". A vertical line marks the length of the texts in training.",
    )
)
Markdown(
    "*Three held-out files together, in blocks of 256 tokens. The line marks the longest texts of training.* "
    + tk.measure.caption()
)

# %% tags=["hide-input"]
window, sinks, chance = (
    near_far[name] for name in ("window of 64", "60 and the first 4", "60 and 4 at random")
)
everything, wide = near_far["everything"], near_far["window of 512"]
gained = max(abs(sinks[i] - chance[i]) for i in (0, 1))
told = (
    "**In this model the first tokens do nothing that four others do not**"
    if gained < 0.02
    else "**In this model the first tokens do more than four others**"
)
Markdown(f"""
**Explain.** Up to the length of training, reading everything costs {everything[0]:.2f} bits per byte and a window of 512 costs {wide[0]:.2f}. Beyond it they cost {everything[1]:.2f} and
{wide[1]:.2f}: distances longer than any in training hurt, and the window has none.

{told}: they differ by at most {gained:.3f} bits per byte. The window of 64, with four more recent tokens in their place, differs
by {max(abs(window[i] - sinks[i]) for i in (0, 1)):.3f}. What a window of 64 loses against one of 512, {window[0] - wide[0]:.2f} and {window[1] - wide[1]:.2f}, is the price of what it does not see, and sinks do not bring it back. The weights had said so.
""")

# %% [markdown]
# So it is not the window that needs sinks but a model that has learnt to rest on its first tokens. Ours, with six layers, has not. How much there is to rescue differs from model to model: a model of 160M parameters
# that Xiao et al. trained themselves has a perplexity of 27.9 with a window alone and of 18.1 with 4 sinks ([table 3](https://arxiv.org/abs/2309.17453)), far from the collapse above. Measure the weight on the first tokens of the model that you serve.
#
# One difference could hide an effect: `RollingCache` leaves sinks at their place in the text, so that their distance grows beyond training, while Xiao et al. number keys by their place in the cache (section 4). The
# left column of the table is free of that, since all its distances occur in training, and says the same.

# %% [markdown]
# ## 7. Bytes and time
#
# **Predict.** Mistral 7B has 32 layers with 8 key/value heads of 128 numbers, of 16 bits. How many bytes does a text of 32,768 tokens leave, with its window of 4,096 and
# without? And of a text of 4,000 tokens?

# %%
mistral = shape("mistral-7b").config
without = replace(mistral, windows=())
a100 = hardware.device("a100-80gb")
window_bytes = RollingCache(mistral, 1, dtype=torch.bfloat16, device="meta").nbytes
by_hand = 2 * 32 * 8 * 128 * 2 * 4096
print("window, by hand and by RollingCache:", by_hand == window_bytes)
rows, largest = [], {}
for n in (4000, 8192, 32768):
    kept, full = (memory.memory(c, 1, n).kv_bytes for c in (mistral, without))
    largest[n] = fits = [
        memory.largest_batch(c, n, a100.memory_bytes) for c in (mistral, without)
    ]
    speed = [
        batch / roofline.time_bound(cost.decode_step(c, batch, n), a100).seconds
        for c, batch in zip((mistral, without), fits)
    ]
    rows.append(
        f"| {n:,} | {kept / 1e9:.3f} | {full / 1e9:.3f} | {full / kept:.1f} | {fits[0]} and {fits[1]} "
        f"| {speed[0]:,.0f} and {speed[1]:,.0f} |"
    )
print("bytes at 32,768 tokens:", memory.memory(mistral, 1, 32768).kv_bytes == window_bytes)

# %% tags=["hide-input"]
table = "\n".join(rows)
Markdown(f"""
| tokens | with the window, GB | without, GB | times | sequences on an A100 of 80 GB, with and without | bound on tokens/s, with and without |
| ---: | ---: | ---: | ---: | ---: | ---: |
{table}

*Predicted: 16 bits throughout, weights included; each batch is the largest that fits.* At 32,768 tokens the window divides the cache by {without.kv_bytes_per_token(2) * 32768 / window_bytes:.0f}; below its own length it saves nothing, and at 8,192, the length
of the context in the paper's table 1, it divides it by {without.kv_bytes_per_token(2) * 8192 / window_bytes:.0f}.
""")

# %% [markdown]
# Now on this machine: one more token of our model behind a text of $S$, with a ring of 512 and with a cache that keeps all.
#
# **Predict.** From which $S$ on is the ring faster: 512, 4,096, 32,768?

# %%
long_model = with_window(None, context=32768)


def step_behind(cache, S):
    """One more token behind S - 1 others; it is taken back before the next"""
    for _ in range(S // 512):
        cache.plan([512])  # zeros instead of a text: as many bytes to read

    def step():
        cache.truncate(0, S - 1)
        long_model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)

    return step


lengths = (512, 4096, 32768)
calls = {}
for S in lengths:
    calls["ring", S] = step_behind(RollingCache(long_model.config, 1, S, window=512), S)
    calls["all", S] = step_behind(ContiguousCache(long_model.config, 1, S), S)
step_s = {key: t.median_s for key, t in tk.measure.time_calls(calls, repeats=15).items()}

# %% tags=["nbval-ignore-output", "hide-input"]
per_token = config.kv_bytes_per_token(4)
table = "\n".join(
    f"| {S:,} | {per_token * min(S, 512) / 1e6:.1f} | {per_token * S / 1e6:.1f} "
    f"| {step_s['ring', S] * 1e3:.1f} | {step_s['all', S] * 1e3:.1f} | {step_s['all', S] / step_s['ring', S]:.1f} |"
    for S in lengths
)
times = [step_s["ring", S] for S in lengths]
flat = max(times) / min(times)
ring_told = (
    "The ring's step takes the same time behind any text, within a factor of "
    if flat < 1.5
    else "The ring's step should take the same time behind any text; in this run it varies, by a factor of "
)
ratio = step_s["all", 32768] / step_s["ring", 32768]
gain = (
    f"Behind 32,768 tokens it is {ratio:.1f} times as fast as the cache that keeps all"
    if ratio > 1
    else "Behind 32,768 tokens it was no faster in this run, which the bytes do not explain"
)
at_start = step_s["all", 512] / step_s["ring", 512]
start_told = "behind 512 the ring has nothing to save" + (
    f" and takes {1 / at_start:.1f} times as long: finding slots is work, too"
    if at_start < 0.9
    else ""
)
Markdown(f"""
| tokens | ring of 512, MB | all, MB | ring, ms | all, ms | times faster |
| ---: | ---: | ---: | ---: | ---: | ---: |
{table}

{ring_told}{flat:.1f}. {gain}, reading 1/64 of the keys and values; {start_told}.

{tk.measure.caption()}
""")

# %% [markdown]
# ## What real systems do
#
# - **They took the window back.** From version 0.2 on, Mistral 7B has none ([its page](https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.2): 32K of context, no sliding window).
# - **They mix.** Gemma 3 has five layers with a window of 1,024 tokens for each one that sees all ([report](https://arxiv.org/abs/2503.19786), section 2): most of the cache stops growing, and nothing is out of reach. gpt-oss alternates between
#   128 tokens and all, and gives each head a learnt number in the softmax's denominator, a sink without a token ([model card](https://arxiv.org/abs/2508.10925), section 2). `RollingCache` takes such a mixture from `config.windows`.
# - **They hide instead of forgetting.** A window may be a mask over a cache that keeps everything: right logits, no memory saved. [Longformer](https://arxiv.org/abs/2004.05150) brought the window, with a few tokens that see and are seen by all.
# - **They number by place in the cache** when texts outgrow all training ([Xiao et al.](https://arxiv.org/abs/2309.17453), section 3.2). This goes on without end; it does not remember.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
reach, product = 32 * (4096 - 1), 32 * 4096


def pairs(n, W):
    W = min(n, W)
    return n * W - W * (W - 1) // 2


speedup = pairs(16384, 16384) / pairs(16384, 4096)
paper = "[Jiang et al. 2023](https://arxiv.org/abs/2310.06825), section 2"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| Mistral 7B has a theoretical attention span of about 131K tokens | {paper} | Right, as a bound on what can reach: {reach:,} tokens back if a query sees 4,096 keys, its own included, which is what a cache of 4,096 slots holds; {product:,} if it sees 4,096 *before* its own, as the paper's formula has it. What does reach it was not measured; the context in the paper's table 1 is 8,192 tokens. |
| At 32K tokens the rolling buffer divides the cache by 8 | {paper} | Right: {without.kv_bytes_per_token(2) * 32768 / window_bytes:.0f} (section 7). |
| … without impacting the model quality | {paper} | Right against the same model with the mask: the logits are equal (section 3). Against a model without a window the paper shows no comparison. |
| At 16K tokens, attention with a window of 4,096 is 2 times as fast | {paper} | Plausible: {speedup:.2f} times fewer pairs is the bound for a kernel that skips what is masked. |
| Keeping the first 4 tokens rescues a window | [Xiao et al. 2023](https://arxiv.org/abs/2309.17453), tables 1 and 2 | Not general: measured there on Llama-2, MPT, Falcon and Pythia; in the model of this lesson there was nothing to rescue (section 6). |
""")

# %% [markdown]
# ## Exercises
#
# **1. Two rows.** Put `texts[0, :50]` and `texts[1, :20]` into one `RollingCache` of two rows with a window of 16, then give each one more token. Show that each row gets the logits that it would get alone. Why can the
# two rows not share a mask, though both rings have 16 slots?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# padded = torch.zeros(2, 50, dtype=torch.int64)
# padded[0], padded[1, :20] = texts[0, :50], texts[1, :20]
# cache = RollingCache(config, 2, window=16)
# model(padded, step=cache.plan([50, 20]))
# logits = model(torch.tensor([[5], [7]]), cache=cache)
# for row, (n, new) in enumerate(((50, 5), (20, 7))):
#     alone = torch.cat((texts[row, :n], torch.tensor([new])))[None]
#     print(same(logits[row, -1], with_window(16)(alone)[0, -1]))  # True, True
# ```
#
# Their rings stand at different points: slot 3 holds place 35 in one row and place 19 in the other. For the one new token here it would not matter, since both rings are full; while one is not, or in a chunk, it does.
#
# </details>
#
# **2. The other remedy.** Instead of attending first, give the ring more slots: `write, then attend` with $W + T - 1$ slots is right for chunks of $T$. Change `settle` of `RingPlan` accordingly, and find the least number of slots for chunks of 9.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# class SparePlan(RingPlan):
#     def settle(self):
#         n_slots = len(self.ring.holds)
#         self.staying = torch.arange(len(self.new))[-n_slots:]
#         self.slots = self.new[self.staying] % n_slots
#         self.ring.holds[self.slots] = self.new[self.staying]
#         self.mask = sees(self.new, self.ring.holds, self.ring.W)
#
# for n_slots in (16, 23, 24, 25):
#     spare = Ring(W, n_slots=n_slots)
#     spare.Plan = SparePlan
#     print(n_slots, rows_right(through(spare, text, 9)))  # all 128 from 24 on
# ```
#
# 16 + 9 − 1 = 24: the first token of the chunk sees 15 before it, and 8 come after it before it attends. `sees` hides what is still there but too old.
#
# </details>
#
# **3. A mixture.** Let only the last layer of our model see everything and the others 32 tokens, by `replace(config, windows=...)`. Does it pass the test of section 2, with lists of 64? And if only the first layer sees everything?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def second_copy(windows):
#     mixed = tk.Decoder(replace(config, windows=windows))
#     mixed.load_state_dict(model.state_dict())
#     logits = mixed(twice)[:, 65:-1]
#     return F.cross_entropy(logits.transpose(1, 2), twice[:, 66:]).item() / math.log(2)
#
# for layer in range(L):
#     windows = tuple(None if i == layer else 32 for i in range(L))
#     print(layer, f"{second_copy(windows):.1f}")
# print("all", f"{second_copy((None,) * L):.1f}")
# # layers 0 to 3: 18.0, layer 4: 17.8, layer 5: 7.2, all: 7.0
# ```
#
# With the last layer alone, nearly as well as with all; with the first alone, not at all. The heads that look up the first copy sit in the last layer, and the head that prepares the keys for them needs a window of 2. One layer that sees
# far is enough if it is the right one; a model trained as a mixture learns to put such heads where they can work.
#
# </details>
#
# **4. What Gemma 3 saves.** Of 62 layers let 10 see all and the others 1,024 tokens ([Gemma 3 27B](https://arxiv.org/abs/2503.19786)). At which length of text is the cache half of what it would be without windows, and what does it tend to?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def share_kept(n, total=62, everything=10, W=1024):
#     return (everything * n + (total - everything) * min(n, W)) / (total * n)
#
# print(next(n for n in range(1, 10_000) if share_kept(n) <= 0.5))  # 2536
# print(f"{share_kept(131_072):.2f}", f"{10 / 62:.2f}")  # 0.17 0.16
# ```
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("sliding_window")

# %% [markdown]
# Then in your own words:
#
# **A.** A ring of 8 slots has taken 21 tokens. Which slot does the next one take, and which place leaves?
#
# <details>
# <summary>Answer</summary>
#
# It stands at place 21, so slot 21 mod 8 = 5, and place 13 leaves.
#
# </details>
#
# **B.** Somebody halves the window and doubles the layers. What happens to the bytes of the cache, and to the reach?
#
# <details>
# <summary>Answer</summary>
#
# The bytes stay the same; the reach goes from $L(W - 1)$ to $2L(W/2 - 1) = L(W - 2)$, shorter by $L$. What does arrive has more stages to go through.
#
# </details>
#
# **C.** A colleague reports that her ring gives exactly the right answer for the last token of every prompt, whatever the chunks, in a model of one layer. Does that show that it works?
#
# <details>
# <summary>Answer</summary>
#
# No. With `write, then attend` the last token of a chunk sees all that it should. The others do not, and in a second layer the last would read their wrong vectors. Compare all rows, in a model of several layers.
#
# </details>
#
# ## Not covered here
#
# Training with a window, and kernels that skip masked blocks. Choosing what to keep by content (evicting the keys that are read least), and fetching far text back from a store. Fewer bytes for each key that is kept: the
# chapter on quantization.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
