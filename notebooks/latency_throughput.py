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
#     stem: latency_throughput
#     modules: [roofline, memory, hardware]
#     objectives:
#       - Tell latency from throughput, and measure why one is not the inverse of the other
#       - Draw the latency-throughput plane of a model on a device from its shape and a data sheet, and name the flat part, the bend and the wall
#       - Turn a reader's speed into the largest batch that keeps up with it
#       - Say which of bandwidth, arithmetic, memory and number format moves which part of the curve
#       - Compute what a token, a request and a day cost, and check published prices
#       - Choose a device for a workload, with long prompts and limits on latency counted
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # Latency, throughput and money
#
# A talk says that Mistral-7B on one A10 serves a million requests a day for about 15 dollars a day. **Could you?**
#
# Write down yes or no, and the one thing that you would have to ask first. By the end you can settle it with a line of arithmetic. The talk is
# T. Lacroix, [*Exploring the Latency/Throughput & Cost Space for LLM Inference*](https://www.youtube.com/watch?v=mYRqvB1_gRk), October 2023.
#
# **Afterwards you can**
#
# - tell latency from throughput, and measure why one is not the inverse of the other;
# - draw the latency–throughput plane of a model on a device from its shape and a data sheet, and name the flat part, the bend and the wall;
# - turn a reader's speed into the largest batch that keeps up with it;
# - say which of bandwidth, arithmetic, memory and number format moves which part of the curve;
# - compute what a token, a request and a day cost, and check published prices;
# - choose a device for a workload, with long prompts and limits on latency counted.
#
# **You need** the lessons on generation (prefill and decode; *TTFT*, the time to the first token, and *TPOT*, the time per token after it), on the KV
# cache (bytes per token), on the roofline and on the cost model. From the last two: a part of a step takes at least as long as the slower of two things, its
# FLOPs at the device's peak and its bytes at the device's bandwidth; a step is the sum of its parts. No GPU, and no network once `teachkit` is installed. Allow an hour.

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
import bisect
import dataclasses
import itertools
import math
import time

import torch
from IPython.display import Markdown, display

import teachkit as tk
from teachkit import cost, figures, hardware, memory, roofline
from teachkit.shapes import shape

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. One user or many
#
# Two people ask the same server at the same moment. It can serve them *by turns*, a token for one and then a token for the other, or *in a batch*: one
# decode step that takes a token of each and returns a token to each. **Latency** is what one of them waits: here TPOT, the seconds between two tokens of the
# same answer. **Throughput** is what the server writes: tokens per second, of all answers together. For one user, each is the inverse of the other. For two?
#
# **Predict.** This book's small model writes one token for 1 sequence, then, in one step, one token for each of 32 sequences. How much longer is the second step: not at
# all, a few times, or 32 times?
#
# First, does a batch change what anybody gets? Three sequences of different length, in one batch and alone:

# %%
model = tk.load("bundled")
config = model.config
texts = [list(range(100, 100 + n)) for n in (20, 33, 50)]  # any tokens will do
together = tk.cache.ContiguousCache(config, 3, 60)
padded = torch.tensor([text + [0] * (50 - len(text)) for text in texts])  # 0: ignored
model(padded, step=together.plan([len(text) for text in texts]))
new = torch.tensor([[5], [7], [11]])
logits = model(new, cache=together)
for row, text in enumerate(texts):
    alone = model(torch.tensor([text + new[row].tolist()]), last_only=True)[0, -1]
    same = bool((logits[row, -1] - alone).abs().max() < 1e-3)
    print(f"{len(text)} tokens: largest logit {alone.max():.1f}, same in the batch: {same}")

# %% [markdown]
# Same logits. Now the time, at 128 tokens of context. The control serves the same users by turns.

# %% tags=["nbval-ignore-output"]
CONTEXT = 128


def decode_call(batch):
    """A function that runs one decode step for `batch` sequences behind 127 tokens each"""
    cache = tk.cache.ContiguousCache(config, batch, CONTEXT)
    cache.plan([CONTEXT] * batch)  # zeros instead of texts: as many bytes to read
    tokens = torch.zeros(batch, 1, dtype=torch.int64)

    def one_more():
        for row in range(batch):
            cache.truncate(row, CONTEXT - 1)
        model(tokens, cache=cache)

    return one_more


BATCHES, TURNS = (1, 2, 4, 8, 16, 32, 64, 128), (2, 4, 8, 16)
calls = {batch: decode_call(batch) for batch in BATCHES}
turns = {f"{n} by turns": lambda n=n: [calls[1]() for _ in range(n)] for n in TURNS}
timed = tk.measure.time_calls({**calls, **turns}, repeats=9)
step_s = {batch: timed[batch].median_s for batch in BATCHES}
turn_s = {n: timed[f"{n} by turns"].median_s for n in TURNS}


# %% tags=["nbval-ignore-output", "hide-input"]
def draw():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for label, measured in (("in a batch", step_s), ("by turns", {1: step_s[1], **turn_s})):
        x = [1e3 * s for s in measured.values()]
        y = [batch / s for batch, s in measured.items()]
        ax.plot(x, y, "o-", label=label)
        for batch, a, b in zip(measured, x, y):
            ax.annotate(f" {batch}", (a, b), va="top", fontsize=8)
    ax.set(xlabel="latency: ms per token", ylabel="throughput: tokens/s, all users")
    ax.set(xlim=0, ylim=0, title="This machine, by number of users")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.legend()
    return fig


ALT = "Measured: tokens/s against ms per token. In a batch the curve rises, by turns it stays level."
display(figures.static(draw, alt=ALT))
up, wait = step_s[1] / step_s[32] * 32, step_s[32] / step_s[1]
end = step_s[128] / step_s[64]
turn_up = step_s[1] / turn_s[16] * 16
Markdown(f"""
**Explain.** One step for 32 sequences takes {wait:.1f} times as long as one for a single sequence: everybody waits {wait:.1f} times as long for a token, and the server writes
{up:.1f} times as many tokens per second. By turns, 16 users wait {turn_s[16] / step_s[1]:.1f} times as long, and the server writes {turn_up:.1f} times as much as for one. A step of this
small model is at first mostly the price of starting its operations (the lesson on the KV cache measured it), which a batch pays once. From 64 to 128 sequences the step's time grows {end:.1f} times: {"the work of each sequence shows, and little is left to share" if end > 1.5 else "there is still something left to share"}.

{tk.measure.caption()}
""")

# %% [markdown]
# The plane on which both curves lie, latency to the right and throughput upwards, is the one that the talk uses to compare servers. Good is up and to the left. A batch moves a server
# *up*, and to the right by as much as the step grows. "How fast is it?" has no answer without the batch.
#
# ## 2. The plane from a data sheet
#
# On a GPU running a large model, starting operations is a small part; bytes and FLOPs remain, and those the cost model counts.
#
# **Predict.** Llama-2-7B in 16 bits on an A100-80GB, 512 tokens of context. One sequence against 64 in a batch: the shortest possible step takes hardly longer, about twice as long, or
# 64 times?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# About twice. Counted in GB, the weights take $2 \cdot 6.61 = 13.2$ (all but the embedding table, of which a step reads only rows), once for all sequences; the keys and values take $512 \cdot 524{,}288 / 10^9 = 0.27$ for each. So the bytes grow
# by a factor of $(13.2 + 64 \cdot 0.27) / (13.2 + 0.27) = 2.3$. Multiplying 64 rows with the weights takes less time than reading them: 64 is below the critical batch, $312 \cdot 10^{12} / (2.039 \cdot 10^{12}) = 153$.
#
# </details>
#
# **Build.** Two functions: the time of a step, and how many sequences the memory holds.


# %%
def decode_s(config, device, batch, context, **bits):
    """Seconds that a decode step takes at least: each part the longer of arithmetic and memory"""
    step = cost.decode_step(config, batch, context, **bits)
    return sum(
        max(part.flops / device.peak(part.bits), part.bytes / device.bytes_per_s)
        for part in step.components
    )


def room(config, device, context, **bits):
    """Sequences that fit beside the weights; 0: none"""
    one, two = (memory.memory(config, n, context, **bits).total_bytes for n in (1, 2))
    each = two - one
    return max(0, math.floor((device.memory_bytes - (one - each)) / each))


llama, mistral = shape("llama-2-7b").config, shape("mistral-7b").config
a10, a100 = hardware.device("a10"), hardware.device("a100-80gb")
print("sequences   ms per token   tokens/s each   tokens/s in all   waits for")
for batch in (1, 4, 16, 64, 256, room(llama, a100, 512)):
    s = decode_s(llama, a100, batch, 512)
    bound = roofline.time_bound(cost.decode_step(llama, batch, 512), a100)
    assert math.isclose(s, bound.seconds)
    print(f"{batch:9} {1e3 * s:14.1f} {1 / s:15.0f} {batch / s:17.0f}   {bound.side}")
assert room(llama, a100, 512) == memory.largest_batch(llama, 512, a100.memory_bytes)

# %% [markdown]
# **Explain.** The curve has four parts, and a reason for each. Let the weights take $W$ bytes, one sequence's keys and values $K$, the bandwidth be $\beta$ bytes per second, and $B$ the batch.
#
# - **Flat.** While $B K$ is small against $W$, a step takes about $W/\beta$: one user more costs almost nothing.
# - **Slope.** Each sequence brings its own keys and values: $(W + B K)/\beta$. At $B = W/K$ the step takes twice the shortest one and the throughput,
#   $B \beta / (W + B K)$, is half of all that memory will ever give, $\beta / K$. More users help less and less, with no arithmetic involved.
# - **Bend.** From about the critical batch on, the matrices wait for arithmetic. Now every part of the step takes time in proportion to $B$: every further user makes all others wait, and the throughput stands still.
# - **Wall.** The memory is full. If the bend has not come before, a step then reads everything that the memory holds, once.
#
# Which of them comes first is a matter of context. The table also gives the batch from which a step waits for arithmetic *most of the time*, `roofline.turning_batch`.

# %%
critical = roofline.critical_batch(a100)
print("A100-80GB, batch at    half of what            mostly           tokens/s in all")
print("              context  memory gives   bend  arithmetic   wall       at the wall")
for name in ("llama-2-7b", "mistral-7b"):
    shaped = shape(name).config
    for context in (128, 512, 4096):
        one = memory.memory(shaped, 1, context)
        half = one.weights_bytes / one.kv_bytes
        wall = room(shaped, a100, context)
        bend = f"{critical:.0f}" if critical < wall else "–"
        mostly = roofline.turning_batch(shaped, a100, context) or "–"
        best = wall / decode_s(shaped, a100, wall, context)
        print(
            f"{name:12} {context:8} {half:13.0f} {bend:>6} {mostly:>11} {wall:6} {best:17.0f}"
        )
gb = memory.largest_batch(llama, 4096, 80e9)
gib = room(llama, a100, 4096)
print(f"\nLlama-2-7B at 4,096 tokens: wall {gb} if 80 GB are 80 · 10⁹ bytes, {gib} if 80 · 2³⁰")

# %% [markdown]
# **Explain.** The bend belongs to the device and its number format: it is the same for both models, unless the wall comes first, as it does at 4,096 tokens. What most of a step waits for is another question. For Llama-2-7B at 512 tokens it is
# memory at every batch: keys and values, which no batch shares, take longer than the matrices even beyond the bend. Mistral's four query heads to each key/value head make $K$ a quarter: the wall stands about four times as far out.
#
# ## 3. What a reader needs
#
# The talk takes 250 words a minute as the speed of a reader. A review of 190 studies has 238 for English non-fiction and 260 for fiction
# ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). A token is about three quarters of an English word
# ([OpenAI](https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them)); other languages need more tokens for a word, as the lesson on generation measured.

# %%
reading_s = {words: 60 / words * 0.75 for words in (238, 250, 260)}
for words, seconds in reading_s.items():
    print(f"{words} words a minute: {1e3 * seconds:.0f} ms a token, {1 / seconds:.1f} tokens/s")
READING_S = reading_s[250]

# %% [markdown]
# **Predict.** Mistral-7B on an A10, 1,000 tokens of context. You let in more and more users. What stops you first: somebody reads faster than the model writes, or the memory is full?


# %%
def batch_within(target_s, config, device, context, **bits):
    """The largest batch that fits and whose step keeps to the target; 0: none"""
    most = room(config, device, context, **bits)
    return bisect.bisect_right(
        range(1, most + 1),
        target_s,
        key=lambda batch: decode_s(config, device, batch, context, **bits),
    )


PARTS = {name: hardware.device(name) for name in ("m2", "t4", "l4", "a10", "a100-80gb", "h100")}
print("largest batch             fits   with a token every")
print("                                 180 ms   50 ms   20 ms")
for device in PARTS.values():
    fits = room(mistral, device, 1000)
    kept = [batch_within(t, mistral, device, 1000) for t in (READING_S, 0.05, 0.02)]
    print(f"{device.name:24} {fits:5} {kept[0]:8} {kept[1]:7} {kept[2]:7}")

# %% tags=["hide-input"]
full = room(mistral, a10, 1000)
Markdown(
    f"""**Explain.** The memory. With {full} sequences it is full, and a step still takes only {1e3 * decode_s(mistral, a10, full, 1000):.0f} ms, {READING_S / decode_s(mistral, a10, full, 1000):.1f} times as fast as people read.
That needs no table: at the wall a step reads the whole memory once, and an A10 does so in 24 · 2³⁰ / (600 · 10⁹) = {a10.memory_bytes / a10.bytes_per_s:.3f} s, whatever the model and the context, if the bend has not come before. An A100 takes {1e3 * a100.memory_bytes / a100.bytes_per_s:.0f} ms for its own.
So reading speed is no limit on any of the NVIDIA devices; on the M2 it is, since there the step waits for arithmetic. Tighter limits come from elsewhere: code that nobody reads while it is written, an answer that another program waits for, or
a reader who skims. A limit of 20 ms rules out whole devices: for one sequence alone, an A10 needs {1e3 * decode_s(mistral, a10, 1, 1000):.0f} ms, nearly all of it for weights."""
)

# %% [markdown]
# A user feels TPOT, and TTFT before it: at least the prefill of the prompt. That of all but short prompts waits for arithmetic, so no batch makes it cheaper, and every prompt in front of yours in the queue adds its own.

# %%
print("ms to the first token    prompt of 100   1,000   4,096 tokens, nobody in front")
for device in PARTS.values():
    ttft = [
        roofline.time_bound(cost.prefill(mistral, 1, prompt), device).seconds
        for prompt in (100, 1000, 4096)
    ]
    print(f"{device.name:24} {1e3 * ttft[0]:12.0f} {1e3 * ttft[1]:9.0f} {1e3 * ttft[2]:7.0f}")

# %% [markdown]
# ## 4. What moves the curve
#
# **Predict.** Take the A10 with Mistral-7B at 1,000 tokens, and double *one* thing: the bandwidth, the arithmetic, or the memory. Or halve the bits of the weights, or of keys and values. Which of these shorten a single
# user's step? Which one raises the throughput at the wall most?

# %%
twice = {fmt: 2 * rate for fmt, rate in a10.flops.items()}
changes = {
    "as it is": (a10, {}),
    "bandwidth × 2": (dataclasses.replace(a10, bytes_per_s=2 * a10.bytes_per_s), {}),
    "arithmetic × 2": (dataclasses.replace(a10, flops=twice), {}),
    "memory × 2": (dataclasses.replace(a10, memory_gb=2 * a10.memory_gb), {}),
    "weights in 8 bits": (a10, {"weight_bits": 8}),
    "weights in 4 bits": (a10, {"weight_bits": 4}),
    "keys and values in 8 bits": (a10, {"kv_bits": 8}),
    "weights and activations in 8": (a10, {"weight_bits": 8, "act_bits": 8}),
    "all three in 8 bits": (a10, {"weight_bits": 8, "act_bits": 8, "kv_bits": 8}),
}
print("                               one user       at the wall")
print("                           ms per token   sequences   tokens/s")
for name, (device, bits) in changes.items():
    wall = room(mistral, device, 1000, **bits)
    rate = wall / decode_s(mistral, device, wall, 1000, **bits)
    alone = 1e3 * decode_s(mistral, device, 1, 1000, **bits)
    print(f"{name:28} {alone:10.1f} {wall:11} {rate:10.0f}")

# %% [markdown]
# **Explain.** One user's step reads weights, so bandwidth and narrower weights shorten it, and nothing else does. At the wall it reads the whole memory, so its time is given by memory and bandwidth, and the throughput by how many
# sequences fit into it. Twice the bandwidth raises the whole curve to twice its height. Keys and values in half the bits do nearly as much at the wall and nothing for a single user. More memory
# moves the wall along the curve: more tokens per second, later for everybody. More arithmetic does nothing here, because nothing waited for it; it would shorten the prefill. Narrower weights, at the same width of the
# activations, are widened before they are multiplied: they save bytes and no arithmetic, so at their farther wall the matrices begin to wait for it. Whether the answers stay as good is another question, for the chapter on quantization.
#
# In the figure, move one thing at a time. Keep the curve of the A10, then choose 4-bit weights: which end of the curve moves more? Then the A100: which end now? With the A10, where is the bend? Shorten the context until there is one.


# %% tags=["nbval-ignore-output"]
def predict(config, device, *, batch, context, **bits):
    """Cost, time bound and memory of a decode step"""
    step = cost.decode_step(config, batch, context, **bits)
    held = memory.memory(config, batch, context, **bits)
    return step, roofline.time_bound(step, device), held


labels = ("Mistral-7B", "Llama-2-7B", "Llama-3-8B", "Llama-3-70B")
models = {label: shape(label).config for label in labels}
parts = [hardware.device(name) for name in (*PARTS, "rtx-4090", "h200", "b200", "pi-5")]
devices = {part.name: part for part in parts}
start = {"model": "Mistral-7B", "device": a10.name, "batch": 64, "context": 1000}
figures.latency_plane(models, devices, predict, reading_ms=1e3 * READING_S, **start)

# %% [markdown]
# ## 5. What it costs
#
# A device costs by the hour, whatever it writes. So the price of a token is the price of an hour over the tokens of an hour: the plane's height, turned into money. `hardware.py` holds one price on demand per device, with
# its day and its source, where one was found. Prices change, and sellers differ; the functions below take any.

# %%
print("1,000 tokens of context    dollars an hour     dollars per million tokens, batch of")
print("                                                1      16      64   as fit")
for device in PARTS.values():
    if device.price_usd_per_hour is None:
        print(f"{device.name:26} no price listed")
        continue
    usd = [
        device.price_usd_per_hour / 3600 * decode_s(mistral, device, batch, 1000) / batch * 1e6
        for batch in (1, 16, min(64, room(mistral, device, 1000)), room(mistral, device, 1000))
    ]
    listed = f"{device.price_usd_per_hour:.2f} ({device.price_date})"
    print(f"{device.name:26} {listed:17} " + "".join(f"{u:8.2f}" for u in usd))

# %% [markdown]
# **Explain.** The same token costs between ten and a hundred times as much alone as in a full batch. A T4 holds fewer than 64 such sequences, so its third column is its last. The most expensive hour does not make
# the most expensive token.
#
# Now the puzzle. A request is a prompt and an answer. Its prompt takes the whole device for a prefill; its answer takes a share of every step of the batch that it is in.
#
# **Predict.** A million requests a day on one device: how many milliseconds of the device may one request take? And how long may its answer be, in a batch of 64, if its prompt cost nothing?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# A day has $24 \cdot 3600 = 86{,}400$ seconds, so a request may take $86{,}400 / 10^6 = 0.0864$ s. A batch of 64 writes 64 tokens per step. With so short a context a step takes some 26 milliseconds, little more
# than it takes to read the weights, which leaves $0.0864 \cdot 64 / 0.026 \approx 210$ tokens for each answer.
#
# </details>


# %%
def request_s(config, device, prompt, answer, batch, **bits):
    """Seconds of the device for one request: its prefill, and its share of the batch's steps"""
    reading = 0.0  # without a prompt
    if prompt:
        reading = roofline.time_bound(cost.prefill(config, 1, prompt, **bits), device).seconds
    half_way = prompt + max(1, answer // 2)
    return reading + answer * decode_s(config, device, batch, half_way, **bits) / batch


def longest_answer(share_s, config, device, prompt, batch):
    """Tokens that an answer may have, for a request that takes no more than `share_s`"""
    return bisect.bisect_right(
        range(1, 2000),
        share_s,
        key=lambda answer: request_s(config, device, prompt, answer, batch),
    )


SHARE_S = 86_400 / 1e6
print("Mistral-7B on an A10, a million requests a day: tokens of an answer, at most")
print("prompt    batch of 16     64    128")
for prompt in (0, 100, 250, 500, 750):
    n = [longest_answer(SHARE_S, mistral, a10, prompt, batch) for batch in (16, 64, 128)]
    fit = [n[i] and room(mistral, a10, prompt + n[i]) >= b for i, b in enumerate((16, 64, 128))]
    print(f"{prompt:6} " + "".join(f"{t if ok else '–':>10}" for t, ok in zip(n, fit)))
parameters = sum(cost.parameters(mistral).values())
most = a10.peak(16) / (2 * parameters) * SHARE_S
print(f"\nprompt and answer together, all arithmetic at the peak: {most:.0f} tokens")
print(f"15 dollars a day: {15 / 24:.3f} an hour; listed: {a10.price_usd_per_hour:.2f}")

# %% tags=["hide-input"]
example = longest_answer(SHARE_S, mistral, a10, 100, 64)
prefill_500_s = roofline.time_bound(cost.prefill(mistral, 1, 500), a10).seconds
Markdown(
    f"""**Explain.** So: yes, if requests are short. *How long are they?* is what one has to ask first. A prompt of 100 tokens leaves {example} tokens for the answer in a batch of 64; a
prompt of 500 takes {1e3 * prefill_500_s:.0f} of the {1e3 * SHARE_S:.1f} ms by itself, and one of 750 takes more than all of them. At the price listed on {a10.price_date} a day costs {24 * a10.price_usd_per_hour:.2f} dollars rather than 15. All of this is a bound from below:
it takes the peaks as reached, a batch as always full, and requests as spread evenly over day and night."""
)

# %% [markdown]
# Suppose that the busiest hour has twice the requests of the mean, and that programs reach 70 % of the peaks. Then the device is bought for the busiest hour and the reachable rate: for the mean request,
# the share is $0.0864 \cdot 0.7 / 2 = 0.030$ s, and a prompt of 100 tokens takes most of it.
#
# With a kernel: what does a million of *your* requests cost? `busy` is the share of a day's hours in which somebody asks.


# %% tags=["nbval-ignore-output"]
def bill(usd_per_hour=0.86, prompt=100, answer=150, batch=64, busy=0.5):
    """A million requests of Mistral-7B on an A10, in Markdown"""
    if batch > room(mistral, a10, prompt + answer):
        return Markdown(
            f"{batch} sequences of {prompt + answer:,} tokens do not fit into the memory."
        )
    seconds = request_s(mistral, a10, prompt, answer, batch)
    usd = usd_per_hour / 3600 * seconds * 1e6 / busy
    reading = request_s(mistral, a10, prompt, 0, batch) / seconds
    return Markdown(
        f"{1e3 * seconds:.1f} ms of the device per request, {reading:.0%} of it for the prompt: "
        f"a million requests cost at least **{usd:,.2f} dollars**, and one A10 serves at most "
        f"**{busy * 86_400 / seconds:,.0f}** a day."
    )


def draw():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    answers = range(10, 501, 10)
    for prompt in (100, 500, 2000):
        spent = [request_s(mistral, a10, prompt, answer, 32) for answer in answers]
        usd = [a10.price_usd_per_hour / 3600 * s * 1e6 for s in spent]
        ax.plot(answers, usd, label=f"prompt of {prompt:,}")
    ax.set(xlabel="tokens of the answer", ylabel="dollars per million requests", ylim=0)
    ax.set_title("Mistral-7B on an A10, batch of 32, never idle: predicted")
    ax.legend()
    return fig


ALT = "Predicted: dollars per million requests rise with the answer, and start higher for long prompts."
lengths = {"prompt": (10, 3000, 10), "answer": (10, 1000, 10), "batch": [1, 8, 16, 32, 64, 128]}
money = {"usd_per_hour": (0.1, 5.0, 0.01), "busy": (0.05, 1.0, 0.05)}
figures.live(bill, figures.static(draw, alt=ALT), **lengths, **money)

# %% [markdown]
# ## 6. A prompt in the way
#
# While a device reads somebody's prompt, who writes the others' tokens?
#
# **Predict.** Eight answers are being written by the book's small model; then a prompt of 900 tokens arrives. If it is read in one pass, how many steps' time passes between two tokens of the eight: a few, tens or hundreds? And if it is read 60 tokens at a time, with a step for
# the eight after each piece? The control has no prompt.

# %% tags=["nbval-ignore-output"]
eight = calls[8]


def interrupted(pieces):
    """(longest time between two tokens of the eight, time to read the prompt) in seconds"""
    reader = tk.cache.ContiguousCache(config, 1, 900)
    eight()
    marks = [time.perf_counter()]
    for n in pieces:
        if n:
            model(torch.zeros(1, n, dtype=torch.int64), cache=reader, last_only=True)
        eight()
        marks.append(time.perf_counter())
    return max(b - a for a, b in itertools.pairwise(marks)), marks[-1] - marks[0]


plans = {"no prompt, 15 steps": [0] * 15, "in one pass": [900], "60 at a time": [60] * 15}
seen = {name: [interrupted(pieces) for _ in range(5)] for name, pieces in plans.items()}
middle = {name: [sorted(values)[2] for values in zip(*runs)] for name, runs in seen.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
table = "\n".join(
    f"| {name} | {1e3 * gap:.1f} | {1e3 * total:.0f} |" for name, (gap, total) in middle.items()
)
usual = middle["no prompt, 15 steps"][0]
whole, cut = middle["in one pass"], middle["60 at a time"]
Markdown(f"""
| a prompt of 900 tokens | longest time between two tokens of the eight, ms | all pieces and steps, ms |
| --- | ---: | ---: |
{table}

**Explain.** Read in one pass, the prompt makes everybody wait {whole[0] / usual:.1f} times as long as usual for one token; in pieces, {cut[0] / usual:.1f} times as long, fifteen times over.
The prompt itself is read after {cut[1] / whole[1]:.1f} times as long{": the steps for the eight stand between its pieces, and their TPOT is bought with its TTFT" if cut[1] > whole[1] else ", less than the steps between its pieces should cost: this machine was busy with something else"}.

{tk.measure.caption()}
""")

# %% [markdown]
# The same on an A10, predicted, with 16 answers being written and a prompt of 4,096 tokens:

# %%
running_s = decode_s(mistral, a10, 16, 1000)
print(f"a step for the 16: {1e3 * running_s:.0f} ms")
print("piece   longest wait, ms   in steps   prompt read after, ms")
for piece in (4096, 1024, 256, 64):
    passes = [
        roofline.time_bound(cost.prefill(mistral, 1, piece, past=past), a10).seconds
        for past in range(0, 4096, piece)
    ]
    longest = max(passes) + running_s
    until = sum(passes) + running_s * len(passes)
    print(f"{piece:5} {1e3 * longest:18.0f} {longest / running_s:10.1f} {1e3 * until:23.0f}")

# %% [markdown]
# **Explain.** Small pieces keep the others' waits short. Too small ones read all the weights for a few tokens: below the critical batch a piece takes about as long however few its tokens are. Real servers put the piece and the 16 tokens into *one* pass, so
# that both share the weights; here they are two.
#
# A server that answers many requests late has throughput and no use. **Goodput** counts the requests per second that keep *both* limits, on TTFT and on TPOT
# ([Zhong et al. 2024](https://arxiv.org/abs/2401.09670)). It is what a batch size, a piece size or a device should be chosen by.
#
# ## 7. Which device, and how many
#
# A workload is four numbers: requests per second, tokens of a prompt, tokens of an answer, and a limit on the mean TPOT. While an answer of $n$ tokens is written in a batch of $B$, each of its companions is replaced by a new
# one once, on average; each new one brings a prefill of $p$ seconds. So the mean TPOT is $t(B) + B p / n$, where $t(B)$ is the step alone.
#
# **Predict.** A million requests a day, prompts of 512 tokens, answers of 256. Which is cheapest if the mean TPOT may be 100 ms: several L4, several A10, or one A100? And which if it may be 30 ms?


# %%
@dataclasses.dataclass(frozen=True)
class Workload:
    per_s: float
    prompt: int
    answer: int
    tpot_s: float


def devices_for(work, config, device, **bits):
    """(devices, batch of each) that keep up with a workload; None: no batch is fast enough"""
    reading = roofline.time_bound(cost.prefill(config, 1, work.prompt, **bits), device).seconds
    context = work.prompt + work.answer // 2

    def tpot(batch):
        return decode_s(config, device, batch, context, **bits) + batch * reading / work.answer

    fit = room(config, device, work.prompt + work.answer, **bits)
    batch = bisect.bisect_right(range(1, fit + 1), work.tpot_s, key=tpot)
    if not batch:
        return None
    served_per_s = batch / (work.answer * tpot(batch))
    return work.per_s / served_per_s, batch


# %%
PRICED = [hardware.device(n) for n in ("t4", "l4", "a10", "a10g", "a100-80gb", "h100")]
A_DAY = 1e6 / 86_400
workloads = {
    "512 + 256 tokens, 100 ms": Workload(A_DAY, 512, 256, 0.1),
    "512 + 256 tokens, 30 ms": Workload(A_DAY, 512, 256, 0.03),
    "100 + 150 tokens, 100 ms": Workload(A_DAY, 100, 150, 0.1),
    "2,000 + 50 tokens, 100 ms": Workload(A_DAY, 2000, 50, 0.1),
}
found = {
    (name, device): devices_for(work, mistral, device)
    for name, work in workloads.items()
    for device in PRICED
}
for name in workloads:
    print(f"{name:26} needed   whole   dollars a day   largest batch")
    for device in PRICED:
        if found[name, device] is None:
            print(f"  {device.name:24}      –   too slow with any batch")
            continue
        needed, batch = found[name, device]
        usd = math.ceil(needed) * 24 * device.price_usd_per_hour
        print(f"  {device.name:24} {needed:6.2f} {math.ceil(needed):7} {usd:15.0f} {batch:15}")


# %% tags=["hide-input"]
def cheapest(name, times):
    """(dollars a day, device) for so many times the requests"""
    return min(
        (math.ceil(times * need[0]) * 24 * device.price_usd_per_hour, device.name)
        for (n, device), need in found.items()
        if n == name and need
    )


best = {name: (cheapest(name, 1), cheapest(name, 10)) for name in workloads}
rows = "\n".join(
    f"| {name} | {one[1]}, {one[0]:.0f} | {ten[1]}, {ten[0]:.0f} |"
    for name, (one, ten) in best.items()
)
loose, tight = (best[name][0][1] for name in list(workloads)[:2])
change = (
    "leaves the choice as it was"
    if loose == tight
    else f"turns the choice from {loose} to {tight}"
)
Markdown(
    f"""| | cheapest for a million requests a day, dollars | for ten million |
| --- | --- | --- |
{rows}

**Explain.** A tighter limit on TPOT, and nothing else, {change}: a device that has to keep its batches small gives away the throughput for which it was bought. The third row is the talk's
case with short requests, one A10 at the price of {a10.price_date}. And the number of requests matters by itself: of a large device that is needed for a part of its time, the whole is paid.
At ten times the requests little is wasted, and the price of a FLOP and of a byte decides."""
)

# %% [markdown]
# The talk's own advice, start with the cheapest device and measure, fits: a bound tells which devices *cannot* do it. What they reach, only a run tells.
#
# ## What real systems do
#
# - **They show the plane.** [Pope et al. 2022](https://arxiv.org/abs/2211.05102) open with it: cost per token against latency, one curve for each model size, a point for each batch and each way to divide the model among chips.
# - **They refill the batch at every step.** A finished answer leaves at once and a waiting request takes its place
#   ([Orca, Yu et al. 2022](https://www.usenix.org/conference/osdi22/presentation/yu)); without that, a batch runs until its longest answer is done, and section 5's full batch is a fiction.
# - **They cut prompts.** vLLM can put pieces of prompts and running answers into one pass; its documentation describes the trade of section 6 as a single setting, the tokens of a pass
#   ([vLLM](https://docs.vllm.ai/en/stable/configuration/optimization/)).
# - **They separate the two phases.** [DistServe](https://arxiv.org/abs/2401.09670) gives prefill and decode devices of their own, so that neither waits for the other, and chooses by goodput.

# %% [markdown]
# ## What the sources claim, checked

# %%
stall = [roofline.time_bound(cost.prefill(llama, 1, 4096), d).seconds for d in (a10, a100)]
eight_bits = {"weight_bits": 8, "act_bits": 8, "kv_bits": 8}
base_s = decode_s(mistral, a10, 64, 512)
gain = base_s / decode_s(mistral, a10, 64, 512, weight_bits=8)
gain_all = base_s / decode_s(mistral, a10, 64, 512, **eight_bits)
vm_hour = 190.6e6 / (400 * 2 * 365 * 24)
usd_full = [
    d.price_usd_per_hour / 3600 * decode_s(mistral, d, n, 1000) / n * 1e6
    for d, n in ((d, room(mistral, d, 1000)) for d in (a10, a100))
]
training = 355 * 365 * 24 * 1.5
m2_per_s = 1 / decode_s(llama, PARTS["m2"], 1, 512, weight_bits=4.5)
a6000_ms = 1e3 * decode_s(llama, hardware.device("a6000"), 1, 512)

# %% tags=["hide-input"]
talk = "the talk of the puzzle"
deck = "Li and Li, [*Latency-Accuracy of LLMs*](https://bu9gy.github.io/)"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| People read 250 words a minute | {talk} | Near: 238 to 260 by the review of section 3. {1e3 * READING_S:.0f} ms per token. |
| An A100 can be worth its higher price | {talk} | Right when it is busy: {usd_full[1]:.2f} dollars per million tokens in a full batch, {usd_full[0]:.2f} on an A10 (section 5). For few requests it is not (section 7). |
| A prompt of 4K tokens raises everybody's latency | {talk} | Right: at least {1e3 * stall[0]:.0f} ms for Llama-2-7B on an A10, {stall[0] / decode_s(llama, a10, 1, 512):.0f} steps of one sequence; {1e3 * stall[1]:.0f} ms on an A100. |
| A million requests a day on one A10, 15 dollars | {talk} | If they are short: section 5. The length is not said. |
| Another precision doubles the requests | {talk} | {gain:.2f} times with 8-bit weights alone, in a batch of 64 with 512 tokens; {gain_all:.2f} times if activations, keys and values follow. |
| 400 instances of GPT-3, each two machines of eight A100s, cost 190.6 million dollars a year | {deck} | Consistent: {vm_hour:.2f} dollars an hour for a machine, {vm_hour / 8:.2f} for a GPU, prices that the deck does not give. |
| Training GPT-3 costs 4.6 million dollars: 355 years of a V100 | *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024 | Consistent with 1.50 dollars an hour, which it does not give: {training / 1e6:.2f} million. |
| A file of 38 MB translated in 420 s by LLaMA-2-7B on an A6000 | {deck} | Not as one sequence: at {a6000_ms:.1f} ms per token, 420 s are {420e3 / a6000_ms:,.0f} tokens. |
| An app decodes Llama 2 at 0.4 tokens a second | {deck} | The device is not named. An M2's memory allows {m2_per_s:.0f} at 4.5 bits a weight: something else held it up. |
""")

# %% [markdown]
# ## Exercises
#
# **1. The best batch.** Suppose that a provider sells tokens at a fixed price and loses a customer whose TPOT is above 20 ms. For Llama-3-8B on an H100 with 2,000 tokens of context, which batch earns most? And if keys and values are kept in 8 bits? First say without a computer whether memory will be full.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# llama_3, h100 = shape("llama-3-8b").config, hardware.device("h100")
# for kv_bits in (16, 8):
#     n = batch_within(0.02, llama_3, h100, 2000, kv_bits=kv_bits)
#     s = decode_s(llama_3, h100, n, 2000, kv_bits=kv_bits)
#     print(kv_bits, n, room(llama_3, h100, 2000, kv_bits=kv_bits), round(1e3 * s), round(n / s))
# ```
#
# An H100 reads its whole memory in $80 \cdot 2^{30} / (3.35 \cdot 10^{12}) = 0.026$ s, so memory will not be full. Throughput never falls with the batch, so the largest batch that keeps the limit earns most. Keys and values of half the bits
# let in about twice as many.
#
# </details>
#
# **2. Two small or one large?** Llama-3-8B at 1,000 tokens: two A10 with half the users each, or one A100? Compare the tokens per second in all at 64 users, and what an hour costs. Now at 4 users.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for users in (64, 4):
#     two = users / decode_s(llama_3, a10, users // 2, 1000)
#     one = users / decode_s(llama_3, a100, users, 1000)
#     usd = 2 * a10.price_usd_per_hour, a100.price_usd_per_hour
#     print(users, round(two), round(one), [round(u / 3600 / n * 1e6, 2) for u, n in zip(usd, (two, one))])
# ```
#
# One large: two small ones read the weights twice, and each has less than a third of the bandwidth. In tokens per dollar the A100 is ahead both times; it would not be if it stood idle at night and one of the two A10 could be given back.
#
# </details>
#
# **3. Utilisation against cost.** Suppose that a device is full for a third of the day and idle for the rest: how much more does a token cost than on one that is always full? Which of the two would a model with a *smaller* batch and requests around the clock beat?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# always = a10.price_usd_per_hour / 3600 * decode_s(mistral, a10, 64, 1000) / 64 * 1e6
# for batch in (1, 4, 16, 24, 64):
#     steady = a10.price_usd_per_hour / 3600 * decode_s(mistral, a10, batch, 1000) / batch * 1e6
#     print(batch, round(steady / always, 1), "cheaper than 8 hours of 64" if steady < 3 * always else "dearer")
# ```
#
# Three times as much. A steady batch of about a quarter of the size already beats a full one for a third of the day: idle hours cost as much as a bad batch.
#
# </details>
#
# **4. The bill for GPT-3.** Take the implied price of a machine. What does a million tokens of GPT-3 cost on two machines of eight A100-40GB, with 1,000 tokens of context, for one user and for as many as fit? (`tp=16`; a vocabulary that 16 divides is
# `dataclasses.replace(shape("gpt-3").config, vocab_size=50272)`.)
#
# <details>
# <summary>Answer</summary>
#
# ```python
# gpt_3 = dataclasses.replace(shape("gpt-3").config, vocab_size=50272)
# card = hardware.device("a100-40gb")
# most = memory.largest_batch(gpt_3, 1000, card.memory_bytes, tp=16)
# for batch in (1, most):
#     s = roofline.time_bound(cost.decode_step(gpt_3, batch, 1000, tp=16), card).seconds
#     print(batch, round(2 * vm_hour / 3600 * s / batch * 1e6, 2), "dollars per million tokens, at least")
# ```
#
# Some thirty times less in a full batch. The bound takes the link between GPUs of one machine also between the two machines, which is too kind.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# **A.** Suppose that a server writes 2,000 tokens a second. How long does a user wait for a token?
#
# <details>
# <summary>Answer</summary>
#
# It cannot be said. With one user, half a millisecond; with 100 in the batch, $100 / 2000 = 0.05$ s.
#
# </details>
#
# **B.** Suppose that a step for 8 sequences takes 20 milliseconds and waits for memory; the weights are nine tenths of its bytes. About how long does a step for 16 take, and for 160?
#
# <details>
# <summary>Answer</summary>
#
# In milliseconds: a tenth of the 20 is for keys and values of 8, so those of 16 take 4, and the step $18 + 4 = 22$. Those of 160 take 40, and the step $18 + 40 = 58$, unless arithmetic or memory has stopped you before.
#
# </details>
#
# **C.** On a device whose memory is ten times the weights, the weights go from 16 bits to 4. One user's step takes a quarter of the time, and the throughput at the wall hardly changes. How can that be?
#
# <details>
# <summary>Answer</summary>
#
# At the wall a step reads the whole memory, whatever fills it, so it takes as long as before. The room for keys and values grows from nine tenths of the memory to 0.975 of it: so many more sequences fit, and not one more.
#
# </details>
#
# ## Not covered here
#
# What programs reach of the bound (overheads, kernels: the chapter on overhead), several devices for one model, schedulers and paged memory (Part IV), queues and the spread of waiting times, energy, and the price of hardware that one owns.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
