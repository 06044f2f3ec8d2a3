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
#     stem: cost_model
#     modules: [cost, llm_analysis, memory]
#     objectives:
#       - Write a predictor of a decode step in about 20 lines, and prove its counts on a model that runs
#       - Turn counts into a lower bound in time, and say what such a bound leaves out
#       - Take a published table apart until every assumption behind its numbers is known
#       - Say when errors in an estimate cancel, and find the setting in which they no longer do
#       - Estimate the GPU-hours, the time and the memory of a training run, and what efficiency a reported figure implies
#       - Decide with the predictor how many devices a model needs, and what sharing it between them buys
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # The cost model: a step predicted, a table taken apart
#
# A published estimator says that LLaMA-7B writes a token in 6.73 ms on an A100 with 80 GB ([llm-analysis](https://github.com/cli99/llm-analysis/tree/main/examples/llama)).
# To get there it gives the model an MLP that it does not have, counts the cache twice and never reads the weights of the head. **How can the answer be nearly right?**
#
# **Predict.** How far is it from the same bound with everything counted as it is: 2 %, 20 %, or a factor of 2?
#
# **Afterwards you can**
#
# - write a predictor of a decode step in about 20 lines, and prove its counts on a model that runs;
# - turn counts into a lower bound in time, and say what such a bound leaves out;
# - take a published table apart until every assumption behind its numbers is known;
# - say when errors in an estimate cancel, and find the setting in which they no longer do;
# - estimate the GPU-hours, the time and the memory of a training run, and what efficiency a reported figure implies;
# - decide with the predictor how many devices a model needs, and what sharing it between them buys.
#
# **You need** the lessons on the model (its matrices, and two FLOPs for each parameter and token), on the KV cache (bytes per token) and on the roofline. From the last one: a
# piece of work takes at least as long as the slower of its arithmetic and its traffic, $\max(\text{FLOPs}/F, \text{bytes}/BW)$ on a device that does $F$ FLOPs and moves $BW$ bytes a second;
# below $F/BW$ FLOPs per byte, the device's *ridge*, it waits for memory. No GPU and no network once `teachkit` is installed. Allow an hour, and as much again for the exercises. Letters: $B$ sequences, $S$ tokens attended to,
# $L$ layers, $C$ the width, $H$ and $H_{kv}$ heads of $D$ numbers, $F_{\!f\!f}$ the width of the MLP, $V$ the vocabulary.

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
import time
from dataclasses import replace
from pathlib import Path

import torch
from IPython.display import Markdown, display
from torch.utils.flop_counter import FlopCounterMode

import teachkit as tk
from teachkit import bench, cost, figures, llm_analysis, memory, roofline
from teachkit.hardware import device
from teachkit.shapes import shape

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. A step in twenty lines
#
# A decode step takes in one token for each of $B$ sequences. What it must compute and move follows from the config alone. Each matrix is read once and multiplied with $B$ rows; each sequence reads its own
# keys and values; between the parts go vectors that are small as long as $B$ is.
#
# **Predict.** LLaMA-7B, one sequence that attends to 544 tokens. Which part moves the most bytes: the MLP, the projections of attention ($W_q, W_k, W_v, W_o$), the keys and values, or the head?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# The MLP. In each layer it has three matrices of $4096 \times 11008$ numbers, the projections are four of $4096 \times 4096$: about two to one. Keys and values are $2 \cdot 544 \cdot 4096$ numbers in each layer, a fifteenth of the
# projections. The head stands there once, not in every layer.
#
# </details>


# %%
def decode_parts(config, B, S, n_bytes=2):
    """(FLOPs, bytes) of each part of a decode step of B sequences that attend to S tokens each"""
    L, C, V = config.n_layers, config.d_model, config.vocab_size
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    def matrices(numbers, in_and_out):
        return 2 * B * numbers, n_bytes * (numbers + B * in_and_out)

    n_norms = 2 * L + 1
    return {
        "embedding": (0, n_bytes * 2 * B * C),  # a row is read and handed on
        "norms": (0, n_bytes * n_norms * (C + 2 * B * C)),
        "attention projections": matrices(L * C * 2 * (q + kv), L * 2 * (C + q + kv)),
        # read: S keys and values; written: one more of each; q comes in, the mixture goes out
        "attention scores": (4 * L * B * S * q, n_bytes * L * B * 2 * (S * kv + kv + q)),
        "mlp": matrices(L * 3 * C * config.d_ff, L * 2 * (C + config.d_ff)),
        "head": matrices(V * C, C + V),
    }


llama = shape("llama-7b").config
parts = decode_parts(llama, B=1, S=544)
print("part                     MFLOP       MB   FLOPs per byte")
for name, (flops, n_bytes) in parts.items():
    print(f"{name:22} {flops / 1e6:7,.0f} {n_bytes / 1e6:8,.1f} {flops / n_bytes:16.2f}")

# %% [markdown]
# Two things are easy to get wrong. The *embedding* is a table, and a step reads one row of it for each token. The *head* has as many numbers as that table, and a step reads all of them, since every
# token of the vocabulary gets a logit.
#
# `teachkit.cost` counts the same way, for more families, number formats and several devices. The twenty lines agree with it to the byte:

# %%
print("model          batch  tokens   parts   differing")
SETTINGS = [("llama-7b", 1, 544), ("llama-65b", 7, 2048), ("llama-3-8b", 33, 4001)]
for name, B, S in SETTINGS:
    config = shape(name).config
    theirs = {c.name: (c.flops, c.bytes) for c in cost.decode_step(config, B, S).components}
    ours = decode_parts(config, B, S)
    differing = [part for part in ours if ours[part] != theirs.pop(part)]
    print(f"{name:14} {B:5} {S:7} {len(ours):7}   {differing + list(theirs) or 'none'}")

# %% [markdown]
# ## 2. Held against a model that runs
#
# Two programs that agree may share a mistake. So count what PyTorch really does. `FlopCounterMode` sees each matrix product that is called; a cache says how many bytes it holds; a model has a number
# of parameters.
#
# **Predict.** For 300 tokens of a prompt, does the counter find the FLOPs that `cost.prefill` gives, fewer, or more?

# %%
model = tk.load("bundled")
config, S = model.config, 300
tokens = torch.randint(config.vocab_size, (1, S), generator=torch.Generator().manual_seed(0))
cache = tk.cache.ContiguousCache(config, 1, S)


def counted(tokens):
    with FlopCounterMode(display=False) as counter:
        model(tokens, cache=cache, last_only=True)
    return counter.get_total_flops()


fp32 = {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}
prompt = cost.prefill(config, 1, S, **fp32)
reading = counted(tokens)
cache.truncate(0, S - 1)
writing = counted(tokens[:, -1:])
step = cost.decode_step(config, 1, S, **fp32)
held = sum(p.numel() for p in model.parameters())
print("                               real      counted on paper")
print(f"parameters            {held:13,} {sum(cost.parameters(config).values()):21,}")
print(f"bytes of the cache    {cache.nbytes:13,} {step.total('kv_read_bytes'):21,.0f}")
print(f"FLOPs of a step       {writing:13,} {step.flops:21,.0f}")
print(f"FLOPs of the prompt   {reading:13,} {prompt.flops:21,.0f}")
hidden = 4 * config.n_layers * config.n_heads * config.head_dim * S * (S - 1) // 2
print(f"  with hidden pairs   {reading:13,} {prompt.flops + hidden:21,.0f}")

# %% [markdown]
# **Explain.** The prompt takes more than it need. Of $S^2$ pairs of tokens a causal mask lets $S(S+1)/2$ through. This model computes the scores of all of them and then sets the hidden ones to 0: $S(S-1)/2$
# pairs too many, at $4HD$ FLOPs a layer each, which is exactly the difference. `cost` counts what a step cannot do without; what a program does besides is the program's affair. So its times will be lower bounds.

# %% [markdown]
# ## 3. From counts to time
#
# Each part takes at least as long as the slower of its arithmetic and its traffic. The parts run one after another: the MLP needs what attention hands it, so it cannot start before.
#
# $$t \;\ge\; \sum_{\text{parts}} \max\left(\frac{\text{FLOPs}}{F}, \frac{\text{bytes}}{BW}\right)$$
#
# **Predict.** An A100 with 80 GB does 312 TFLOP/s in 16 bits and moves 2,039 GB/s ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)).
# Add up the column of MB in section 1, divide once, and you have the time of the step.

# %%
a100 = device("a100-80gb")
F, BW = a100.peak(16), a100.bytes_per_s


def bound_s(parts):
    return sum(max(flops / F, n_bytes / BW) for flops, n_bytes in parts.values())


total_bytes = sum(n_bytes for _, n_bytes in parts.values())
ours = roofline.time_bound(cost.decode_step(llama, 1, 544), a100)
print(f"by hand         {total_bytes / 1e9:.2f} GB / {BW / 1e9:,.0f} GB/s", end="")
print(f" = {total_bytes / BW * 1e3:.2f} ms")
print(f"part by part    {bound_s(parts) * 1e3:.2f} ms")
print(f"teachkit        {ours.seconds * 1e3:.2f} ms, waits for {ours.side}")

# %% [markdown]
# With one sequence every part waits for memory, so the sum of the parts is one division. With more it is not. Had the parts overlapped freely, the step would take the larger of *all* arithmetic and *all* traffic:

# %%
print("sequences   sum of parts, ms   if all overlapped, ms   too short by")
for B in (1, 64, 256, 1024):
    batch = decode_parts(llama, B, 544)
    flops, n_bytes = (sum(column) for column in zip(*batch.values()))
    apart, together = bound_s(batch), max(flops / F, n_bytes / BW)
    short = abs(1 - together / apart)
    print(f"{B:9} {apart * 1e3:18.2f} {together * 1e3:23.2f} {short:14.0%}")

# %% [markdown]
# **Explain.** In a large batch the MLP waits for arithmetic while attention, whose keys and values grow with the batch, waits for memory. While one side works, the other idles.
#
# How far is a real step from its bound? The authors of [gpt-fast](https://pytorch.org/blog/accelerating-generative-ai-2/) measured 104.9 tokens/s for Llama-2-7B, the same shape, in 16 bits on such a GPU, one sequence.
# That is $1000/104.9 = 9.53$ ms a token, $9.53/6.62 = 1.44$ times the bound: the step moved the bytes that it needs at $6.62/9.53 = 0.69$ of the peak, its *MBU*. (The length of their texts may differ from ours; keys and values are $286/13506 = 0.02$ of
# the bytes.) Kernels do not reach the peak of the memory, and between two of them there are gaps. So neither our $13506/2039 = 6.62$ ms nor the [estimator's](https://github.com/cli99/llm-analysis/tree/main/examples/llama) 6.73 ms is a time that anybody has measured: **both are bounds**, and what can be compared is how they were counted.

# %% [markdown]
# ## 4. A published table, taken apart
#
# llm-analysis prints prefill and decode of four LLaMA models: a prompt of 512 tokens, one sequence, 32 tokens to generate, A100 80GB, the largest model on two of them. Below are the numbers of its
# [two tables](https://github.com/cli99/llm-analysis/tree/main/examples/llama), in ms: prefill and decode at full peaks, the same with *efficiencies* (shares of the peaks), and with fewer bits.
#
# Its folder of outputs says more: the [file for LLaMA-7B](https://github.com/cli99/llm-analysis/tree/main/examples/llama/outputs_infer_ideal) splits the 6.73 ms into parts. Where a part waits for memory, its time multiplied by the bandwidth
# tells how many bytes the tool had in mind.
#
# **Predict.** If the file gives the MLP 4.21397 ms, how many numbers of 2 bytes are that in each of 32 layers? Which matrices have so many, if $C = 4096$?

# %%
C, L, V, S = llama.d_model, llama.n_layers, llama.vocab_size, 544
FILE = {  # llm-analysis, decode step of LLaMA-7B: ms, our guess, how many numbers that is
    "mlp": (4.213974, "two matrices of C by 4C, and vectors", L * (8 * C**2 + 9 * C)),
    "attention": (2.107054, "four matrices, vectors, scores", L * (4 * C**2 + 5 * C + 64)),
    "kv cache": (0.279757, "all keys and values, twice", 2 * (2 * L * C * S)),
    "embedding": (0.128565, "the whole table", V * C),
    "head": (0.000840, "if read: as large as the table", V * C),
}
print("part        MB behind its time    MB of the guess   which is")
for name, (ms, guess, numbers) in FILE.items():
    print(f"{name:10} {ms * BW / 1e9:19,.1f} {2 * numbers / 1e6:18,.1f}   {guess}")

# %% [markdown]
# In one line for the MLP: $4.213974 \cdot 10^{-3} \cdot 2039 \cdot 10^9 / (2 \cdot 32) = 134.3 \cdot 10^6$ numbers a layer, and $8 \cdot 4096^2 = 134.2 \cdot 10^6$; the rest are vectors. The last row does not fit: the time of the head is $2VC/F$, its FLOPs, and no byte of weights. The others fit to the last digit. LLaMA's MLP has three matrices of $4096 \times 11008$ numbers instead, and a step of attention has to read the cache once and
# write one token.
#
# `teachkit.llm_analysis` is the tool's way of counting as a function. If it is right it gives the whole table, not only this row.

# %%
# model      full peaks    with efficiencies   w4a4        w4a8          w4a16        w8a8
PRINTED = """
llama-7b   22.41   6.73    31.89   7.48    5.9   1.78   11.4   1.85   22.41  1.99   11.4   3.43
llama-13b  43.1   12.94    61.38  14.38   11.2   3.36   21.83  3.47   43.1   3.69   21.83  6.55
llama-33b 107.74  32.36   153.6   35.95   27.69  8.25   54.38  8.46  107.74  8.89   54.38 16.28
llama-65b 113.33  33.85   159.47  37.47   55.2  16.41  108.83 16.76  216.08 17.47  108.83 32.56
"""
full = {"flops_efficiency": 1.0, "memory_efficiency": 1.0}
SCHEMES = [  # bits of weights and activations, efficiencies
    (16, 16, full),
    (16, 16, {"flops_efficiency": 0.7, "memory_efficiency": 0.9}),
    *((weights, acts, full) for weights, acts in ((4, 4), (4, 8), (4, 16), (8, 8))),
]


def milliseconds(counts, config, weights, acts, efficiency, tp=1, **more):
    """Prefill of 512 tokens and a step at 544, counted by `counts`: teachkit.cost or llm_analysis"""
    bits = {"weight_bits": weights, "act_bits": acts, "tp": tp, **more}
    steps = counts.prefill(config, 1, 512, **bits), counts.decode_step(config, 1, 544, **bits)
    limits = {"message_s": llm_analysis.MESSAGE_S, **efficiency}
    return [roofline.time_bound(step, a100, **limits).seconds * 1e3 for step in steps]


# %%
residuals = []
for row in PRINTED.strip().splitlines():
    name, *cells = row.split()
    for i, (weights, acts, efficiency) in enumerate(SCHEMES):
        tp = 2 if name == "llama-65b" and weights == 16 else 1
        got = milliseconds(llm_analysis, shape(name).config, weights, acts, efficiency, tp)
        printed = [float(cell) for cell in cells[2 * i : 2 * i + 2]]
        # The first pair stands twice on the page: in the table of latencies and in that of bits.
        residuals += [g / p - 1 for g, p in zip(got, printed)] * (2 if i == 0 else 1)
print("cells of the two tables ", len(residuals))
print(f"largest residual         {max(map(abs, residuals)):.2%}")

# %% [markdown]
# All cells follow from one set of assumptions. What remains is the rounding of the page: a printed 5.9 stands for anything from 5.895 to 5.905, which is 0.08 % either way, since $0.005/5.9 = 0.0008$.
#
# ### Theirs, ours, and why
#
# **Predict.** The differences have signs. Which parts does the tool make too long, and which too short?


# %%
def compare(B, S, bits=16):
    """What is counted -> ms of a LLaMA-7B decode step, (theirs, ours)"""
    theirs, ours = (
        roofline.time_bound(counts.decode_step(llama, B, S, weight_bits=bits), a100)
        for counts in (llm_analysis, cost)
    )
    names = {"MLP": ("mlp", "mlp"), "projections": ("attention", "attention projections")}
    names |= {"keys and values": ("kv cache", "attention scores")}
    names |= {part: (part, part) for part in ("embedding", "head", "norms")}
    return {k: (theirs[a].seconds * 1e3, ours[b].seconds * 1e3) for k, (a, b) in names.items()}


# %% tags=["hide-input"]
why = (
    "two matrices of 4C in place of three of the config's width",
    "the same matrices; theirs holds attention besides, over one token instead of 544",
    "the whole cache read and written, instead of read, with one token written",
    "the whole table instead of a row",
    "arithmetic only: its weights are not read",
    "activations moved once, in 32 bits; their weights and the last norm left out",
)
rows = compare(1, 544)
sums = [sum(column) for column in zip(*((t, o, t - o, abs(t - o)) for t, o in rows.values()))]
body = "\n".join(
    f"| {part} | {t:.3f} | {o:.3f} | {t - o:+.4f} | {reason} |"
    for (part, (t, o)), reason in zip(rows.items(), why)
)
mlp_off = rows["MLP"][0] / rows["MLP"][1] - 1
table_and_head = sum(rows[part][0] - rows[part][1] for part in ("embedding", "head"))
Markdown(f"""
| LLaMA-7B, one step, ms | theirs | ours | difference | why |
| --- | ---: | ---: | ---: | --- |
{body}
| **all** | **{sums[0]:.3f}** | **{sums[1]:.3f}** | **{sums[2]:+.3f}** | |

**The answer to the puzzle.** The single differences, all taken as positive, add up to {sums[3]:.2f} ms, {sums[3] / sums[1]:.1%} of the step. With their signs they leave {sums[2]:.2f} ms, **{sums[2] / sums[1]:.1%}**. The table that is read and the head that is
not have the same size: together they are off by {table_and_head:+.4f} ms. The wrong MLP is off by {mlp_off:+.1%}, and that is no luck:
$8C^2$ numbers stand for $3 \\cdot 11008 \\cdot C = {3 * 11008 / 4096:.2f} C^2$, because LLaMA took two thirds of $4C$ for the width of a gated MLP, which keeps the size of a plain one ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971), section 2.2). What stays is the second copy of the cache, which is small here: one sequence, a short text.
""")

# %% [markdown]
# An error that cancels, or is small, does so *in a setting*. Change the setting and see what becomes of it.
#
# **Predict.** Which makes the estimate worse: 32 sequences of 2,048 tokens, or weights of 4 bits? Is either off by more than a tenth?

# %%
print("bits   sequences   tokens    theirs, ms   ours, ms     off   without the second cache")
for bits, B, S in ((16, 1, 544), (16, 1, 2048), (16, 32, 2048), (4, 1, 544), (4, 32, 2048)):
    rows = compare(B, S, bits)
    theirs, ours = (sum(column) for column in zip(*rows.values()))
    once = theirs - rows["keys and values"][0] / 2
    print(f"{bits:4} {B:11} {S:8,} {theirs:13.2f} {ours:10.2f}", end="")
    print(f" {theirs / ours - 1:7.1%} {once / ours - 1:14.1%}")

# %% [markdown]
# **Explain.** Both are. In a batch of long texts the cache is most of the traffic, and the tool has it twice; the last column is the control, the same estimate with the cache read once. With 4-bit weights the tool keeps its embedding at 16 bits and reads all of it, while the head that a step needs shrinks with the rest: the two no longer
# cancel, and the cache, whose bits have not changed, weighs four times as much beside the weights. The published example is the mildest of these cases. **A total that fits says little about its parts**; look at the parts, or move the setting.
#
# ### The efficiency that is not what it says
#
# The page says that its second pair of columns takes 0.5 of the peak FLOP/s and 0.9 of the bandwidth. The heading of the table says 0.7. One of the two made the numbers.


# %%
def prefill_ms(name, efficiency):
    """With 0.9 of the bandwidth, as both say"""
    limits = {"flops_efficiency": efficiency, "memory_efficiency": 0.9}
    tp = 2 if name == "llama-65b" else 1
    return milliseconds(llm_analysis, shape(name).config, 16, 16, limits, tp)[0]


def solve(name, printed):
    """The efficiency that gives the printed time, by halving the interval"""
    low, high = 0.1, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if prefill_ms(name, middle) > printed else (low, middle)
    return high


print("model        printed, ms   with 0.5   with 0.7   efficiency that gives the printed time")
for row in PRINTED.strip().splitlines():
    name, printed = row.split()[0], float(row.split()[3])
    tried = "".join(f"{prefill_ms(name, efficiency):11.2f}" for efficiency in (0.5, 0.7))
    print(f"{name:12} {printed:11.2f}{tried} {solve(name, printed):20.3f}")

# %% [markdown]
# The heading is right, the text is not. Nobody who only reads the text could repeat the column; anybody who can compute it can see which is meant.

# %% [markdown]
# ## 5. Training: what a GPU-hour buys
#
# A forward pass takes 2 FLOPs per parameter and token. The backward pass computes two gradients per matrix, one for its weights and one for its input, each as dear as the forward product. Together
# 6 per parameter and token: $6ND_t$ for $N$ parameters and $D_t$ tokens of training ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361), section 2.1).
#
# **Predict.** LLaMA-65B was trained on 1.4 trillion tokens; its authors report 1,022,362 hours of A100s ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971), tables 2 and 15). What share of 312 TFLOP/s did they reach: 20 %, 50 % or 80 %?
# It is one division: $6ND_t$ by the hours, 3,600 and the peak.

# %%
LLAMA = {  # tokens, GPU-hours reported by the paper, GPU-hours printed by llm-analysis
    "llama-7b": (1.0e12, 82_432, 77_832),
    "llama-13b": (1.0e12, 135_168, 148_047),
    "llama-33b": (1.4e12, 530_432, 510_213),
    "llama-65b": (1.4e12, 1_022_362, 1_015_701),
}
half = 0.5 * a100.peak(16) * 3600  # FLOPs of an hour at the tool's assumption
print("GPU-hours      paper   llm-analysis   its profile   6ND_t at half of the peak")
n_parameters = {name: sum(cost.parameters(shape(name).config).values()) for name in LLAMA}
for name, (n_tokens, paper, printed) in LLAMA.items():
    profile = llm_analysis.training_flops(shape(name).config, n_tokens) / half
    by_hand = 6 * n_parameters[name] * n_tokens / half
    print(f"{name:10} {paper:9,} {printed:14,} {profile:13,.0f} {by_hand:18,.0f}")

print("\nimplied by the paper's hours   share of peak   tokens/s per GPU")
for name, (n_tokens, paper, _) in LLAMA.items():
    share = 6 * n_parameters[name] * n_tokens / (paper * 3600 * a100.peak(16))
    print(f"{name:28} {share:15.1%} {n_tokens / (paper * 3600):18,.0f}")

# %% [markdown]
# **Explain.** The profile gives the four printed figures, so its recipe is known: three forward passes with two matrices of $4C$ in the MLP; a fourth of the attention scores, which its setting computes again on the way back instead of keeping them; all pairs, those too that the mask hides; and 0.5 of the peak. Whole iterations only: the batch of
# 4M tokens that the paper states was passed as 4M *sequences*, so an "iteration" has 8.2 billion tokens and the remainder is dropped ([run script and outputs](https://github.com/cli99/llm-analysis/tree/main/examples/llama)).
#
# The tool's page concludes that the agreement suggests a good estimate. Look at the column of shares: what the tool assumes to be 0.5 is implied to be another number for each model, on either side of 0.5 (hours from [table 15](https://arxiv.org/abs/2302.13971)). With a free number set
# near the middle of them, an error of a few percent either way had to come out. It is a good *rule of thumb* for runs like these. It is not evidence for the details of the formula. The last column settles another figure: 380 tokens/s/GPU, which
# the page gives for "the code", is LLaMA-65B's alone ([section 2.4 of the paper](https://arxiv.org/abs/2302.13971)).
#
# ### Time and memory of one training step
#
# **Predict.** How many bytes does training hold for each parameter, before any activation: 2, 4 or 16?

# %%
big = shape("llama-65b").config
step = cost.train_step(big, batch=8, tokens=2048, tp=8)
bound = roofline.time_bound(step, a100)
ratio = step.flops * 8 / (6 * n_parameters["llama-65b"] * step.tokens)
print(f"FLOPs of all 8 devices over 6ND_t: {ratio:.2f}")
print(f"{step.tokens:,} tokens take {bound.seconds:.2f} s at least. Of it")
for part in sorted(bound.parts, key=lambda part: -part.seconds)[:6]:
    print(f"  {part.name:22} {part.seconds / bound.seconds:6.1%}  waits for {part.side}")

bytes_of = {"weights": 2, "gradients": 2, "weights, 32 bits": 4, "mean": 4, "variance": 4}
for name in ("llama-65b", "gpt-3"):
    N = sum(cost.parameters(shape(name).config).values())
    held = N * sum(bytes_of.values())
    print(
        f"{name:10} {held / 1e9:6,.0f} GB, as much as {held / a100.memory_bytes:.1f} A100s hold"
    )

# %% [markdown]
# **Explain.** Training reads many tokens at once, so its matrices wait for arithmetic; what communicates or only moves memory stands in its way. $6ND_t$ leaves out attention's scores and counts an embedding that multiplies nothing; here the first is more, and the longer the texts the more so.
# For each parameter the usual mixture of formats holds 16 bytes: weight and gradient in 16 bits, and for the Adam optimizer a weight, a mean and a variance in 32 bits each
# ([Rajbhandari et al. 2019](https://arxiv.org/abs/1910.02054), section 3.1). Activations come on top. A model is trained on many devices not only because it is faster.

# %% [markdown]
# ## 6. Held against this machine
#
# Counts are exact, peaks are printed, and a prediction made of both can still be wrong. The benchmark `benchmarks/predict.py` measures bandwidth, FLOP/s and the price of an operation of a machine by programs that hold no model (`bench.this_machine`, previous lesson),
# predicts a step from them, and only then runs it:
#
# $$t = \sum_{\text{parts}} \max\left(\frac{\text{FLOPs}}{F}, \frac{\text{bytes}}{BW}\right) + \text{operations} \cdot \text{price of one}$$
#
# Its records are committed with the course; the cell reads them. Nothing was fitted.

# %%
RECORDS = "benchmarks/results/predict.jsonl"
folders = (Path.cwd(), *Path.cwd().parents)
found = next((f / RECORDS for f in folders if (f / RECORDS).is_file()), None)
records = tk.measure.read(found) if found else []


def table(name, records):
    """Settings -> (predicted, measured): the latest of each, of the records of one name"""
    keys = ("shape", "phase", "step", "batch", "tokens", "rows", "k", "n")
    latest = {}
    for record in records:
        if record.name in (f"{name}.predicted", f"{name}.measured"):
            about = tuple((key, record.config[key]) for key in keys if key in record.config)
            pair = latest.setdefault((record.dtype, about), {})
            pair[record.name.rsplit(".", 1)[1]] = record
    return {k: (v["predicted"], v["measured"]) for k, v in latest.items() if len(v) == 2}


steps, products = (table(f"predict.{kind}", records) for kind in ("step", "product"))


# %% tags=["nbval-ignore-output", "hide-input"]
def step_row(p, m):
    about, ratio = p.config, m.value / p.value
    what = f"{about['phase']}, {about['batch']} × {about['tokens']}"
    times = f"{p.value * 1e3:,.1f} | {m.value * 1e3:,.1f} | {ratio:.2f}"
    size = f"{about['weights_bytes'] / 1e6:,.0f}"
    return f"| {about['shape']}, {p.dtype} | {size} | {what} | {times} | {about['side']} |"


def words():
    """What the residuals come from, as far as the records show it"""
    large = [m.value / p.value for p, m in steps.values() if p.config["weights_bytes"] > 500e6]
    small = [m.value / p.value for p, m in steps.values() if p.config["side"] == "overhead"]
    within = sum(abs(ratio - 1) <= 0.25 for ratio in large)
    said = f"Of {len(large)} steps of models over 500 MB, {within} came within a quarter of the prediction. "
    if products:
        p, m = max(products.values(), key=lambda pair: pair[1].value - pair[0].value)
        matrix = "({rows}, {k}) by ({k}, {n}) of {shape}".format(**p.config)
        said += f"""Where one did not, the benchmark times its matrix products alone, over the same weights. Most time is lost by {matrix} in {p.dtype}:
{m.value / p.value:.1f} times its own bound. No model is in that measurement, so it is the kernel that misses, not the count. """
    if small:
        said += f"""Where operations cost more than the bound, measured is {min(small):.1f} to {max(small):.1f} times the prediction: their price was taken
from a loop of additions, without the Python that stands around an operation in a model."""
    return said


if steps:
    one = next(iter(steps.values()))[1]
    rows = "\n".join(step_row(p, m) for p, m in steps.values())
    text = f"""
| model | weights, MB | step | predicted, ms | measured, ms | ratio | waits for |
| --- | ---: | --- | ---: | ---: | ---: | --- |
{rows}

{words()}

*measured: {one.device}, {one.threads} threads, PyTorch {one.versions.get("torch", "")}, {one.date}; committed records, not this run*
"""
else:
    text = f"No records of `{RECORDS}` are at hand here; the cell below measures a small step. *measured: nothing, {tk.measure.provenance()['date']}*"
Markdown(text)

# %% [markdown]
# ### A small step, now
#
# The bundled model in fp32 has about as many bytes as the last-level cache of many processors. Read again and again they need not come from memory.
#
# **Predict.** Will the bound that is computed with the bandwidth of *memory* be above or below the time measured?


# %% tags=["nbval-ignore-output"]
def stepper(model, S=256):
    """A call that decodes one token behind S - 1 others, zeros: as long to read as a text"""
    cache = tk.cache.ContiguousCache(model.config, 1, S)
    cache.plan([S - 1])

    def step():
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)
        cache.truncate(0, S - 1)

    return step


# The control: as many operations and next to no bytes. What it takes is not bandwidth.
sizes = {"vocab_size": 64, "d_model": 32, "n_layers": 6, "n_heads": 4, "d_ff": 88}
calls = {"ours": stepper(model), "control": stepper(tk.Decoder(tk.ModelConfig(**sizes)))}
measured = {k: t.median_s for k, t in tk.measure.time_calls(calls, repeats=30).items()}
operations = bench.count_operations(calls["ours"])

machine = bench.this_machine(formats=("fp32",), size=1024, read_bytes=256 * 2**20, repeats=5)
weights_bytes = sum(p.nbytes for p in model.parameters())
again = bench.read_bandwidth(weights_bytes, repeats=20)  # the same bytes over and over
counts, limits = cost.decode_step(model.config, 1, 256, **fp32), machine.device()
from_memory = roofline.time_bound(counts, limits).seconds
from_cache = roofline.time_bound(counts, replace(limits, bytes_per_s=again.value)).seconds

# %% tags=["nbval-ignore-output", "hide-input"]
overhead = operations * machine.overhead_s
bound_now = min(from_memory, from_cache)
predicted, with_control = bound_now + overhead, bound_now + measured["control"]
faster = again.value / machine.bytes_per_s
cached = (
    "so they come from the processor's own cache, and memory's bandwidth has little to say about this model"
    if faster > 1.3
    else "so this processor's cache does not help here"
)
rest = measured["ours"] / with_control
verdict = (
    "so what the prediction lacked was the true price of an operation inside a model, not bytes"
    if abs(rest - 1) < 0.3
    else "so the price of operations is only a part of what the prediction lacked"
)
Markdown(f"""
| one step of the bundled model, {weights_bytes / 1e6:.0f} MB in fp32 | ms |
| --- | ---: |
| bound, at {machine.bytes_per_s / 1e9:.0f} GB/s from memory | {from_memory * 1e3:.2f} |
| bound, at {again.value / 1e9:.0f} GB/s, the same bytes read again and again | {from_cache * 1e3:.2f} |
| {operations} operations at {machine.overhead_s * 1e6:.1f} µs | {overhead * 1e3:.2f} |
| predicted: the smaller bound and the operations | {predicted * 1e3:.2f} |
| **measured** | **{measured["ours"] * 1e3:.2f}** |
| control, measured: as many operations on next to no bytes | {measured["control"] * 1e3:.2f} |

**Explain.** Read again and again, as many bytes as the weights come {faster:.1f} times as fast as a block beyond the cache, {cached}. Measured is {measured["ours"] / predicted:.1f} times the prediction. The control has the operations without the bytes. With its time in place of the price list, bound and operations
add up to {with_control * 1e3:.2f} ms; measured is {rest:.1f} times that, {verdict}. A small model is a poor test of a count of bytes, and a good one of everything else.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 7. What the predictor is for
#
# ### How many fit
#
# A device holds weights, keys and values, and the widest vectors on their way.
#
# **Predict.** Llama 2 7B and Llama 3 8B at 4,096 tokens: the second has more parameters and a quarter of the key/value heads. Whose batch is larger on an A10 with 24 GB? On an A100
# with 80 GB?

# %%
print("sequences of 4,096 tokens, 16 bits     GB: 1e9 bytes     GiB: 2**30 bytes")
for name in ("llama-2-7b", "llama-3-8b"):
    for part in ("a10", "a100-40gb", "a100-80gb"):
        gb, config = device(part).memory_gb, shape(name).config
        fits = [memory.largest_batch(config, 4096, gb * unit) for unit in (10**9, 2**30)]
        print(f"{name:12} {part:10} {gb:4} {fits[0]:23} {fits[1]:20}")

# %% [markdown]
# ### What a second device buys
#
# *Tensor parallelism* gives each of $n$ devices a part of every matrix and of the heads. Twice a layer they must add up their partial results, an *all-reduce*; each sends $2(n-1)/n$ of a vector per token, and however few bytes that is, the exchange takes some microseconds. We assume 8 µs, as llm-analysis does
# ([its A100](https://github.com/cli99/llm-analysis/blob/main/llm_analysis/gpu_configs/a100-sxm-80gb.json)).
#
# **Predict.** LLaMA-65B is too large for one A100. On two it takes half as long as it would have on one. On sixteen: a sixteenth?


# %%
def predict(config, device, **setting):
    """(cost, time bound, memory) of a decode step"""
    step = cost.decode_step(config, **setting)
    bound = roofline.time_bound(step, device, message_s=llm_analysis.MESSAGE_S)
    return step, bound, memory.memory(config, **setting)


print("devices   GB on each   fits   step, ms   times faster   waits for the link")
alone = predict(big, a100, batch=1, context=544)[1].seconds
for n in (1, 2, 4, 8, 16):
    _, bound, held = predict(big, a100, batch=1, context=544, tp=n)
    link = sum(part.seconds for part in bound.parts if part.side == "link") / bound.seconds
    fits = "yes" if held.total_bytes <= a100.memory_bytes else "no"
    print(f"{n:7} {held.total_bytes / 1e9:12.1f} {fits:>6} {bound.seconds * 1e3:10.2f}", end="")
    print(f" {alone / bound.seconds:14.1f} {link:20.0%}")

# %% [markdown]
# **Explain.** The bytes of a step are divided, the number of exchanges is not: $2 \cdot 80 + 1 = 161$, two for each layer and one after the embedding. At one token per sequence they carry a few kilobytes and cost their least time, so what they take stays the same
# while the rest shrinks. The advice to stay within one machine of 8 or so has this reason and another: between machines the link is slower ([Narayanan et al. 2021](https://arxiv.org/abs/2104.04473), takeaway 1).
#
# ### Turn the knobs
#
# Each part of a step, stacked; hatched parts wait for arithmetic, dotted ones for the link. Set LLaMA-7B, 544 tokens, one sequence, and keep that bar. Then find: the batch at which attention scores take half of the step; which bits, those of weights or of keys and values, matter more to one sequence, and which to that batch at 2,048 tokens; a model whose step
# gets no slower beyond some length. Where a kernel runs, the controls above the figure make a model of your own.
#
# <details>
# <summary>What we found</summary>
#
# At 47 sequences. For one sequence the weights' bits; for 47 of 2,048 tokens those of keys and values. Mistral 7B beyond 4,096 tokens, the width of its window: a layer keeps no more.
#
# </details>

# %% tags=["nbval-ignore-output"]
MODELS = {
    "LLaMA-7B": llama,
    "LLaMA-65B": big,
    "Llama-3-8B": shape("llama-3-8b").config,
    "Llama-3-70B": shape("llama-3-70b").config,
    "Mistral-7B": shape("mistral-7b").config,
    "GPT-3": replace(shape("gpt-3").config, vocab_size=50304),  # padded: 50,257 is odd
}
SHEETS = {"A100-80GB": "a100-80gb", "H100": "h100", "H200": "h200", "A10": "a10", "T4": "t4"}
DEVICES = {label: device(name) for label, name in SHEETS.items()}
shared = {"message_s": llm_analysis.MESSAGE_S}


def your_model(layers, heads, kv_heads, weight_bits):
    """The step of a Llama of your own: heads of 128 numbers, MLP of 8/3 of the width"""
    width = 128 * heads
    sizes = {"vocab_size": 32000, "d_model": width, "n_layers": layers, "d_ff": width * 8 // 3}
    try:
        yours = tk.ModelConfig(**sizes, n_heads=heads, n_kv_heads=kv_heads, context=32768)
    except ValueError as error:
        return Markdown(f"No such model: {error}")
    start = {"weight_bits": weight_bits, "context": 4096, **shared}
    return figures.step_breakdown({"Your model": yours}, DEVICES, predict, **start)


published = figures.step_breakdown(MODELS, DEVICES, predict, context=544, **shared)
knobs = {"layers": (8, 128, 8), "heads": [32, 48, 64, 96], "kv_heads": [8, 1, 16, 32]}
figures.live(your_model, published, with_twin=True, weight_bits=[16, 8, 4], **knobs)

# %% [markdown]
# ### A model on sixteen GPUs
#
# A published plan gives each copy of GPT-3 two machines of 8 A100s with 40 GB each ([Li and Li 2023](https://bu9gy.github.io/), UCLA; no arithmetic is given). **Predict.** Is that needed, or generous?

# %%
gpt3, small = shape("gpt-3").config, device("a100-40gb")
weights = sum(cost.parameters(gpt3).values()) * 2
print("devices   96 heads divide   tokens of keys and values beside the weights: GB       GiB")
for n in (8, 9, 12, 16):
    left = [n * small.memory_gb * unit - weights for unit in (10**9, 2**30)]
    room = [f"{max(0, byte // gpt3.kv_bytes_per_token(2)):,}" for byte in left]
    divides = "yes" if gpt3.n_heads % n == 0 else "no"
    print(f"{n:7} {divides:>17} {room[0]:>50} {room[1]:>9}")

# %% [markdown]
# **Explain.** One machine does not even hold the weights, whichever way a GB is counted; if it is a GiB, for want of little. Nine devices would hold the weights, but 96 heads do not divide by nine, and machines come in eights. Two machines it is, and nearly half of their memory is free for
# keys and values: $61626 / 2048 = 30$ sequences of the model's full context, or 34 if a GB is a GiB.

# %% [markdown]
# ## What real systems do
#
# - **They count as you did, to choose a layout.** [Pope et al. 2022](https://arxiv.org/abs/2211.05102) derive how to split a model over many chips from an analytical model of bytes, FLOPs and messages, and check it by measurement.
#   [LLM-Viewer](https://arxiv.org/abs/2402.16363) is a roofline of every layer.
# - **They measure the kernels, and predict the rest.** [Vidur](https://arxiv.org/abs/2405.05465) profiles the operators of a model on a device, interpolates between the profiles, and simulates a whole server; its authors report latency within 9 %. This is what section 6 lacks: measured efficiency, kernel by kernel.
# - **They report utilisation against the count.** MFU, from [PaLM](https://arxiv.org/abs/2204.02311), appendix B, divides the FLOPs that a model needs, not those that a program did, by the peak; MBU does so with bytes ([Databricks 2023](https://www.databricks.com/blog/llm-inference-performance-engineering-best-practices)).

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
N = sum(cost.parameters(gpt3).values())
implied = [
    6 * n_parameters[name] * n_tokens / (hours * 3600 * a100.peak(16))
    for name, (n_tokens, hours, _) in LLAMA.items()
]
h100 = device("h100")
years_s = 355 * 8760 * 3600
v100 = device("v100-16gb")
reached = 6 * N * 300e9 / years_s
page = "[llm-analysis](https://github.com/cli99/llm-analysis/tree/main/examples/llama)"
eecs = "*LLM-Systems Basics*, EECS 598, University of Michigan, January 2024"
ucla = "[Li and Li 2023](https://bu9gy.github.io/), UCLA"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| LLaMA-65B needs two A100s with 80 GB in 16 bits | {page} | Right: {2 * n_parameters["llama-65b"] / 1e9:.1f} GB of weights, {a100.memory_bytes / 1e9:.1f} GB of memory. |
| Prefill and decode with 0.5 of the peak FLOP/s | {page}, text | Wrong: the numbers are those of 0.7 (section 4). |
| GPU-hours within 10 % of the reported ones suggest a good estimate of training time | {page} | Weak: 0.5 was assumed, the paper's hours imply {min(implied):.2f} to {max(implied):.2f}; messages between devices do not enter. |
| GPU-hours halve at full efficiency, since training is compute-bound | {page} | True of the formula, which has the efficiency in its denominator. It shows nothing about training. |
| On H100s GPU-hours fall by 68 % | {page} | Right: 1 − {a100.peak(16) / 1e12:.0f}/{h100.peak(16) / 1e12:.0f} = {1 - a100.peak(16) / h100.peak(16):.1%}. |
| On H100s communication takes a larger share *because* memory bandwidth grew by less | {page} | Wrong cause: the messages go over the link, {h100.link_bytes_per_s / a100.link_bytes_per_s:.2f} times as fast; arithmetic is {h100.peak(16) / a100.peak(16):.2f} times. |
| GPT-3 takes 350 GB each for gradients, activations and per optimizer state | {eecs} | Gradients in 16 bits: {2 * N / 1e9:.0f} GB. A state of Adam is kept in 32 bits: {4 * N / 1e9:.0f} GB. Activations depend on batch and length, not on the number of parameters. |
| GPT-3 took 355 GPU-years of V100s for 300 billion tokens, more than 4.6 million dollars | {eecs} | Consistent: $6ND_t$ in that time is {reached / 1e12:.0f} TFLOP/s, {reached / v100.peak(16):.0%} of the peak; the sum means {4.6e6 / (355 * 8760):.2f} dollars an hour. |
| A copy of GPT-3 needs two machines of 8 A100s with 40 GB | {ucla} | Right: {2 * N / 1e9:.0f} GB of weights; 8 × 40 GB are 320 GB, or {8 * small.memory_bytes / 1e9:.0f} if they are GiB. |
""")

# %% [markdown]
# ## Exercises
#
# **1. Where the tool would be right.** Find a model for which a plain MLP of $8C^2$ numbers is *exactly* what is there, and the width $F_{\!f\!f}$ at which a gated one has as many.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for name in ("gpt-2", "gpt-3", "llama-7b", "llama-3-8b"):
#     config = shape(name).config
#     matrices = (3 if config.gated_mlp else 2) * config.d_model * config.d_ff
#     print(name, matrices / (8 * config.d_model**2))
# ```
#
# GPT-2 and GPT-3: two matrices of $4C$. A gated MLP has as many at $8C/3$; LLaMA rounds that up to a multiple of 256 in the smallest model. Llama 3 8B is wider, and there the tool's count is short by almost a quarter.
#
# </details>
#
# **2. The price of a context.** For Llama 3 70B on eight H100s, at which context does one sequence's step take a tenth longer than at 1 token? And in a batch of 64?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# large, h100 = shape("llama-3-70b").config, device("h100")
#
# def seconds(B, S):
#     return predict(large, h100, batch=B, context=S, tp=8)[1].seconds
#
# for B in (1, 64):
#     longer = (S for S in range(1, 8193) if seconds(B, S) > 1.1 * seconds(B, 1))
#     print(B, next(longer, "not within the model's context"))
# ```
#
# With one sequence not within the context: the weights are too many. With 64 sequences well before a thousand tokens.
#
# </details>
#
# **3. Prefill, part by part.** Repeat section 4's table for the prefill: `llm_analysis.prefill(llama, 1, 512)` against `cost.prefill(llama, 1, 512)`. Which of the tool's errors matter now, and which have become invisible? Why?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for counts in (llm_analysis, cost):
#     bound = roofline.time_bound(counts.prefill(llama, 1, 512), a100)
#     print(f"{bound.seconds * 1e3:.2f} ms,", bound.side)
#     for part in bound.parts:
#         print(f"   {part.name:22} {part.seconds * 1e3:8.3f} ms  {part.side}")
# ```
#
# Now arithmetic binds, and bytes that are counted wrongly hide below it. What shows is FLOPs: all pairs instead of those that the mask lets through, and the head's, computed for every token of the prompt although only the last one's logits are needed.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# **A.** An estimate of a step agrees with a measurement to the second digit. Name two things that you would do before you trust it for another batch size.
#
# <details>
# <summary>Answer</summary>
#
# Compare the parts, not the total: errors of opposite sign may cancel (section 4). And predict a second setting in which other parts weigh more, before measuring it.
#
# </details>
#
# **B.** With one sequence, which is the better buy for LLaMA-7B's decode step: a device with twice the FLOP/s, or one with a tenth more bandwidth? And for a prefill of 2,000 tokens?
#
# <details>
# <summary>Answer</summary>
#
# Bandwidth for the step: all its parts wait for memory, so more FLOP/s change nothing. FLOP/s for the prefill, whose matrices have thousands of FLOPs for each of their bytes.
#
# </details>
#
# **C.** A report says that a model with $N$ parameters was trained on $D_t$ tokens in $h$ GPU-hours. What do you compute first, and what would make you doubt the report?
#
# <details>
# <summary>Answer</summary>
#
# The share of the peak: $6ND_t / (3600 \cdot h \cdot \text{peak})$. Above 1 is impossible. Well above one half would be remarkable for a large run; a few percent would mean that something other than arithmetic took the time, or that one of the three numbers is not what it says.
#
# </details>
#
# ## Not covered here
#
# Waiting in a queue, batches that change from step to step, and what a token costs in money: next chapter. Models of communication across machines, pipeline parallelism, and activations of training. Mixture-of-experts models, of which a step reads only some weights.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
