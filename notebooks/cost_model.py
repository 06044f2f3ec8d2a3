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
#       - Write a predictor of a decode step in about 20 lines, and check its FLOPs and sizes against a model that runs
#       - Turn counts into a lower bound in time, and say what such a bound leaves out
#       - Take a published table apart until its assumptions are known
#       - Say when errors in an estimate cancel, and find a setting in which they do not
#       - Estimate GPU-hours, time and memory of training, and the efficiency that a reported figure implies
#       - Decide how many devices a model needs, and what sharing it between them buys
#     minutes: 55
#     lab: null
# ---

# %% [markdown]
# # The cost model: a step predicted, a table taken apart
#
# A published estimator says that LLaMA-7B writes a token in 6.73 ms on an A100 with 80 GB ([llm-analysis](https://github.com/cli99/llm-analysis/blob/1c80683be2920414fe582ad6579857bcf22c2f12/examples/llama/README.md)).
# It gives the model two MLP matrices where there are three, reads the whole cache and writes it back, reads all of the embedding where a row would do, and never reads the weights of the head. **How far off is its answer?**
#
# **Predict.** With every byte counted correctly, is 6.73 ms off by 2 %, 20 %, or a factor of 2?
#
# **Afterwards you can**
#
# - write a predictor of a decode step in about 20 lines, and check its FLOPs and sizes against a model that runs;
# - turn counts into a lower bound in time, and say what such a bound leaves out;
# - take a published table apart until its assumptions are known;
# - say when errors in an estimate cancel, and find a setting in which they do not;
# - estimate GPU-hours, time and memory of training, and the efficiency that a reported figure implies;
# - decide how many devices a model needs, and what sharing it between them buys.
#
# **You need** the lessons on the model (its matrices; two FLOPs for each parameter and token), on the KV cache, and on the roofline: a
# piece of work takes at least $\max(\text{FLOPs}/F, \text{bytes}/BW)$ on a device that does $F$ FLOPs and moves $BW$ bytes a second.
# No GPU, no network once `teachkit` is installed. Allow an hour, and as much for the exercises. Letters: $B$ sequences, $S$ tokens attended to,
# $L$ layers, $C$ the width, $H$ heads of $D$ numbers, $V$ the vocabulary; `d_ff` is the width inside the MLP.

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
from collections import Counter
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
# In a decode step each matrix is read once and multiplied with $B$ rows; each sequence reads its own keys and values; between the parts go vectors.
#
# **Predict.** LLaMA-7B, one sequence of 544 tokens (a prompt of 512 and 32 written, as in the published table). Which part moves the most bytes: the MLP, attention's projections ($W_q, W_k, W_v, W_o$), the keys and values, or the head?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# The MLP: in each layer three matrices of $4096 \times 11008$ numbers. The projections are four of $4096 \times 4096$, half as much; keys and values, $2 \cdot 544 \cdot 4096$ numbers, a fifteenth of
# that. The head stands there once, not in every layer.
#
# </details>


# %%
def decode_parts(config, B, S, width=2):
    """(FLOPs, bytes) of each part of a decode step; `width` bytes per number"""
    L, C, V = config.n_layers, config.d_model, config.vocab_size
    D, n_norms = config.head_dim, 2 * L + 1
    q, kv = config.n_heads * D, config.n_kv_heads * D

    def matrices(numbers, in_and_out):
        return 2 * B * numbers, width * (numbers + B * in_and_out)

    return {
        "embedding": (0, width * 2 * B * C),  # a row is read and handed on
        "norms": (0, width * n_norms * (C + 2 * B * C)),
        "attention projections": matrices(
            2 * L * C * (q + kv),
            2 * L * (C + q + kv),
        ),
        "attention scores": (
            4 * L * B * S * q,
            # read: S keys and values, q; written: a key, a value, the mixture
            width * L * B * 2 * (S * kv + kv + q),
        ),
        "mlp": matrices(3 * L * C * config.d_ff, 2 * L * (C + config.d_ff)),
        "head": matrices(V * C, C + V),
    }


llama = shape("llama-7b").config
llama_parts = decode_parts(llama, B=1, S=544)
print("part                     MFLOP       MB   FLOPs per byte")
for part, (flops, moved) in llama_parts.items():
    print(f"{part:22} {flops / 1e6:7,.0f} {moved / 1e6:8,.1f}", end="")
    print(f" {flops / moved:16.2f}")

# %% [markdown]
# Two parts are easily confused. The *embedding* is a table, of which a step reads one row for each token. The *head* has as many numbers, and a step reads all of them: every token of the vocabulary gets a logit.
#
# `teachkit.cost` counts for more families, number formats and several devices. The twenty lines agree with it to the byte:

# %%
SETTINGS = ("llama-7b", 1, 544), ("llama-65b", 7, 2048), ("llama-3-8b", 33, 4001)
print("model          batch  tokens   parts   differing")
for name, B, S in SETTINGS:
    by_hand = decode_parts(shape(name).config, B, S)
    counted = cost.decode_step(shape(name).config, B, S)
    packaged = {c.name: (c.flops, c.bytes) for c in counted.components}
    names = by_hand | packaged
    differing = [p for p in names if by_hand.get(p) != packaged.get(p)]
    print(f"{name:14} {B:5} {S:7} {len(names):7}   {differing or 'none'}")

# %% [markdown]
# ## 2. Held against a model that runs
#
# Two programs that agree may share a mistake. So ask PyTorch: `FlopCounterMode` counts the FLOPs of each matrix product called; a cache knows its bytes, a model its parameters.
#
# **Predict.** For a prompt of 300 tokens, does the counter find the FLOPs that `cost.prefill` gives, fewer, or more?

# %%
model, PROMPT = tk.load("bundled"), 300
small, fp32 = model.config, {"weight_bits": 32, "act_bits": 32, "kv_bits": 32}
seed = torch.Generator().manual_seed(0)
tokens = torch.randint(small.vocab_size, (1, PROMPT), generator=seed)
cache = tk.cache.ContiguousCache(small, 1, PROMPT)


def really(tokens):
    """FLOPs of the matrix products that PyTorch is asked for"""
    with FlopCounterMode(display=False) as counter:
        model(tokens, cache=cache, last_only=True)
    return counter.get_total_flops()


reading = really(tokens)
cache.truncate(0, PROMPT - 1)
writing = really(tokens[:, -1:])
n_real = sum(p.numel() for p in model.parameters())

prompt = cost.prefill(small, 1, PROMPT, **fp32)
one_token = cost.decode_step(small, 1, PROMPT, **fp32)
pairs = small.n_layers * PROMPT * (PROMPT - 1) // 2
hidden = 4 * small.n_heads * small.head_dim * pairs
checks = {
    "parameters": (n_real, sum(cost.parameters(small).values())),
    "bytes of the cache": (cache.nbytes, one_token.total("kv_read_bytes")),
    "FLOPs of a step": (writing, one_token.flops),
    "FLOPs of the prompt": (reading, prompt.flops),
    "  with hidden pairs": (reading, prompt.flops + hidden),
}
print("                               real   counted on paper")
for name, (real, on_paper) in checks.items():
    print(f"{name:21} {real:13,} {on_paper:18,.0f}")

# %% [markdown]
# **Explain.** More. Of $S^2$ pairs of tokens a causal mask lets $S(S+1)/2$ through. This model computes all and gives the hidden ones the weight 0: $S(S-1)/2$
# pairs too many, at $4HD$ FLOPs a layer each, exactly the difference. `cost` counts what no program can do without, so times computed from its counts are lower bounds.
#
# No counter here sees bytes *move*. That a step fetches each weight and key exactly once is an assumption; a kernel may fetch more.

# %% [markdown]
# ## 3. From counts to time
#
# Parts run one after another: the MLP cannot start before attention hands it its input. So their bounds add up.
#
# $$t \;\ge\; \sum_{\text{parts}} \max\left(\frac{\text{FLOPs}}{F}, \frac{\text{bytes}}{BW}\right)$$
#
# Left out are the arithmetic of softmax, norms and rotation; the additions to the residual stream, taken as part of what runs before them; gaps between kernels; and that no memory reaches its printed peak.
#
# **Predict.** An A100 SXM with 80 GB does 312 TFLOP/s in 16 bits and moves 2,039 GB/s ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)).
# From the column of MB in section 1: how long does the step take at least?

# %%
a100 = device("a100-80gb")
F, BW = a100.peak(16), a100.bytes_per_s


def bound_s(parts):
    return sum(max(flops / F, moved / BW) for flops, moved in parts.values())


gigabytes = sum(moved for _, moved in llama_parts.values()) / 1e9
bound = roofline.time_bound(cost.decode_step(llama, 1, 544), a100)
print(f"one division    {gigabytes:.2f} GB / {BW / 1e9:,.0f} GB/s", end="")
print(f" = {gigabytes * 1e9 / BW * 1e3:.2f} ms")
print(f"part by part    {bound_s(llama_parts) * 1e3:.2f} ms")
print(f"teachkit        {bound.seconds * 1e3:.2f} ms, waits for {bound.side}")

# %% [markdown]
# How far is a real step from its bound? On such a card, limited to 330 W, the previous lesson found [gpt-fast](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md)
# at $9.53/6.51 = 1.46$ times the bound of a model of this shape. Our $13506/2039 = 6.62$ ms and the estimator's 6.73 ms are both bounds; what can be compared is how they were counted.
#
# With one sequence every part waits for memory, so one division is enough. In a large batch some wait for arithmetic. If parts could overlap, a step would take the larger of *all* arithmetic and *all* traffic. How much less is that? The last row is the largest batch that fits; the
# sheet's GB are GiB, so memory is $80 \cdot 2^{30} = 85.9 \cdot 10^9$ bytes.

# %%
llama3 = shape("llama-3-8b").config
most = memory.largest_batch(llama3, 2048, a100.memory_bytes)
print("Llama 3 8B   GB held   sum of parts, ms   overlapped, ms   shorter by")
for B in (1, 128, most):
    batch = decode_parts(llama3, B, 2048)
    flops, moved = (sum(column) for column in zip(*batch.values()))
    apart, together = bound_s(batch), max(flops / F, moved / BW)
    held = memory.memory(llama3, B, 2048).total_bytes / 1e9
    print(f"{B:10} {held:9.1f} {apart * 1e3:18.2f} {together * 1e3:16.2f}", end="")
    print(f" {round(100 * (1 - together / apart)):10} %")

# %% [markdown]
# **Explain.** In the largest batch the matrices wait for arithmetic, while attention, whose keys and values grow with the batch, waits for memory.

# %% [markdown]
# ## 4. A published table, taken apart
#
# llm-analysis prints prefill and decode of four LLaMA models on A100s with 80 GB: one sequence, a prompt of 512 tokens, 32 tokens to generate; in 16 bits the largest model is on two of them. We mean its [page as of version 0.1.0](https://github.com/cli99/llm-analysis/blob/1c80683be2920414fe582ad6579857bcf22c2f12/examples/llama/README.md); later ones count differently.
# Most tables come without a source, so we start from the output.
# Its [file for LLaMA-7B](https://github.com/cli99/llm-analysis/tree/b60b392f747850d198145889205d8a3586d00282/examples/llama/outputs_infer_ideal) splits the 6.73 ms into parts. Where a part waits for memory, its time multiplied by the bandwidth
# gives the bytes that the tool had in mind.
#
# **Predict.** If the file gives the MLP 4.21397 ms, how many numbers of 2 bytes are that in each of 32 layers? Which matrices have so many, if $C = 4096$?

# %%
L, C, V, H = llama.n_layers, llama.d_model, llama.vocab_size, llama.n_heads
FILE = {  # ms of a part; how many numbers we think that is, and which
    "mlp": (4.213974, L * (8 * C**2 + 9 * C), "two matrices of C by 4C"),
    "attention": (2.107054, L * (4 * C**2 + 5 * C + 2 * H), "four of C by C"),
    "kv cache": (0.279757, 2 * (2 * L * C * 544), "keys and values, twice"),
    "embedding": (0.128565, V * C, "the whole table"),
    "head": (0.000840, V * C, "as large, if it is read"),
}
print("part        time × bandwidth, MB   guess, MB   difference   guess")
for part, (ms, numbers, guess) in FILE.items():
    told, guessed = ms * BW / 1e9, 2 * numbers / 1e6
    off_mb = abs(told - guessed)
    print(f"{part:10} {told:21,.1f} {guessed:11,.1f} {off_mb:12.1f}   {guess}")

# %% [markdown]
# The MLP moves $4.213974 \cdot 10^{-3} \cdot 2039 \cdot 10^9 / (2 \cdot 32) = 134.3 \cdot 10^6$ numbers a layer, and $8 \cdot 4096^2 = 134.2 \cdot 10^6$; the rest are vectors, $9C$ (for attention $5C$, and a score for each head, out and in).
# The head does not fit: its time is $2VC/F$, arithmetic alone.
#
# `teachkit.llm_analysis` counts by these rules:
#
# - attention has four matrices of $C^2$ numbers, the MLP $8C^2$, whatever the config says;
# - a step computes scores with one token only, and moves the whole cache in and out, at the width of the activations;
# - the whole embedding is read, always in 16 bits; norms move 32-bit numbers; the head costs no bytes;
# - a prompt computes all pairs of tokens, moves their scores out and in, and takes the logits of every token;
# - arithmetic runs at the rate of the wider of weights and activations.
#
# These should give the whole page. Below, `tp` devices share every matrix (section 7); adding up what each has is an *exchange*, of at least 8 µs as in [the tool](https://github.com/cli99/llm-analysis/blob/b60b392f747850d198145889205d8a3586d00282/llm_analysis/gpu_configs/a100-sxm-80gb.json). *Efficiencies* are shares of the peaks.

# %%
LLAMAS = ("llama-7b", "llama-13b", "llama-33b", "llama-65b")
FULL, LESS = (1.0, 1.0), (0.7, 0.9)  # efficiencies: arithmetic, memory
PRINTED = {  # bits of weights, of activations: prefill of the four, decode; ms
    (16, 16, FULL): (22.41, 43.1, 107.74, 113.33, 6.73, 12.94, 32.36, 33.85),
    (16, 16, LESS): (31.89, 61.38, 153.6, 159.47, 7.48, 14.38, 35.95, 37.47),
    (4, 4, FULL): (5.9, 11.2, 27.69, 55.2, 1.78, 3.36, 8.25, 16.41),
    (4, 8, FULL): (11.4, 21.83, 54.38, 108.83, 1.85, 3.47, 8.46, 16.76),
    (4, 16, FULL): (22.41, 43.1, 107.74, 216.08, 1.99, 3.69, 8.89, 17.47),
    (8, 8, FULL): (11.4, 21.83, 54.38, 108.83, 3.43, 6.55, 16.28, 32.56),
}


def milliseconds(name, weights, acts, efficiency):
    """The tool's prefill of 512 tokens and step at 544"""
    tp = 2 if name == "llama-65b" and weights == 16 else 1
    setting = {"weight_bits": weights, "act_bits": acts, "tp": tp}
    counts = (
        llm_analysis.prefill(shape(name).config, 1, 512, **setting),
        llm_analysis.decode_step(shape(name).config, 1, 544, **setting),
    )
    limits = dict(zip(("flops_efficiency", "memory_efficiency"), efficiency))
    limits["message_s"] = llm_analysis.MESSAGE_S
    return [roofline.time_bound(c, a100, **limits).seconds * 1e3 for c in counts]


# %%
cells = [
    (got, printed)
    for setting, page in PRINTED.items()
    for name, *row in zip(LLAMAS, page[:4], page[4:])
    for got, printed in zip(milliseconds(name, *setting), row)
]
equal = sum(round(got, 2) == printed for got, printed in cells)
worst = max(abs(got / printed - 1) for got, printed in cells)
print("cells of the page, each once ", len(cells))
print("equal when rounded as printed", equal)
print(f"largest residual              {worst:.2%}")
for share in (0.5, 0.7):
    got, _ = milliseconds("llama-7b", 16, 16, (share, 0.9))
    print(f"prefill of LLaMA-7B at {share} of the peak: {got:.2f} ms, printed 31.89")

# %% [markdown]
# The last two lines settle a contradiction: for the efficiency of arithmetic the page's text says 0.5, the heading of its table 0.7. The heading is right, as are the names of the [output files](https://github.com/cli99/llm-analysis/tree/b60b392f747850d198145889205d8a3586d00282/examples/llama/outputs_infer).
#
# ### Theirs, ours, and why
#
# **Predict.** The tool's MLP has $8C^2$ numbers; LLaMA's has three matrices of $4096 \times 11008$. Is the tool's time for it too long or too short, and by 1 %, 10 % or 30 %?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Too short, by less than 1 %: $3 \cdot 11008 / 4096 = 8.06$. LLaMA's MLP is *gated*, which takes a third matrix; two thirds of the width keep the number of parameters ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971), section 2.2).
#
# </details>

# %%
SAME = {  # ours: theirs
    "mlp": "mlp",
    "attention projections": "attention",
    "attention scores": "kv cache",
    "embedding": "embedding",
    "head": "head",
    "norms": "norms",
}


def compare(B, S, bits=16):
    """ms of each part of a LLaMA-7B decode step: (theirs, ours)"""
    setting = {"batch": B, "context": S, "weight_bits": bits}
    theirs, ours = (
        roofline.time_bound(counts.decode_step(llama, **setting), a100)
        for counts in (llm_analysis, cost)
    )
    return {o: (theirs[t].seconds * 1e3, ours[o].seconds * 1e3) for o, t in SAME.items()}


# %% tags=["hide-input"]
why = (
    "two matrices of C by 4C for three of C by 11008",
    "other vectors",
    "the whole cache written back, not one token",
    "the whole table for a row",
    "its weights are not read",
    "other vectors",
)
compared = compare(1, 544)
off = {part: t - o for part, (t, o) in compared.items()}
their_ms, our_ms = (sum(column) for column in zip(*compared.values()))
single = sum(map(abs, off.values()))
body = "\n".join(
    f"| {part} | {t:.3f} | {o:.3f} | {1e3 * (t - o):+.1f} | {reason} |"
    for (part, (t, o)), reason in zip(compared.items(), why)
)
table_and_head = off["embedding"] + off["head"]
Markdown(f"""
| LLaMA-7B, one step | theirs, ms | ours, ms | difference, µs | why |
| --- | ---: | ---: | ---: | --- |
{body}
| **all** | **{their_ms:.3f}** | **{our_ms:.3f}** | **{1e3 * (their_ms - our_ms):+.1f}** | |

**The answer to the puzzle.** Taken as positive, the differences add up to {single:.2f} ms, {single / our_ms:.1%} of the step. With their signs they leave {their_ms - our_ms:.2f} ms, **{their_ms / our_ms - 1:.1%}**. The embedding that is read and the head that is
not are equally large: together they are off by {1e3 * table_and_head:+.1f} µs. That is luck. That the wrong MLP is off by only {off["mlp"] / compared["mlp"][1]:+.1%} is LLaMA's design.
What stays is the cache ({1e3 * off["attention scores"]:+.1f} µs) less the MLP ({1e3 * off["mlp"]:+.1f} µs); and the cache is small here, one sequence and a short text.
""")

# %% [markdown]
# An error that cancels, or is small, does so *in a setting*.
#
# **Predict.** Which makes the estimate worse: 32 sequences of 2,048 tokens, or weights of 4 bits? Is either off by more than a tenth?

# %%
print("bits  sequences   tokens   theirs, ms   ours, ms     off   cache once")
for bits, B, S in ((16, 1, 544), (16, 1, 2048), (16, 32, 2048), (4, 1, 544)):
    compared = compare(B, S, bits)
    theirs, ours = (sum(column) for column in zip(*compared.values()))
    once = theirs - compared["attention scores"][0] / 2
    print(f"{bits:4} {B:10} {S:8,} {theirs:12.2f} {ours:10.2f}", end="")
    print(f" {theirs / ours - 1:7.1%} {once / ours - 1:12.1%}")

# %% [markdown]
# **Explain.** The batch; both are off by more than a tenth. In a batch of long texts the cache is most of the traffic, and the tool has it twice; the last column, the control, moves it once. With 4-bit weights the tool's embedding stays at 16 bits while the head that a step needs shrinks, so the two no longer
# cancel; and the cache, still in 16 bits, weighs four times as much beside the weights. **A total that fits says little about its parts**: look at the parts, or move the setting.

# %% [markdown]
# ## 5. Training: what a GPU-hour buys
#
# A forward pass takes 2 FLOPs per parameter and token. The backward pass computes two gradients per matrix, for weights and for input, each as costly as the forward product. Together
# $6ND_t$ for $N$ parameters and $D_t$ tokens of training ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361), section 2.1).
#
# **Predict.** LLaMA-65B was trained on 1.4 trillion tokens; its authors report 1,022,362 hours of A100s ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971), tables 2 and 15). What share of 312 TFLOP/s did they reach: 20 %, 50 % or 80 %?
#
# llm-analysis prints GPU-hours, too ([training analysis](https://github.com/cli99/llm-analysis/blob/1c80683be2920414fe582ad6579857bcf22c2f12/examples/llama/README.md)). Its recipe:
#
# - three forward passes, with two matrices of $4C$ in the MLP and all pairs of tokens;
# - the attention scores one more time, computed again on the way back;
# - whole iterations, of 4M *sequences* where the paper means tokens ([run script](https://github.com/cli99/llm-analysis/blob/b60b392f747850d198145889205d8a3586d00282/examples/llama/run_train.sh)), and whole hours;
# - half of the peak, an efficiency that the page takes "as observed by the literature".

# %%
RUNS = {  # tokens; GPU-hours: the paper's, llm-analysis'
    "llama-7b": (1.0e12, 82_432, 77_832),
    "llama-13b": (1.0e12, 135_168, 148_047),
    "llama-33b": (1.4e12, 530_432, 510_213),
    "llama-65b": (1.4e12, 1_022_362, 1_015_701),
}
size = {n: sum(cost.parameters(shape(n).config).values()) for n in LLAMAS}
hour = a100.peak(16) * 3600  # FLOPs of an hour at the peak
shares = {}
print("            GPU-hours                         share of the peak, by the")
print("model           paper       tool   our copy   tool's FLOPs     6ND_t")
for name, (n_tokens, paper, printed) in RUNS.items():
    flops = llm_analysis.training_flops(shape(name).config, n_tokens)
    by_rule = 6 * size[name] * n_tokens
    shares[name] = flops / (paper * hour), by_rule / (paper * hour)
    copy = int(flops / (hour / 2))
    print(f"{name:10} {paper:10,} {printed:10,} {copy:10,}", end="")
    print(f" {shares[name][0]:14.2f} {shares[name][1]:9.2f}")

# %% [markdown]
# **Explain.** About half, by either count. The recipe gives the four printed figures. That they are near the paper's says little for it: by the tool's own FLOPs the runs reached shares around 0.5, so 0.5 for all must come near, whatever else the formula says:
# a *rule of thumb* for runs like these, no evidence for its details.
#
# ### Memory and time of one training step
#
# **Predict.** How many bytes does training hold for each parameter, before any activation: 2, 4 or 16?

# %%
gpt3 = shape("gpt-3").config
n_gpt3 = sum(cost.parameters(gpt3).values())
state_bytes = 2 + 2 + 4 + 4 + 4  # weight, gradient; weight, mean, variance
print("            GB of state   on each of 16   A100s that it fills")
for name, n in {"llama-65b": size["llama-65b"], "gpt-3": n_gpt3}.items():
    state = n * state_bytes
    print(f"{name:10} {state / 1e9:12,.0f} {state / 16e9:15.1f}", end="")
    print(f" {state / a100.memory_bytes:21.1f}")

# %% [markdown]
# **Explain.** 16: the usual mixture of formats holds weight and gradient in 16 bits and, for the Adam optimizer, a weight, a mean and a variance in 32 bits each
# ([Rajbhandari et al. 2019](https://arxiv.org/abs/1910.02054), section 3.1). So eight A100s cannot train LLaMA-65B.
# Sixteen that share every matrix exchange results (`communication`) twice a layer on the way forward and twice back ([Shoeybi et al. 2019](https://arxiv.org/abs/1909.08053), section 3).

# %%
big = shape("llama-65b").config
training = cost.train_step(big, batch=8, tokens=2048, tp=16)
training_bound = roofline.time_bound(training, a100)
ratio = training.flops * 16 / (6 * size["llama-65b"] * training.tokens)
print(f"FLOPs of all 16 devices over 6ND_t: {ratio:.2f}")
print(f"exchanges: {training['communication'].messages}")
print(f"{training.tokens:,} tokens take {training_bound.seconds:.2f} s; of it")
for part in sorted(training_bound.parts, key=lambda part: -part.seconds)[:6]:
    of_all = part.seconds / training_bound.seconds
    print(f"  {part.name:22} {of_all:6.1%}  waits for {part.side}")

# %% [markdown]
# **Explain.** Training reads many tokens at once, so its matrices wait for arithmetic. There are $2 \cdot (2 \cdot 80 + 1) = 322$ exchanges: two for each of 80 layers, and one for the embedding on the way forward and for the head on the way back.
# (All sixteen share one fast link here, and nothing overlaps.) $6ND_t$ leaves out attention's scores and counts an embedding that multiplies nothing; here the scores outweigh the embedding.

# %% [markdown]
# ## 6. Held against this machine
#
# Exact counts and printed peaks can still give a wrong prediction. `bench.this_machine` (previous lesson) measures your machine's bandwidth, FLOP/s and price of an operation with programs that hold no model. To the bound of section 3 we add that price for every operation; nothing is fitted.
#
# The model has half of SmolLM2-135M's layers ([config.json](https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json)), in fp32 with random weights and a head of its own: too large for most caches. PyTorch calls functions of ours before and after each module, which times the parts inside the step.
#
# **Predict.** One sequence, 256 tokens attended to. Which takes the largest multiple of its bound: the MLP, the head, or the attention scores?


# %%
def part_of(model):
    """Module -> the part of the step that it is"""
    parts = {model.head: "head", model.norm: "norms"}
    for block in model.blocks:
        projections = block.attention.children()
        parts |= {block.mlp: "mlp", block.attention: "attention scores"}
        parts |= dict.fromkeys(projections, "attention projections")
        parts |= {block.attention_norm: "norms", block.mlp_norm: "norms"}
    return parts


def timed_parts(model, step, repeats=20):
    """Seconds of each part of the fastest of some steps, and of all of it"""
    parts, begun, spent, runs = part_of(model), {}, Counter(), []

    def before(module, _):
        begun[module] = time.perf_counter()

    def after(module, *_):
        spent[parts[module]] += time.perf_counter() - begun[module]

    hooks = [module.register_forward_pre_hook(before) for module in parts]
    hooks += [module.register_forward_hook(after) for module in parts]
    for _ in range(repeats):
        spent.clear()
        start = time.perf_counter()
        step()
        spent["step"] = time.perf_counter() - start
        # The projections lie inside the module of attention.
        spent["attention scores"] -= spent["attention projections"]
        runs.append(dict(spent))
    for hook in hooks:
        hook.remove()
    fastest = min(runs, key=lambda run: run["step"])
    return fastest, fastest.pop("step")


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
half = {"n_layers": 15, "windows": (), "tied": False}
medium = replace(shape("smollm2-135m").config, **half)
running = tk.Decoder(medium).eval()
past = tk.cache.ContiguousCache(medium, 1, 256)
past.plan([255])  # room for zeros, which take as long to read as a text


def one_step():
    running(torch.zeros(1, 1, dtype=torch.int64), cache=past)
    past.truncate(0, 255)


operations = bench.count_operations(one_step)
sizes = {"size": 1024, "read_bytes": 2**28, "repeats": 5}
machine = bench.this_machine(formats=("fp32",), **sizes)
measured, step_s = timed_parts(running, one_step)
again = bench.read_bandwidth(2**28, repeats=5)  # control: did the machine change?
counted = cost.decode_step(medium, 1, 256, **fp32)
on_this = roofline.time_bound(counted, machine.device())
predicted_s = on_this.seconds + operations * machine.overhead_s
print(f"{operations} operations, predicted {predicted_s * 1e3:.1f} ms", end="")
print(f", measured {step_s * 1e3:.1f} ms")

# %% tags=["nbval-ignore-output", "hide-input"]
MATRICES = ("mlp", "attention projections", "head")
body = "\n".join(
    f"| {part} | {on_this[part].seconds * 1e3:.2f} | {measured[part] * 1e3:.2f} | {measured[part] / on_this[part].seconds:.1f} |"
    for part in (*MATRICES, "attention scores", "norms")
)
rest_s, price_s = step_s - sum(measured.values()), operations * machine.overhead_s
asked = ("mlp", "head", "attention scores")
worst = max(asked, key=lambda part: measured[part] / on_this[part].seconds)
in_matrices = sum(measured[part] for part in MATRICES)
their_bound = sum(on_this[part].seconds for part in MATRICES)
missed, lacks = in_matrices - their_bound, step_s - predicted_s
found = f"Of the {lacks * 1e3:.1f} ms that the prediction lacks,"
if lacks < -0.25 * predicted_s:
    found = "A step so much faster than its prediction says that the limits were taken while the machine was busy."
elif lacks < 0.25 * predicted_s:
    found = "The prediction is right to a quarter."
elif missed > lacks / 2:
    reached = sum(counted[part].bytes for part in MATRICES) / in_matrices
    found += f" {missed * 1e3:.1f} are lost inside the matrix products, whose kernels moved {reached / 1e9:.1f} GB/s: a kernel was predicted wrong, not a count."
else:
    products = sum(p.ndim == 2 for p in running.parameters()) - 1  # the embedding is looked up
    each_s = (step_s - in_matrices) / (operations - products)
    found += f" {(lacks - missed) * 1e3:.1f} are lost outside the matrix products, whose operations took {each_s * 1e6:.0f} µs each."
Markdown(f"""
| one step, {machine.bytes_per_s / 1e9:.1f} GB/s | bound, ms | measured, ms | times |
| --- | ---: | ---: | ---: |
{body}
| embedding, residual stream, the model's own Python | | {rest_s * 1e3:.2f} | |
| {operations} operations at {machine.overhead_s * 1e6:.1f} µs | {price_s * 1e3:.2f} | | |
| **step** | **{predicted_s * 1e3:.2f}** | **{step_s * 1e3:.2f}** | **{step_s / predicted_s:.1f}** |

**Explain.** Of the three asked for, the largest multiple is that of the {worst}{", which move few bytes and still pay for each operation" if worst == "attention scores" else ""}. The matrices took {in_matrices / their_bound:.1f} times their bound, {in_matrices / step_s:.0%} of the step. {found}
The control: after the steps this machine read {again.value / 1e9:.1f} GB/s. If that is far from {machine.bytes_per_s / 1e9:.1f}, it was busy with something else, and the multiples say little.

{tk.measure.caption()}
""")

# %% tags=["nbval-ignore-output", "hide-input"]
RECORDS = "benchmarks/results/predict.jsonl"
folders = (Path.cwd(), *Path.cwd().parents)
records = next((f / RECORDS for f in folders if (f / RECORDS).is_file()), None)


def latest(kind):
    """The latest (predicted, measured) records of each setting"""
    keys = ("shape", "phase", "step", "batch", "tokens", "rows", "k", "n")
    pairs = {}
    for record in tk.measure.read(records) if records else []:
        group, _, which = record.name.rpartition(".")
        if group == f"predict.{kind}" and which in ("predicted", "measured"):
            about = (record.dtype, *(record.config.get(key) for key in keys))
            pairs.setdefault(about, {})[which] = record
    return [(p["predicted"], p["measured"]) for p in pairs.values() if len(p) == 2]


ratios, worst_product = {}, ""
for p, m in latest("step"):
    batch = p.config["batch"]
    kind = "prompt" if p.config["phase"] == "prefill" else f"step, batch of {batch}"
    model = f"{p.config['shape']}, {p.dtype} | {p.config['weights_bytes'] / 1e6:,.0f}"
    ratios.setdefault(model, {})[kind] = f"{m.value / p.value:.2f}"
if products := latest("product"):
    p, m = max(products, key=lambda pair: pair[1].value - pair[0].value)
    matrix = "({rows}, {k}) by ({k}, {n}) of {shape}".format(**p.config)
    misses = ": the kernel misses, not the count" if m.value > 1.25 * p.value else ""
    worst_product = f"Timed alone, with no model around it, the product that loses most, {matrix}, {p.dtype}, takes {m.value / p.value:.1f} times its bound{misses}."
if ratios:
    kinds = list(dict.fromkeys(kind for row in ratios.values() for kind in row))
    rows = "\n".join(
        f"| {model} | {' | '.join(row.get(kind, '') for kind in kinds)} |"
        for model, row in ratios.items()
    )
    text = f"""
`benchmarks/predict.py` does the same for other models, formats and prompts, at 256 tokens. Measured over predicted, from its committed records:

| model | weights, MB | {" | ".join(kinds)} |
| --- | ---: |{" ---: |" * len(kinds)}
{rows}

{worst_product}

*measured: {m.device}, {m.threads} threads, PyTorch {m.versions.get("torch", "")}, {m.date}; not this run*
"""
else:
    text = "For other models, formats and prompts run `python benchmarks/predict.py` in a clone of the course."
Markdown(text)

# %% [markdown]
# ## 7. What the predictor is for
#
# ### What a second device buys
#
# *Tensor parallelism* gives each of $n$ devices a part of every matrix and of the heads. Twice a layer they exchange and add up partial results (an *all-reduce*). However few its bytes, this takes some microseconds; we assume 8, as in section 4.
#
# **Predict.** LLaMA-65B is too large for one A100. On two, a step takes about half as long as it would on one. On sixteen: a sixteenth?


# %%
def predict(config, device, **setting):
    """(cost, time bound, memory) of a decode step"""
    step = cost.decode_step(config, **setting)
    bound = roofline.time_bound(step, device, message_s=llm_analysis.MESSAGE_S)
    return step, bound, memory.memory(config, **setting)


alone = predict(big, a100, batch=1, context=544)[1].seconds
print("devices   GB on each   fits   step, ms   times faster   in exchanges")
for n in (1, 2, 4, 8, 16):
    _, shared, held = predict(big, a100, batch=1, context=544, tp=n)
    link_s = sum(part.seconds for part in shared.parts if part.side == "link")
    fits = "yes" if held.total_bytes <= a100.memory_bytes else "no"
    print(f"{n:7} {held.total_bytes / 1e9:12.1f} {fits:>6}", end="")
    print(f" {shared.seconds * 1e3:10.2f} {alone / shared.seconds:14.1f}", end="")
    print(f" {link_s / shared.seconds:14.0%}")

# %% [markdown]
# **Explain.** No. The bytes of a step are divided, the number of exchanges is not: $2 \cdot 80 + 1 = 161$, two for each layer and one after the embedding, whose rows are divided, too. For one token an exchange carries some tens of kilobytes and costs its least time, which stays
# while the rest shrinks. The last row assumes a link of 300 GB/s each way among all sixteen ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)). Between servers links are slower: for training, [Narayanan et al. 2021](https://arxiv.org/abs/2104.04473) advise tensor parallelism only within one (takeaway 1).
#
# ### Turn the knobs
#
# The figure opens at the step of section 1; hatched parts wait for arithmetic, dotted ones for the link. Find the batch at which attention scores take half of the step; which bits, of weights or of keys and values, matter more to one sequence, and which to that batch at 2,048 tokens.
#
# <details>
# <summary>What we found</summary>
#
# 47 sequences. For one sequence the weights' bits; for 47 of 2,048 tokens those of keys and values.
#
# </details>

# %% tags=["nbval-ignore-output", "hide-input"]
MODELS = {
    "LLaMA-7B": llama,
    "LLaMA-65B": big,
    "Llama-3-8B": llama3,
    "Llama-3-70B": shape("llama-3-70b").config,
    "Mistral-7B": shape("mistral-7b").config,
    "GPT-3": replace(gpt3, vocab_size=50304),  # 50,257 is odd
}
SHEETS = {"A100-80GB": "a100-80gb", "H100": "h100", "H200": "h200", "A10": "a10", "T4": "t4"}
DEVICES = {label: device(name) for label, name in SHEETS.items()}
figures.step_breakdown(MODELS, DEVICES, predict, context=544, message_s=llm_analysis.MESSAGE_S)

# %% [markdown]
# ## What real systems do
#
# - **They count as you did, to choose a layout.** [Pope et al. 2022](https://arxiv.org/abs/2211.05102) split a model over many chips by bytes, FLOPs and messages, and check it by measurement.
# - **They measure the kernels, and predict the rest.** [Vidur](https://arxiv.org/abs/2405.05465) profiles a model's operators on a device, fits regressors, and simulates a server; its authors report latency within 9 %.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
by_tool = [of_tool for of_tool, _ in shares.values()]
per_gpu = {name: n_tokens / (3600 * paper) for name, (n_tokens, paper, _) in RUNS.items()}
h100, a100_40 = device("h100"), device("a100-40gb")
page = "[llm-analysis](https://github.com/cli99/llm-analysis/blob/1c80683be2920414fe582ad6579857bcf22c2f12/examples/llama/README.md)"
eecs = "*LLM-Systems Basics*, EECS 598, University of Michigan, January 2024"
ucla = "[Li and Li 2023](https://bu9gy.github.io/), UCLA"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| LLaMA-65B needs two A100s with 80 GB in 16 bits | {page} | Right: {2 * size["llama-65b"] / 1e9:.1f} GB of weights, {a100.memory_bytes / 1e9:.1f} GB of memory. |
| GPU-hours within 10 % of the reported ones suggest a good estimate of training time | {page} | Weak: 0.5 was assumed; by the tool's own FLOPs, the paper's hours imply {min(by_tool):.2f} to {max(by_tool):.2f}. |
| GPU-hours halve at the full peak, and fall by 68 % on H100s | {page} | By construction: hours are FLOPs over a share of the peak. On H100s {1 - a100.peak(16) / h100.peak(16):.0%} less, if they reach the same share. |
| LLaMA's code processes around 380 tokens/s/GPU | {page}, after [the paper](https://arxiv.org/abs/2302.13971), section 2.4 | Of LLaMA-65B: its hours mean {per_gpu["llama-65b"]:.0f}, those of LLaMA-7B {per_gpu["llama-7b"]:,.0f}. |
| On H100s communication takes a larger share *because* memory bandwidth grew by less | {page} | Wrong cause: exchanges go over the link. It is {h100.link_bytes_per_s / a100.link_bytes_per_s:.2f} times as fast, arithmetic {h100.peak(16) / a100.peak(16):.2f} times. |
| GPT-3 takes 350 GB each for gradients, activations and per optimizer state | {eecs} | Gradients in 16 bits: {2 * n_gpt3 / 1e9:.0f} GB. A state of Adam is kept in 32 bits: {4 * n_gpt3 / 1e9:.0f} GB. Activations depend on batch and length. |
| A copy of GPT-3 needs two machines of 8 A100s with 40 GB | {ucla} | Right: {2 * n_gpt3 / 1e9:.0f} GB of weights; 8 × 40 GB are 320 GB, or {8 * a100_40.memory_bytes / 1e9:.0f} if they are GiB. |
""")

# %% [markdown]
# ## Exercises
#
# **1. Where the tool would be right.** Find a model whose MLP has *exactly* the tool's $8C^2$ numbers, and the width `d_ff` at which a gated MLP has as many.
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
# GPT-2 and GPT-3, with two matrices of $4C$. A gated MLP has as many at $8C/3$; LLaMA rounds that up. Llama 3 8B is wider: there the tool's count is short by almost a quarter.
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
# With one sequence at none: the weights outweigh the cache. With 64 sequences before 900 tokens.
#
# </details>
#
# **3. Prefill, part by part.** Compare `llm_analysis.prefill(llama, 1, 512)` with `cost.prefill(llama, 1, 512)` as in section 4. Which of the tool's errors show now, and which no longer do? Why?
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
# The tool's parts with matrices wait for arithmetic, so wrong bytes no longer show there. Wrong FLOPs do: of hidden pairs, of the head for all tokens but the last, of the MLP. The embedding shows as before: it computes nothing.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("cost_model")

# %% [markdown]
# Then in your own words:
#
# **A.** An estimate of a step agrees with a measurement to the second digit. What do you do before you trust it for another batch size?
#
# <details>
# <summary>Answer</summary>
#
# Compare the parts, not the total: errors of opposite sign may cancel. And predict a setting in which other parts weigh more, before measuring it.
#
# </details>
#
# **B.** A [V100 with 32 GB](https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf) has a peak of 125 TFLOP/s. Training GPT-3, $175 \cdot 10^9$ parameters, on $300 \cdot 10^9$ tokens is said to take 355 years of one (*LLM-Systems Basics*). What do you compute first, and what would make you doubt it? Could one do it?
#
# <details>
# <summary>Answer</summary>
#
# The share of the peak: $6 \cdot 175 \cdot 300 \cdot 10^{18} / (355 \cdot 3.16 \cdot 10^7) = 28 \cdot 10^{12}$ FLOP/s, $28/125 = 0.22$. Above 1 is impossible; at a few percent something other than arithmetic took the time, or a number is wrong. One could not: the state alone fills $16 \cdot 175 / 34.4 = 81$ of them.
#
# </details>
#
# ## Not covered here
#
# What a token costs in money, and how long users wait: next lesson. Communication across machines, pipeline parallelism, activations of training, mixture-of-experts models.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
