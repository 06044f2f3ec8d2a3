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
#       - Draw the latency-throughput plane of a model on a device from its shape and a data sheet, and name the flat part, the slope, the bend and the wall
#       - Turn a reader's speed into the largest batch that keeps up with it
#       - Say which of bandwidth, arithmetic, memory and number format moves which part of the curve
#       - Estimate what a token, a request and a day cost, and check a published price
#       - Choose a device for a workload under a limit on the mean time per token
#     minutes: 70
#     lab: null
# ---

# %% [markdown]
# # Latency, throughput and money
#
# A talk says that Mistral-7B on one NVIDIA A10, a GPU with 24 GB, serves a million requests a day for about 15 dollars a day. **Could you?**
#
# Write down yes or no, and what you would have to ask first; section 5 settles it. The talk is
# T. Lacroix, [*Exploring the Latency/Throughput & Cost Space for LLM Inference*](https://www.youtube.com/watch?v=mYRqvB1_gRk), October 2023.
#
# **Afterwards you can**
#
# - tell latency from throughput, and measure why one is not the inverse of the other;
# - draw the latency–throughput plane of a model on a device from its shape and a data sheet, and name the flat part, the slope, the bend and the wall;
# - turn a reader's speed into the largest batch that keeps up with it;
# - say which of bandwidth, arithmetic, memory and number format moves which part of the curve;
# - estimate what a token, a request and a day cost, and check a published price;
# - choose a device for a workload under a limit on the mean time per token.
#
# **You need** the lessons on generation (prefill and decode; *TTFT*, the time to the first token, and *TPOT*, the time per token after it), on the KV
# cache (bytes per token), on the roofline and on the cost model. From the last two: a step is the sum of its parts, and a part takes at least as long as the slower of two things, its
# FLOPs at the device's peak and its bytes at the device's bandwidth. It *waits for* the slower one. No GPU and no network are needed once `teachkit` is installed. Allow an hour and ten minutes.

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
# A server can serve two people *by turns*, a token for one and then a token for the other, or *in a batch*: one
# decode step for both. Does a batch change what anybody gets? Three sequences of different length, in one batch and alone:

# %%
model = tk.load("bundled")
config = model.config
texts = [list(range(100, 100 + n)) for n in (20, 33, 50)]  # any tokens do
cache = tk.cache.ContiguousCache(config, 3, 60)
padded = torch.tensor([t + [0] * (50 - len(t)) for t in texts])
step = cache.plan([len(t) for t in texts])  # makes room; 0s are ignored
model(padded, step=step)
new = torch.tensor([[5], [7], [11]])  # a further token of each
logits = model(new, cache=cache)
for row, text in enumerate(texts):
    whole = torch.tensor([text + new[row].tolist()])
    alone = model(whole, last_only=True)[0, -1]
    same = bool((logits[row, -1] - alone).abs().max() < 1e-3)
    print(f"{len(text)} tokens: largest logit {alone.max():.1f}, same: {same}")

# %% [markdown]
# Same logits, to 0.001. What changes is time. **Latency** is what one user waits: here TPOT, the seconds between two tokens of the
# same answer. **Throughput** is what the server writes: tokens per second, of all answers together. For one user, each is the inverse of the other. For two?
#
# **Predict.** This book's small model takes a step for 1 sequence, then a step for 32 sequences. Does the second take about as long, a few times as long, or 32 times as long? The control
# serves users by turns, each with a cache of its own.

# %% tags=["nbval-ignore-output"]
CONTEXT = 128


def decode_call(batch):
    """Runs one decode step for `batch` sequences behind 127 tokens each"""
    cache = tk.cache.ContiguousCache(config, batch, CONTEXT)
    cache.plan([CONTEXT] * batch)  # no texts, but as many bytes
    tokens = torch.zeros(batch, 1, dtype=torch.int64)

    def one_more():
        for row in range(batch):
            cache.truncate(row, CONTEXT - 1)
        model(tokens, cache=cache)

    return one_more


def one_by_one(several):
    return lambda: [call() for call in several]


BATCHES, TURNS = (1, 2, 4, 8, 16, 32, 64, 128), (2, 4, 8, 16)
calls = {n: decode_call(n) for n in BATCHES}
in_a_row = {n: max(1, 16 // n) for n in BATCHES}  # a short call is noisy
steps = {n: one_by_one([calls[n]] * in_a_row[n]) for n in BATCHES}
alone = {n: [decode_call(1) for _ in range(n)] for n in TURNS}
turns = {f"{n} by turns": one_by_one(alone[n]) for n in TURNS}
timed = tk.measure.time_calls({**steps, **turns}, repeats=9)
step_s = {n: timed[n].median_s / in_a_row[n] for n in BATCHES}
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
    ax.set(xlim=0, ylim=0, title="This machine, by number of users: measured")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.legend()
    return fig


ALT = "Measured: tokens/s against ms per token, in a batch and by turns."
display(figures.static(draw, alt=ALT))
wait, end, x = step_s[32] / step_s[1], step_s[128] / step_s[64], turn_s[16] / step_s[1]
disturbed = "; other work may have disturbed this run" if abs(x / 16 - 1) > 0.25 else ""
Markdown(f"""
**Explain.** A step for 32 sequences takes {wait:.1f} times as long as one for a single sequence: everybody waits {wait:.1f} times as long for a token, and the server writes
{32 / wait:.1f} times as many tokens per second. By turns, 16 users should wait 16 times as long; measured: {x:.1f}{disturbed}.
A step of this small model is at first mostly the price of starting its operations (measured in the lesson on the KV cache), which a batch pays once. For 128 sequences it takes {end:.1f} times as long as for 64; at 2, nothing is left to share.

{tk.measure.caption()}
""")

# %% [markdown]
# This is the plane on which the talk compares servers; good is up and to the left. A batch moves a server
# *up*, and to the right by as much as the step grows. "How fast is it?" has no answer without the batch.
#
# ## 2. The plane from a data sheet
#
# Starting operations can be made cheap (the chapter on overhead). Bytes and FLOPs no program avoids; those the cost model counts.
#
# **Predict.** Llama-2-7B in 16 bits on an A100-80GB, 512 tokens of context. Does the shortest possible step for 64 sequences take hardly longer than for one, about twice as long, or 64 times as long?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# About twice. In GB, the weights take $2 \cdot 6.61 = 13.2$, once for all (without the embedding table, of which a step reads only rows); keys and values take $512 \cdot 524{,}288 / 10^9 = 0.27$ for each sequence. So the bytes grow
# by a factor of $(13.2 + 64 \cdot 0.27) / (13.2 + 0.27) = 2.3$. Arithmetic takes less time: a weight of 2 bytes takes two FLOPs for each sequence, so reading and multiplying a matrix take equally long for as many sequences as the device has FLOPs per byte. That is
# the *critical batch*, here $312 \cdot 10^{12} / (2.039 \cdot 10^{12}) = 153$.
#
# </details>
#
# **Build.** The time of a step, and how many sequences the memory holds. A GB of memory is $2^{30}$ bytes here, as drivers report it.


# %%
def decode_s(config, device, batch, context, **bits):
    """Seconds of a decode step, at least: arithmetic or memory, by part"""
    step = cost.decode_step(config, batch, context, **bits)
    return sum(
        max(p.flops / device.peak(p.bits), p.bytes / device.bytes_per_s)
        for p in step.components
    )


def room(config, device, context, **bits):
    """Sequences that fit beside the weights (`memory.largest_batch`), or 0"""
    one = memory.memory(config, 1, context, **bits)
    free = device.memory_bytes - one.weights_bytes
    return max(0, int(free // (one.kv_bytes + one.activations_bytes)))


llama = shape("llama-2-7b").config
mistral = shape("mistral-7b").config
a10, a100 = hardware.device("a10"), hardware.device("a100-80gb")
print("Llama-2-7B on an A100-80GB, 512 tokens of context: predicted")
print("sequences  ms per token  tokens/s each  in all  waits mostly for")
for batch in (1, 4, 16, 64, 256, room(llama, a100, 512)):
    s = decode_s(llama, a100, batch, 512)
    bound = roofline.time_bound(cost.decode_step(llama, batch, 512), a100)
    assert math.isclose(s, bound.seconds)
    speeds = f"{1e3 * s:13.1f} {1 / s:14.0f} {batch / s:7,.0f}"
    print(f"{batch:9} {speeds}  {bound.side}")
fits = memory.largest_batch(llama, 512, a100.memory_bytes)
assert room(llama, a100, 512) == fits


# %% tags=["nbval-ignore-output", "hide-input"]
def draw():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    many = range(1, room(llama, a100, 512) + 1)
    seconds = [decode_s(llama, a100, batch, 512) for batch in many]
    ax.plot([1e3 * s for s in seconds], [n / s for n, s in zip(many, seconds)])
    for name, n in {"flat": 10, "slope": 60, "bend": 153, "wall": many[-1]}.items():
        point = 1e3 * seconds[n - 1], n / seconds[n - 1]
        ax.plot(*point, "o", color="C0")
        ax.annotate(f"{name} ({n})", point, (8, -14), textcoords="offset points")
    ax.set(xlabel="ms per token", ylabel="tokens/s in all", ylim=0)
    ax.set(xlim=(0, 1.25e3 * seconds[-1]))
    ax.set_title("Llama-2-7B on an A100-80GB, 512 tokens: predicted")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return fig


ALT = "Predicted: tokens/s rise steeply, then less and less, stand still from a batch of 153, and end where memory is full."
figures.static(draw, alt=ALT)

# %% [markdown]
# **Explain.** The curve has four parts. Let the weights take $W$ bytes, one sequence's keys and values $K$, the bandwidth be $\beta$ bytes per second, and $B$ the batch.
#
# - **Flat.** While $B K$ is small against $W$, a step takes about $W/\beta$. One user more costs almost no time, so on the plane the curve goes straight up.
# - **Slope.** Each sequence brings its own keys and values: the step takes $(W + B K)/\beta$. At $B = W/K$ this is twice $W/\beta$, and the throughput,
#   $B \beta / (W + B K)$, is half of all that memory will ever give, $\beta / K$. More users help less and less, although nothing waits for arithmetic.
# - **Bend.** From about the critical batch on, the matrices wait for arithmetic. Now every part of the step takes time in proportion to $B$, and the throughput stands still. The table says *memory* all the same: keys and values, which no batch shares, take most of this step.
# - **Wall.** The memory is full. If the bend has not come before, a step then reads everything that the memory holds, once.
#
# Which of the last two comes first is a matter of context.

# %%
bend = roofline.critical_batch(a100)
print("A100-80GB, predicted          batch at the   tokens/s")
print("            context    W/K    bend     wall  at the wall")
for name in ("llama-2-7b", "mistral-7b"):
    shaped = shape(name).config
    for context in (128, 512, 4096):
        step = cost.decode_step(shaped, 1, context)
        ratio = step.total("weight_bytes") / step.total("kv_read_bytes")
        wall = room(shaped, a100, context)
        best = wall / decode_s(shaped, a100, wall, context)
        passed = f"{bend:.0f}" if bend < wall else "–"
        place = f"{ratio:6.0f} {passed:>7} {wall:8,} {best:12,.0f}"
        print(f"{name} {context:8,} {place}")

# %% [markdown]
# **Explain.** The bend belongs to the device and its number format, not to the model; at 4,096 tokens the wall comes before it. Mistral's four query heads to each key/value head make $K$ a quarter, and the wall is about four times as far.
#
# ## 3. What a reader needs
#
# The talk's reader takes 250 words a minute; a review of 190 studies has 238 for English non-fiction ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). A token is about three quarters of an English word
# ([OpenAI](https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them)). So a reader needs a token every $60 \cdot 0.75 / 250 = 0.18$ s.
#
# **Predict.** Mistral-7B on an A10, 1,000 tokens of context. You let in more and more users. What stops you first: somebody reads faster than the model writes, or the memory is full?

# %%
READING_S = 60 * 0.75 / 250


def batch_within(target_s, config, device, context, **bits):
    """The largest batch that fits and whose step keeps to the target, or 0"""
    # A step takes longer with every sequence, so a binary search finds it.
    return bisect.bisect_right(
        range(1, room(config, device, context, **bits) + 1),
        target_s,
        key=lambda batch: decode_s(config, device, batch, context, **bits),
    )


NAMES = ("m2", "t4", "l4", "a10", "a100-80gb", "h100")
DEVICES = {name: hardware.device(name) for name in NAMES}
print("Mistral-7B, 1,000 tokens: predicted largest batch")
print("                      that fits,  with a token every")
print("                                   180 ms   50 ms   20 ms")
for device in DEVICES.values():
    targets = (READING_S, 0.05, 0.02)
    kept = [batch_within(t, mistral, device, 1000) for t in targets]
    fits = room(mistral, device, 1000)
    print(f"{device.name:24} {fits:6} {kept[0]:9} {kept[1]:7} {kept[2]:7}")

# %% tags=["hide-input"]
full = room(mistral, a10, 1000)
full_s = decode_s(mistral, a10, full, 1000)
Markdown(
    f"""**Explain.** The memory. With {full} sequences it is full, and a step still takes only {1e3 * full_s:.0f} ms, {READING_S / full_s:.1f} times as fast as people read.
For the A10 that needs no table: before the bend a step reads at most the whole memory, once, in 24 · 2³⁰ / (600 · 10⁹) = {a10.memory_bytes / a10.bytes_per_s:.3f} s, whatever the model and the context. The M2 needs
24 · 2³⁰ / 10¹¹ = {DEVICES["m2"].memory_bytes / DEVICES["m2"].bytes_per_s:.2f} s for that, more than a reader's {READING_S:.2f} s: there reading speed comes first. (Past the bend a step takes longer, as on the A100.)

A limit of 20 ms, as for code that nobody reads while it comes, rules out whole devices: for one sequence alone, an A10 needs {1e3 * decode_s(mistral, a10, 1, 1000):.0f} ms, nearly all of it for weights."""
)

# %% [markdown]
# ## 4. What moves the curve
#
# **Predict.** Take the A10 with Mistral-7B at 1,000 tokens, and double *one* thing: the bandwidth, the arithmetic, or the memory. Or halve the bits of the weights, or of keys and values. Which of these shorten a single
# user's step? Which raises the throughput at the wall most?

# %%
change = dataclasses.replace
twice = {fmt: 2 * rate for fmt, rate in a10.flops.items()}
all_eight = {"weight_bits": 8, "act_bits": 8, "kv_bits": 8}
changes = {
    "as it is": (a10, {}),
    "bandwidth × 2": (change(a10, bytes_per_s=2 * a10.bytes_per_s), {}),
    "arithmetic × 2": (change(a10, flops=twice), {}),
    "memory × 2": (change(a10, memory_gb=2 * a10.memory_gb), {}),
    "weights in 8 bits": (a10, {"weight_bits": 8}),
    "weights in 4 bits": (a10, {"weight_bits": 4}),
    "keys and values in 8": (a10, {"kv_bits": 8}),
    "all in 8, activations too": (a10, all_eight),
}
print("A10, Mistral-7B, 1,000 tokens: predicted")
print("                            one user   at the wall")
print("                           ms a token  batch  bend  tokens/s")
for name, (device, bits) in changes.items():
    alone = 1e3 * decode_s(mistral, device, 1, 1000, **bits)
    wall = room(mistral, device, 1000, **bits)
    rate = wall / decode_s(mistral, device, wall, 1000, **bits)
    widths = {key: n for key, n in bits.items() if key != "kv_bits"}
    bend = roofline.critical_batch(device, **widths)
    passed = f"{bend:.0f}" if bend < wall else "–"
    print(f"{name:26} {alone:10.1f} {wall:6} {passed:>5} {rate:9,.0f}")

# %% [markdown]
# **Explain.** One user's step reads weights, so bandwidth and narrower weights shorten it, and nothing else does by more than a hundredth. At the wall a step reads the whole memory once, if the bend has not come before. Three rows
# have passed the bend and end at the same throughput: there each further sequence adds its own time to the step, and a wall farther out gives no more. All in 8 bits has passed it too, at twice that.
#
# Twice the bandwidth halves each step here; keys and values in half the bits do nearly as much at the wall. More arithmetic does nothing, because nothing waits for it; with more memory too, or in a prefill, it would. Weights narrower than the
# activations are widened before they are multiplied: they save bytes and no arithmetic, so their bend comes at a smaller batch. Whether the answers stay as good is a question for the chapter on quantization.
#
# In the figure, press *Keep this curve* with the A10, then try the changes and other devices. 4-bit weights move the left end more; an A100 moves both ends, the wall more.


# %% tags=["nbval-ignore-output", "hide-input"]
def predict(config, device, *, batch, context, **bits):
    """Cost, time bound and memory of a decode step"""
    step = cost.decode_step(config, batch, context, **bits)
    held = memory.memory(config, batch, context, **bits)
    return step, roofline.time_bound(step, device), held


labels = ("Mistral-7B", "Llama-2-7B", "Llama-3-8B", "Llama-3-70B")
models = {label: shape(label).config for label in labels}
offered = [hardware.device(name) for name in (*NAMES, "rtx-4090", "h200", "b200", "pi-5")]
start = {"model": "Mistral-7B", "device": a10.name, "batch": 64, "context": 1000}
figures.latency_plane(
    models, {d.name: d for d in offered}, predict, reading_ms=1e3 * READING_S, **start
)

# %% [markdown]
# ## 5. What it costs
#
# A device costs by the hour, whatever it writes. So a token costs the price of an hour over the tokens of an hour: the plane's height, turned into money. The prices are Lambda's, of one day, for machines that are
# billed while they run ([its list](https://lambda.ai/instances), through [a copy](https://github.com/api-evangelist/lambda-labs)).


# %%
def usd_per_million(device, seconds, batch):
    """Dollars for a million tokens, where a step of `batch` takes `seconds`"""
    return device.price_usd_per_hour / 3600 * seconds / batch * 1e6


RENTED = ("a10", "a6000", "a100-40gb", "a100-80gb", "h100")
RENTED = [hardware.device(name) for name in RENTED]
print(f"Mistral-7B, 1,000 tokens: predicted, prices of {a10.price_date}")
print("                         dollars    dollars per million tokens,")
print("                         an hour    batch of 1     64   as fit")
usd = {}
for device in RENTED:
    batches = (1, 64, room(mistral, device, 1000))
    steps = [(decode_s(mistral, device, n, 1000), n) for n in batches]
    usd[device] = [usd_per_million(device, s, n) for s, n in steps]
    row = "".join(f"{u:9.3f}" for u in usd[device])
    print(f"{device.name:24} {device.price_usd_per_hour:7.2f}     {row}")

# %% tags=["hide-input"]
ratio = sorted(alone / full for alone, _, full in usd.values())
Markdown(
    f"**Explain.** The same token costs {ratio[0]:.0f} to {ratio[-1]:.0f} times as much alone as in a full batch. An A100 can be worth its higher price, says the talk; in a full batch it is: {usd[a100][-1]:.3f} dollars per million tokens against the A10's {usd[a10][-1]:.3f}."
)

# %% [markdown]
# Now the puzzle. A prompt takes the whole device for a prefill, an answer a share of every step of its batch.
#
# **Predict.** A million requests a day on one A10: how many milliseconds of the device may one request take? And how long may its answer be, in a batch of 64, if its prompt cost nothing?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# A day has $24 \cdot 3600 = 86{,}400$ seconds, so a request may take $86{,}400 / 10^6 = 0.0864$ s. A step of 64 tokens takes, with so short a context, some 26 milliseconds, little more
# than reading the weights, which leaves $0.0864 \cdot 64 / 0.026 \approx 210$ tokens for each answer.
#
# </details>


# %%
def prefill_s(config, device, prompt):
    """Seconds to read one prompt by itself"""
    step = cost.prefill(config, 1, prompt)
    return roofline.time_bound(step, device).seconds


def request_s(config, device, prompt, answer, batch):
    """Seconds of the device for a request: its prefill, its share of steps"""
    reading = prefill_s(config, device, prompt) if prompt else 0.0
    half_way = prompt + max(1, answer // 2)  # mean context
    step = decode_s(config, device, batch, half_way)
    return reading + answer * step / batch


def longest_answer(share_s, prompt, batch):
    """Most tokens with which a request keeps to its share of time, or 0"""

    def seconds(answer):
        return request_s(mistral, a10, prompt, answer, batch)

    return bisect.bisect_right(range(1, 2000), share_s, key=seconds)


SHARE_S = 86_400 / 1e6
print("Mistral-7B on an A10, a million requests a day: predicted")
print("most tokens of an answer, prompts read one at a time")
print("prompt   batch of 64    128")
for prompt in (0, 100, 250, 500, 750):
    longest = [longest_answer(SHARE_S, prompt, batch) for batch in (64, 128)]
    assert not any(longest) or room(mistral, a10, prompt + longest[1]) >= 128
    print(f"{prompt:6} {longest[0]:13} {longest[1]:6}")
listed = a10.price_usd_per_hour
print(f"15 dollars a day: {15 / 24:.3f} an hour; listed: {listed:.2f}")

# %% tags=["hide-input"]
short = longest_answer(SHARE_S, 100, 64)
busy_s = SHARE_S / 2 * 0.7
left = longest_answer(busy_s, 100, 64)
Markdown(
    f"""**Explain.** On paper, yes, if requests are short: ask first how long they are. A prompt of 100 tokens leaves {short} tokens for the answer in a batch of 64; a
prompt of 500 takes {1e3 * prefill_s(mistral, a10, 500):.0f} of the {1e3 * SHARE_S:.1f} ms by itself, one of 750 more than all of them. At the listed price a day costs {24 * listed:.2f} dollars rather than 15.

This holds for a server that reaches the peaks, keeps its batch full and gets its requests evenly. Let the busiest hour have twice the requests of the mean, and programs reach 70 % of the peaks: then the estimate of a
request may be 0.0864 / 2 · 0.7 = {busy_s:.3f} s. Of this, {1e3 * prefill_s(mistral, a10, 100):.0f} ms are the prompt of 100 tokens, which leaves {left} tokens for the answer: hardly.
Short prompts that share a pass leave more: below the critical batch, {roofline.critical_batch(a10):.0f} tokens, two prompts of 100 together take {1e3 * roofline.time_bound(cost.prefill(mistral, 2, 100), a10).seconds:.0f} ms."""
)

# %% [markdown]
# What does a million of *your* requests cost? The controls work where the notebook runs; `busy` is the share of the day with requests.


# %% tags=["nbval-ignore-output", "hide-input"]
def bill(usd_per_hour=a10.price_usd_per_hour, prompt=100, answer=150, batch=32, busy=0.5):
    """A million requests of Mistral-7B on an A10, in Markdown"""
    if batch > room(mistral, a10, prompt + answer):
        return Markdown("So many sequences of this length do not fit into the memory.")
    seconds = request_s(mistral, a10, prompt, answer, batch)
    usd = usd_per_hour / 3600 * seconds * 1e6 / busy
    return Markdown(
        f"Predicted, prompts read one at a time: {1e3 * seconds:.1f} ms of the device per request, {prefill_s(mistral, a10, prompt) / seconds:.0%} of it for the prompt. "
        f"A million cost **{usd:,.2f} dollars**; one A10 serves **{busy * 86_400 / seconds:,.0f}** a day."
    )


def draw():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    answers = range(10, 501, 10)
    for prompt in (100, 500, 2000):
        spent_s = [request_s(mistral, a10, prompt, n, 32) / 0.5 for n in answers]
        usd = [listed / 3600 * s * 1e6 for s in spent_s]
        ax.plot(answers, usd, label=f"prompt of {prompt:,}")
    ax.set(xlabel="tokens of the answer", ylabel="dollars per million requests", ylim=0)
    ax.set_title("Mistral-7B on an A10, batch of 32, busy half the day: predicted")
    ax.legend()
    return fig


ALT = "Predicted: dollars per million requests rise with the answer, and start higher for long prompts."
lengths = {"prompt": (10, 3000, 10), "answer": (10, 1000, 10), "batch": [1, 8, 16, 32, 64, 128]}
money = {"usd_per_hour": (0.1, 5.0, 0.01), "busy": (0.05, 1.0, 0.05)}
figures.live(bill, figures.static(draw, alt=ALT), **lengths, **money)

# %% [markdown]
# ## 6. A prompt in the way
#
# A user feels TPOT, and TTFT before it: at least the prefill of the prompt.

# %%
print("Mistral-7B, nobody in front: predicted ms to the first token")
print("prompt of                  100   1,000   4,096 tokens")
for device in (a10, a100):
    ttft = [1e3 * prefill_s(mistral, device, n) for n in (100, 1000, 4096)]
    print(f"{device.name:24} {ttft[0]:5.0f} {ttft[1]:7.0f} {ttft[2]:7.0f}")

# %% [markdown]
# The prefill of any but a short prompt waits for arithmetic, so reading several together saves nothing: each prompt in front of yours adds its time. While a device reads a prompt in one pass, nobody gets a token.
#
# **Predict.** The book's small model is writing eight answers when a prompt of 900 tokens arrives. If it is read in one pass, how many steps' time passes between two tokens of the eight: a few, tens or hundreds? And if it is read 60 tokens at a time, with a step for
# the eight after each piece? The control has no prompt.

# %% tags=["nbval-ignore-output"]
eight_users = calls[8]


def interrupted(pieces):
    """(longest time between two tokens of the eight, time of all) in s"""
    reader = tk.cache.ContiguousCache(config, 1, 900)
    eight_users()
    marks = [time.perf_counter()]
    for n in pieces:
        if n:
            prompt = torch.zeros(1, n, dtype=torch.int64)
            model(prompt, cache=reader, last_only=True)
        eight_users()
        marks.append(time.perf_counter())
    gaps = [b - a for a, b in itertools.pairwise(marks)]
    return max(gaps), marks[-1] - marks[0]


plans = {
    "no prompt, 15 steps": [0] * 15,
    "in one pass": [900],
    "60 at a time": [60] * 15,
}
seen = {name: [] for name in plans}
for _ in range(5):  # in turn, so that a slow spell falls on all alike
    for name, pieces in plans.items():
        seen[name].append(interrupted(pieces))
middle = {name: [sorted(s)[2] for s in zip(*seen[name])] for name in plans}

# %% tags=["nbval-ignore-output", "hide-input"]
table = "\n".join(
    f"| {name} | {1e3 * gap:.1f} | {1e3 * total:.0f} |" for name, (gap, total) in middle.items()
)
usual = middle["no prompt, 15 steps"][1] / 15
whole, cut = middle["in one pass"], middle["60 at a time"]
pieces_s, pass_s = cut[1] - 15 * usual, whole[1] - usual
masked = (
    f" The pieces by themselves take {pieces_s / pass_s:.2f} times as long as the one pass. One reason: the pass computes 900 · 900 = 810,000 scores in each head, nearly half of them to be masked; the pieces compute 60 · (60 + 120 + … + 900) = 432,000."
    if pieces_s < pass_s
    else ""
)
Markdown(f"""
| a prompt of 900 tokens, measured | longest time between two tokens of the eight, ms | in all, ms |
| --- | ---: | ---: |
{table}

**Explain.** A step without a prompt takes {1e3 * usual:.1f} ms on average. Read in one pass, the prompt makes everybody wait {whole[0] / usual:.1f} times as long for one token; in pieces, a token takes {cut[1] / 15 / usual:.1f} times as long on average, the slowest {cut[0] / usual:.1f}.{masked}

{tk.measure.caption()}
""")

# %% [markdown]
# The same on an A10, which is writing 16 answers when a prompt of 4,096 tokens arrives:

# %%
running_s = decode_s(mistral, a10, 16, 1000)
print(f"A10, predicted: a step for the 16 takes {1e3 * running_s:.0f} ms")
print("piece   longest wait, ms   in steps   prompt read after, ms")
for piece in (4096, 1024, 256, 64):
    starts = range(0, 4096, piece)
    passes = [cost.prefill(mistral, 1, piece, past=n) for n in starts]
    passes_s = [roofline.time_bound(p, a10).seconds for p in passes]
    longest = max(passes_s) + running_s
    until = sum(passes_s) + running_s * len(passes_s)
    waits = f"{1e3 * longest:18.0f} {longest / running_s:10.1f}"
    print(f"{piece:5} {waits} {1e3 * until:23.0f}")

# %% [markdown]
# **Explain.** Small pieces keep the others' waits short; the newcomer pays with its TTFT. Below the critical batch, $125 \cdot 10^{12} / (600 \cdot 10^9) = 208$, a piece takes about as long however few its tokens are: it reads all the weights. Real servers put the piece and the 16 tokens into *one* pass; here they are two.
#
# Answers that come too late are of no use. **Goodput** is the highest rate of requests, per GPU, at which a set share of them keeps *both* limits, on TTFT and on TPOT
# ([Zhong et al. 2024](https://arxiv.org/abs/2401.09670)). Their DistServe gives prefill and decode devices of their own, so that neither waits for the other.
#
# ## 7. Which device, and how many
#
# A workload is four numbers: requests per second, tokens of a prompt and of an answer, and a limit on the mean TPOT. While an answer of $n$ tokens is written in a batch of $B$, each of its $B - 1$ companions is replaced once, on average, by one
# that brings a prefill of $p$ seconds. So the mean TPOT is $t(B) + (B - 1)\, p / n$, where $t(B)$ is the step alone. And $B$ requests take the device $n\, t(B) + B p$ seconds: section 5's seconds per request, times $B$.
#
# **Predict.** A million requests a day, prompts of 512 tokens, answers of 256. You rent whole devices. Which of section 5's five is cheapest if the mean TPOT may be 100 ms, and which if it may be 30 ms?


# %%
PER_S, PROMPT, ANSWER = 1e6 / 86_400, 512, 256


def devices_for(limit_s, config, device):
    """(devices, batch on each) that keep up; None: no batch is fast enough"""
    reading = prefill_s(config, device, PROMPT)

    def step(batch):
        return decode_s(config, device, batch, PROMPT + ANSWER // 2)

    def tpot(batch):
        return step(batch) + (batch - 1) * reading / ANSWER

    fit = room(config, device, PROMPT + ANSWER)  # room for the end
    batch = bisect.bisect_right(range(1, fit + 1), limit_s, key=tpot)
    if not batch:
        return None
    busy = ANSWER * step(batch) + batch * reading  # for `batch` requests
    return PER_S * busy / batch, batch


for limit in (0.1, 0.03):
    print(f"mean TPOT up to {1e3 * limit:3.0f} ms    devices    batch    dollars a day")
    print("(predicted)                needed  on each   1 million  10 million")
    for device in RENTED:
        if need := devices_for(limit, mistral, device):  # or it is too slow
            whole = [math.ceil(times * need[0]) for times in (1, 10)]
            rent = [n * 24 * device.price_usd_per_hour for n in whole]
            print(f"{device.name:24} {need[0]:8.2f} {need[1]:8}", end=" ")
            print(f"{rent[0]:11,.0f} {rent[1]:11,.0f}")

# %% [markdown]
# **Explain.** A million requests a day are a part of one A100's work, so one A100-40GB is enough, and cheapest under both limits. (Lambda lists the A100-80GB only in machines of eight.) At ten times the requests less is wasted on idle parts, and under the tighter limit the H100 is cheapest.
#
# The tighter limit triples the A10s: with so small a batch they give away their throughput. The A100-80GB and the H100 lose nothing to two digits: the batches that they give up lay far behind the bend.
#
# Such an estimate sorts devices out; what they reach, only a run tells. TTFT is left out: it depends on the queue. And a mean hides section 6's long waits.
#
# ## What real systems do
#
# - **They show the plane.** [Pope et al. 2022](https://arxiv.org/abs/2211.05102) plot cost per token against latency for PaLM, with batch and number of chips at the points.
# - **They refill the batch at every step**: a waiting request takes the place of a finished one
#   ([Orca, Yu et al. 2022](https://www.usenix.org/conference/osdi22/presentation/yu)). Without that, section 5's full batch is a fiction.
# - **They cut prompts.** vLLM puts pieces of prompts and running answers into one pass; how many tokens it takes at most is a setting
#   ([vLLM](https://docs.vllm.ai/en/stable/configuration/optimization/)).
#
# ## What the sources claim, checked

# %% tags=["hide-input"]
stall = [prefill_s(llama, device, 4096) for device in (a10, a100)]
base_s = decode_s(mistral, a10, 64, 512)
gain = base_s / decode_s(mistral, a10, 64, 512, weight_bits=8)
gain_all = base_s / decode_s(mistral, a10, 64, 512, **all_eight)
m2_per_s = 1 / decode_s(llama, DEVICES["m2"], 1, 512, weight_bits=4.5)
a6000_ms = 1e3 * decode_s(llama, hardware.device("a6000"), 1, 512)
talk = "the talk of the puzzle"
deck = "Li and Li, [*Quantifying Latency-Accuracy of LLMs*](https://bu9gy.github.io/)"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| A prompt of 4K tokens raises everybody's latency | {talk} | Right: at least {1e3 * stall[0]:.0f} ms for Llama-2-7B on an A10, {stall[0] / decode_s(llama, a10, 1, 512):.0f} steps of one sequence; {1e3 * stall[1]:.0f} ms on an A100. |
| Another precision doubles the requests | {talk} | {gain:.2f} times the tokens per second with 8-bit weights alone, in a batch of 64 with 512 tokens; {gain_all:.2f} times if activations, keys and values follow. |
| A file of 38 MB is translated by LLaMA2-7B on an A6000 at "420s/rq", per request | {deck} | Not as one sequence: at {a6000_ms:.1f} ms per token, 420 s give {420e3 / a6000_ms:,.0f} tokens; at four bytes to a token the file has {38 / 4:.1f} million. |
| An app decodes Llama 2 at 0.4 tokens a second | {deck} | The device is not named. On an M2, bandwidth would not explain it: it allows {m2_per_s:.0f} tokens a second at 4.5 bits a weight. |
""")

# %% [markdown]
# ## Exercises
#
# **1. The best batch.** Suppose that a provider sells tokens at a fixed price and loses a customer whose TPOT is above 20 ms. For Llama-3-8B on an H100 with 2,000 tokens of context, which batch earns most? And with keys and values in 8 bits? First say without a computer whether memory will be full.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# llama_3, h100 = shape("llama-3-8b").config, hardware.device("h100")
# for kv_bits in (16, 8):
#     bits = {"kv_bits": kv_bits}
#     n = batch_within(0.02, llama_3, h100, 2000, **bits)
#     s = decode_s(llama_3, h100, n, 2000, **bits)
#     fits = room(llama_3, h100, 2000, **bits)
#     print(f"{kv_bits} bits: batch {n} of {fits}, {n / s:,.0f} tokens/s")
# ```
#
# An H100 reads its whole memory in $80 \cdot 2^{30} / (3.35 \cdot 10^{12}) = 0.026$ s, so memory will not be full. By the bound, throughput never falls with the batch: the largest that keeps the limit earns most. Keys and values of half the bits
# let in nearly twice as many.
#
# </details>
#
# **2. Utilisation against cost.** Suppose that a device has a batch of 64 for eight hours a day and is idle otherwise. How many times as much does a token cost as with that batch around the clock? Which smaller batch, around the clock, costs no more?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# share = {n: decode_s(mistral, a10, n, 1000) / n for n in (1, 4, 16, 64)}
# for batch, seconds in share.items():
#     print(f"{batch}: {seconds / share[64]:.1f} times the price of 64")
# ```
#
# Three times as much. A batch of a quarter of the size costs no more: idle hours are as dear as a small batch.
#
# </details>
#
# **3. The bill for GPT-3.** Li and Li say that 400 instances of GPT-3, each on two machines in Azure with eight A100 40GB, cost 190.6 million dollars a year ([their page](https://bu9gy.github.io/)). What does that imply for an hour of a machine, and of one A100? How does it compare with section 5?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# machine = 190.6e6 / (400 * 2 * 365 * 24)
# listed = hardware.device("a100-40gb").price_usd_per_hour
# print(f"{machine:.2f} dollars for a machine, {machine / 8:.2f} for an A100")
# print(f"{machine / 8 / listed:.1f} times Lambda's price")
# ```
#
# Plausible for another seller and an earlier year; the deck itself names no price.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("latency_throughput")

# %% [markdown]
# Then in your own words:
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
# In milliseconds: keys and values of 8 take a tenth of the 20, so those of 16 take 4, and the step $18 + 4 = 22$. Those of 160 take 40, and the step $18 + 40 = 58$, unless the bend or the wall comes before.
#
# </details>
#
# **C.** Suppose that memory is ten times the weights, and full before the bend. The weights go from 16 bits to 4: one user's step takes a quarter of the time, and the throughput at the wall hardly changes. How can that be?
#
# <details>
# <summary>Answer</summary>
#
# At the wall a step reads the whole memory, whatever fills it, so it takes as long as before. Keys and values have 0.975 of the memory instead of nine tenths: room for $0.975 / 0.9 = 1.08$ times the sequences.
#
# </details>
#
# ## Not covered here
#
# What programs reach of the bound (the chapter on overhead), several devices for one model, schedulers and paged memory (Part IV), queues and with them limits on TTFT, energy, and the price of hardware that one owns.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
