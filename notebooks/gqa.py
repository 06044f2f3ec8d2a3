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
#     stem: gqa
#     modules: [attention, convert]
#     objectives:
#       - Write attention that reads each key once for a whole group of query heads, and test it against one head at a time
#       - Say which key/value head a query head reads, and recognise a model whose heads are read in another order
#       - Compute bytes per token, sequences that fit and the bound on tokens per second for any number of key/value heads
#       - Measure how attention's time depends on the size of a group, with two controls
#       - Convert a trained model to fewer key/value heads, measure what that costs, and how much a little training brings back
#     minutes: 50
#     lab: gqa
# ---

# %% [markdown]
# # Grouped queries: keys that are read once for many
#
# Of two models with about 7 billion parameters, Llama 2 7B has 32 key/value heads in each layer ([config.json](https://huggingface.co/meta-llama/Llama-2-7b-hf/blob/main/config.json)) and
# Falcon 7B has a single one ([config.json](https://huggingface.co/tiiuae/falcon-7b/blob/main/config.json)). Falcon's KV cache takes 1/64 of the bytes. **So why has Llama 3 eight key/value heads, in all its sizes ([table 3](https://arxiv.org/abs/2407.21783)), and not one?**
#
# Write down your guess. By the end you have three answers, two of them computed and one measured on a trained model.
#
# **Afterwards you can**
#
# - write attention that reads each key once for a whole group of query heads, and test it against one head at a time;
# - say which key/value head a query head reads, and recognise a model whose heads are read in another order;
# - compute bytes per token, sequences that fit and the bound on tokens per second for any number of key/value heads;
# - measure how attention's time depends on the size of a group, with two controls;
# - convert a trained model to fewer key/value heads, measure what that costs, and how much a little training brings back.
#
# **You need** the lessons on attention, on the KV cache and on the roofline. No GPU, and no network once `teachkit` is installed. Allow a little under an hour, and half as
# much for the exercises. Letters as before: $H$ query heads, $H_{kv}$ key/value heads, $G = H / H_{kv}$ query heads in a group, $D$ numbers in a key or a value, $S$ tokens attended to, $B$ sequences.
#
# Three names for one thing: *multi-head attention* (MHA) has $H_{kv} = H$, *multi-query* (MQA) has $H_{kv} = 1$, *grouped-query* (GQA) is all that lies between.

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
from importlib import resources
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch.utils._python_dispatch import TorchDispatchMode

import teachkit as tk
from teachkit import convert, cost, figures, hardware, memory, roofline, shapes

torch.set_grad_enabled(False)  # switched on in section 5 alone
torch.manual_seed(0)
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. One path for all three
#
# Query head $h$ reads key/value head $\lfloor h / G \rfloor$. Written head by head, that is a loop, and a key is fetched again for each query head that reads it:


# %%
def head_by_head(q, k, v):
    """One new token: q (B, H, 1, D) over k and v (B, Hkv, S, D) -> (B, H, 1, D)"""
    H, G = q.shape[1], q.shape[1] // k.shape[1]
    heads = []
    for h in range(H):
        scores = q[:, h] @ k[:, h // G].transpose(1, 2) * q.shape[-1] ** -0.5
        heads.append(scores.softmax(-1) @ v[:, h // G])
    return torch.stack(heads, 1)


# %% [markdown]
# The $G$ queries of a group meet the same keys, and a product of $G$ rows with a matrix fetches the matrix once. So let the query heads of a group take the place
# of rows:


# %%
def stacked(q, k, v):
    """The same; the query heads of a group are the rows of one product"""
    B, H, _, D = q.shape
    rows = q.view(B, k.shape[1], H // k.shape[1], D) * D**-0.5
    probs = (rows @ k.transpose(2, 3)).softmax(-1)
    return (probs @ v).view(B, H, 1, D)


# %% [markdown]
# MHA and MQA need no case of their own: with $H_{kv} = H$ a group is one row, with $H_{kv} = 1$ all heads are rows of a single product.
#
# **Predict.** 6 query heads over 6, 3, 2 and 1 key/value heads, a cache of 11 tokens. By which factor do the bytes of keys and values that the products take in
# fall from $H_{kv} = 6$ to $H_{kv} = 1$: for `stacked`, and for `head_by_head`?


# %%
class FetchedBytes(TorchDispatchMode):
    """Sums the sizes of the second operands of matrix products: here the keys and values."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default):
            self.total += args[1].nbytes
        return function(*args, **(kwargs or {}))


def fetched(attend, *tensors):
    with FetchedBytes() as counter:
        attend(*tensors)
    return counter.total


def same(a, b):
    return torch.allclose(a, b, atol=1e-5)


package = tk.attention.scaled_dot_product_attention
B, H, S, D = 2, 6, 11, 16
print("Hkv   G   bytes, head by head   stacked   teachkit   all equal, PyTorch too")
for Hkv in (6, 3, 2, 1):
    q, k, v = torch.randn(B, H, 1, D), torch.randn(B, Hkv, S, D), torch.randn(B, Hkv, S, D)
    expected = head_by_head(q, k, v)
    theirs = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    equal = all(same(out, expected) for out in (stacked(q, k, v), package(q, k, v), theirs))
    n = [fetched(attend, q, k, v) for attend in (head_by_head, stacked, package)]
    print(f"{Hkv:3} {H // Hkv:3} {n[0]:20,} {n[1]:9,} {n[2]:10,}   {equal}")

# %% [markdown]
# **Explain.** Both hold the same cache, and it is six times smaller with one head than with six. But head by head, every query head takes the keys in again, and nothing is saved on the way to the processor.
# Memory is saved by *storing* fewer heads, time only by *fetching* them once per group. Whether the second happens is up to the kernel (section 3).
#
# `teachkit` stacks several new tokens of a prompt in the same way, $G \cdot T$ rows for each key/value head, and puts the mask on afterwards.
#
# ### The order of heads
#
# Nothing in a file of weights says which query heads form a group. One may also read *in turns*, query head $h$ the key/value head $h \bmod H_{kv}$, and every shape is right.
#
# **Predict.** The bundled model has 4 query heads over 2 key/value heads: in turns, heads 0 and 3 read what they always read, 1 and 2 are swapped. What happens to the bits per token: next to nothing, a few more, or as
# bad as a guess, $\log_2 4096 = 12$?


# %%
model = tk.load("bundled")
folder = resources.files("teachkit") / "checkpoints" / "bundled"
# Files of Python's library that the model was not trained on.
heldout = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
ids = [model.tokenizer.bos, *model.tokenizer.encode(heldout["functools.py"], special=False)]
text = torch.tensor([ids[:513]])


class Read(tk.cache.UncachedStep):
    """A pass in which attention is computed by a function of ours"""

    def __init__(self, tokens, attend):
        super().__init__(model.config, tokens)
        self.attend = attend

    def layer(self, index):
        return SimpleNamespace(attend=self.attend)


def neighbours(q, k, v, scale=None):
    return package(q, k, v, causal=True, scale=scale)


def in_turns(q, k, v, scale=None):
    """Query head h reads key/value head h % Hkv: the cache repeated as a whole"""
    G = q.shape[1] // k.shape[1]
    return package(q, k.repeat(1, G, 1, 1), v.repeat(1, G, 1, 1), causal=True, scale=scale)


def reordered(model):
    """The same model for a reader in turns: query heads 0, 2, 1, 3, in W_q and in W_o"""
    changed = convert.group_heads(model, model.config.n_kv_heads)  # as many as before: a copy
    D, order = model.config.head_dim, [0, 2, 1, 3]
    for block in changed.blocks:
        q, o = block.attention.q.weight, block.attention.o.weight
        q.copy_(q.unflatten(0, (-1, D))[order].flatten(0, 1))
        o.copy_(o.unflatten(1, (-1, D))[:, order].flatten(1, 2))
    return changed


def bits(model, attend):
    """Mean of -log2 p of the tokens that came next"""
    logits = model(text[:, :-1], step=Read(text[:, :-1], attend))
    return F.cross_entropy(logits[0], text[0, 1:]).item() / math.log(2)


print("bits per token of                     read as neighbours   in turns")
for name, m in (("the model", model), ("the model, query heads reordered", reordered(model))):
    print(f"{name:37} {bits(m, neighbours):18.2f} {bits(m, in_turns):10.2f}")

# %% [markdown]
# **Explain.** Half of the query heads read another head's keys, and the prediction is nearly as bad as a guess. Neither order is wrong: with query heads 1 and 2 exchanged in $W_q$ and in $W_o$, reading in turns gives the model's own result. File and reader have to
# agree, and no shape tells. A test on the logits of a trained model does. The usual slip is `k.repeat(1, G, 1, 1)` for `k.repeat_interleave(G, 1)`.

# %% [markdown]
# ## 2. The bytes of a token, and what follows from them
#
# A token leaves $2 L H_{kv} D$ numbers. Published shapes ([Llama 2](https://arxiv.org/abs/2307.09288), [Llama 3](https://arxiv.org/abs/2407.21783), [Mistral](https://arxiv.org/abs/2310.06825), [Falcon](https://arxiv.org/abs/2311.16867)) follow in 16 bits, with the most sequences of 2,048 tokens that fit on A100s of 80 GB beside
# the weights, and the bound on tokens per second with the memory full: the same formulas as in the lesson on the roofline. Llama 2 70B does not fit on one GPU and is divided over four.
#
# **Predict.** Llama 2 70B has ten times the parameters of Llama 2 7B, but 8 key/value heads instead of 32. Which of the two leaves more bytes per token?

# %%
a100 = hardware.device("a100-80gb")
CONTEXT = 2048


def filled(shape, tp=1, context=CONTEXT):
    """Sequences that fit on tp GPUs, and the bound on tokens per second with so many"""
    batch = memory.largest_batch(shape, context, a100.memory_bytes, tp=tp)
    step = cost.decode_step(shape, batch, context, tp=tp)
    return batch, batch / roofline.time_bound(step, a100).seconds


MODELS = {"llama-2-7b": 1, "llama-3-8b": 1, "mistral-7b": 1, "falcon-7b": 1, "llama-2-70b": 4}
print(
    "               H   Hkv    G   bytes per token   if it were multi-head   fit   tokens/s at most"
)
for name, tp in MODELS.items():
    shape = shapes.shape(name).config
    by_hand = 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * 2
    assert by_hand == shape.kv_bytes_per_token(2)
    multi = replace(shape, n_kv_heads=shape.n_heads).kv_bytes_per_token(2)
    fit, rate = filled(shape, tp)
    heads = f"{shape.n_heads:4} {shape.n_kv_heads:5} {shape.group_size:4}"
    print(f"{name:12}{heads} {by_hand:17,} {multi:23,} {fit:5,} {rate:18,.0f}")

# %% [markdown]
# **Explain.** The smaller Llama 2, with a tenth of the parameters, leaves more per token than the larger. Between models of the same size the numbers of sequences that fit stand in nearly the inverse ratio of the bytes, 67 to 259 to 4,259: the weights take their share
# first, and they shrink only a little, by parts of $W_k$ and $W_v$.
#
# ### How much is left to gain?
#
# Vary $H_{kv}$ alone, in Llama 3 8B, with 64 sequences of 2,048 tokens. A step reads all weights, and the keys and values of all sequences.
#
# **Predict.** From 32 heads to 8 three quarters of the keys' and values' bytes go. Going on from 8 to 1, does a step gain more than from 32 to 8, or less?

# %%
llama3 = shapes.shape("llama-3-8b").config
BATCH = 64
print("       64 sequences: GB of a step           memory full:")
print("Hkv    weights   keys, values   tokens/s    sequences   tokens/s")
for Hkv in (32, 16, 8, 4, 2, 1):
    shape = replace(llama3, n_kv_heads=Hkv)
    step = cost.decode_step(shape, BATCH, CONTEXT)
    weights, kv = step.total("weight_bytes") / 1e9, step.total("kv_bytes") / 1e9
    rate = BATCH / roofline.time_bound(step, a100).seconds
    fit, most = filled(shape)
    print(f"{Hkv:3} {weights:10.1f} {kv:14.1f} {rate:10,.0f} {fit:12,} {most:10,.0f}")

# %% [markdown]
# **Explain.** At the same batch the first division by four brings $4010 / 1522 = 2.6$ times the tokens, the division by eight that follows $7664 / 4010 = 1.9$ times: the weights are then most of what is left. Whoever fills the memory gains more from the
# last heads, but few servers have 2,078 sequences.
#
# A second limit comes with several GPUs. *Tensor parallelism* divides the heads between them, and every GPU needs the keys that its query heads read. Eight GPUs cannot divide one key/value head: each holds a copy.

# %%
llama70 = shapes.shape("llama-2-70b").config
print("Llama 2 70B on 8 GPUs: bytes of a token")
print("Hkv      on one GPU   on all eight")
for Hkv in (64, 8, 1):
    shape = replace(llama70, n_kv_heads=Hkv)
    per_gpu = memory.memory(shape, 1, CONTEXT, tp=8).kv_bytes / CONTEXT
    print(f"{Hkv:3} {per_gpu:15,.0f} {8 * per_gpu:14,.0f}")

# %% [markdown]
# On eight GPUs one key/value head takes as much memory as eight do.

# %% [markdown]
# ## 3. The intensity of attention, seen
#
# A key/value head gives $4GSD$ FLOPs and takes $2SD$ numbers: $G$ FLOPs per byte in 16 bits, $G / 2$ in fp32. As long as attention waits for memory, more query heads over the same cache should cost no time.
#
# **Predict.** Hold the cache of 4 key/value heads and 16,384 tokens, in fp32 $2 \cdot 4 \cdot 16384 \cdot 128 \cdot 4 = 67{,}108{,}864$ bytes. How many times as long as with $G = 1$ does attention take with $G = 8$ and with $G = 32$, which do 8 and 32 times the
# arithmetic?
#
# Three controls:
#
# - *multi-head*: each query head has keys of its own. As many FLOPs, $G$ times the bytes.
# - *near*: 1,024 of the tokens, read 16 times. As many FLOPs and bytes, but after the first reading they come from the processor's own cache.
# - PyTorch's own attention with `enable_gqa=True`: the same result. Does its kernel fetch once per group?

# %%
HEADS, TOKENS, WIDTH, NEAR = 4, 16384, 128, 1024
GROUPS, FEW = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8)
own_k, own_v = torch.randn(2, 1, HEADS * max(FEW), TOKENS, WIDTH)
k, v = own_k[:, :HEADS], own_v[:, :HEADS]
near_k, near_v = k[:, :, :NEAR].clone(), v[:, :, :NEAR].clone()


def ways(G):
    """Attention of one new token with G query heads for each of HEADS key/value heads"""
    q, n = torch.randn(1, HEADS * G, 1, WIDTH), HEADS * G
    calls = {
        ("grouped", G): lambda: package(q, k, v),
        ("near", G): lambda: [package(q, near_k, near_v) for _ in range(TOKENS // NEAR)],
    }
    if G in FEW:
        calls["multi-head", G] = lambda: package(q, own_k[:, :n], own_v[:, :n])
        calls["pytorch", G] = lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return calls


calls = {key: call for G in GROUPS for key, call in ways(G).items()}
bytes_fetched = {key: fetched(call) for key, call in calls.items() if key[0] != "pytorch"}
for name in ("grouped", "multi-head"):
    print(
        f"{name:10} MB of keys and values",
        *(f"{bytes_fetched[name, G] / 1e6:6.0f}" for G in FEW),
    )
timings = tk.measure.time_calls(calls, warmup=1, repeats=6)
seconds = {key: min(timing.times_s) for key, timing in timings.items()}
del own_k, own_v, calls


# %% tags=["nbval-ignore-output", "hide-input"]
def draw_groups():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.6))
    lines = {
        "multi-head": ("keys of their own", "s--"),
        "pytorch": ("PyTorch, enable_gqa", "^--"),
        "grouped": ("grouped", "o-"),
        "near": ("grouped, from the near cache", "d:"),
    }
    for name, (label, look) in lines.items():
        found = [(G, seconds[name, G] * 1e3) for G in GROUPS if (name, G) in seconds]
        ax.loglog(*zip(*found), look, label=label)
    ax.set(
        xlabel="G (query heads per key/value head)",
        ylabel="ms",
        xticks=GROUPS,
        xticklabels=GROUPS,
    )
    ax.minorticks_off()
    ax.legend()
    return fig


def slower(name, G):
    """Times as long as with G = 1"""
    return seconds[name, G] / seconds[name, 1]


table = "\n".join(
    f"| {G} | {G / 2:g} | "
    + " | ".join(
        f"{seconds[name, G] * 1e3:.1f}" if (name, G) in seconds else ""
        for name in ("grouped", "near", "multi-head", "pytorch")
    )
    + f" | {4 * HEADS * G * TOKENS * WIDTH / seconds['grouped', G] / 1e9:.1f} |"
    for G in GROUPS
)
waits = {G: 1 - seconds["near", G] / seconds["grouped", G] for G in GROUPS}
kernel = (
    "That is the time of a kernel which fetches each key once per query head: sharing spares memory there, and no time."
    if slower("pytorch", 8) > 0.75 * 8
    else "Its time does not follow the number of query heads, so it does share what it fetches."
    if slower("pytorch", 8) < 0.3 * 8
    else "That is between once per group and once per query head; this run does not say which it does."
)
display(
    figures.static(
        draw_groups,
        alt=f"Time of attention over G. Grouped: {seconds['grouped', 1] * 1e3:.0f} ms at G = 1, {seconds['grouped', 8] * 1e3:.0f} at 8, "
        f"{seconds['grouped', 32] * 1e3:.0f} at 32; with keys of their own {seconds['multi-head', 1] * 1e3:.0f} and {seconds['multi-head', 8] * 1e3:.0f} at 1 and 8.",
    )
)
Markdown(f"""
| G | FLOPs per byte | grouped, ms | near, ms | multi-head, ms | PyTorch, ms | grouped, GFLOP/s |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{table}

**Explain.** For 8 times the arithmetic over the same cache, the grouped call takes **{slower("grouped", 8):.1f}** times as long; for 32 times, **{slower("grouped", 32):.1f}**. With keys of their own, 8 times the heads take {slower("multi-head", 8):.1f} times as long:
as many FLOPs as the grouped call, so the difference is due to the bytes. From the near cache the grouped call takes {waits[1]:.0%} less time at G = 1 and {waits[32]:.0%} less at G = 32; that part of its time was spent on memory. Where the share is small, arithmetic and the kernel set the time.

PyTorch's attention takes {slower("pytorch", 8):.1f} times as long with 8 query heads per group as with one. {kernel}

{tk.measure.caption()}
""")

# %% [markdown]
# ## 4. What sharing costs: converting a trained model
#
# Grouped attention can be trained from the start. Or a trained model is *converted*: the $W_k$ and $W_v$ of the heads of a group become one, and the cache of the new model is smaller by as much. [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245) take their mean.


# %%
def mean_pooled(weight, n_heads, D):
    """(Hkv * D, C) -> (n_heads * D, C): the mean of heads that are neighbours"""
    heads = weight.unflatten(0, (-1, D))  # (Hkv, D, C)
    groups = heads.unflatten(0, (n_heads, -1))  # (n_heads, heads of a group, D, C)
    return groups.mean(1).flatten(0, 1)


def repeated(model, times):
    """The same function with more key/value heads: each stands there several times, as neighbours"""
    config = replace(model.config, n_kv_heads=model.config.n_kv_heads * times)
    wide, state = tk.Decoder(config, model.tokenizer), model.state_dict()
    for name, weight in state.items():
        if ".k." in name or ".v." in name:
            state[name] = (
                weight.unflatten(0, (-1, config.head_dim))
                .repeat_interleave(times, 0)
                .flatten(0, 1)
            )
    wide.load_state_dict(state)
    return wide.eval().requires_grad_(False)


doubled = repeated(model, 2)
back = convert.group_heads(doubled, 2)
for name, m in (("the model", model), ("each head twice", doubled), ("pooled again", back)):
    n_bytes = tk.cache.ContiguousCache(m.config, 1, 100).nbytes // 100
    off = (m(text) - model(text)).abs().max().item()
    heads = f"{m.config.n_heads} over {m.config.n_kv_heads} heads"
    print(f"{name:16} {heads}, {n_bytes:6,} bytes per token, same logits {off < 1e-3}")
ours = mean_pooled(doubled.blocks[3].attention.k.weight, 2, model.config.head_dim)
print("ours equals teachkit's", same(ours, back.blocks[3].attention.k.weight))

# %% [markdown]
# Equal heads are pooled without loss: half of the cache was redundant. Heads trained apart are another matter.
#
# `teachkit` comes with a model to convert, `multi_head`: a smaller sibling of the bundled one, trained on the same files, with a key/value head for each of its 6 query heads. Scores on all held-out files were *recorded* after its training; a sample is scored *now*.
#
# **Predict.** Its 6 key/value heads become 2, each in place of three: the mean of the three, the first of them, or, as a control, random weights of the same size. Which is best? Is it nearer to the original or to the
# random heads?

# %%
original, fewer = tk.load("multi_head"), 2
D = original.config.head_dim
files = sorted(heldout)
# The middle of every other file; the files in between are for section 5.
middles = [heldout[name][max(0, len(heldout[name]) // 2 - 500) :] for name in files[::2]]
sample = [piece[:1000] for piece in middles]
for when, texts in (("now", sample), ("recorded", heldout.values())):
    print(f"{when:9} {len(texts)} texts, {sum(len(t.encode()) for t in texts):8,} bytes")

converted = {m: convert.group_heads(original, fewer, m) for m in ("mean", "first", "random")}
scores = {
    name: tk.evaluate.bits_per_byte(m, sample)
    for name, m in (converted | {"original": original}).items()
}
record = tk.weights.find("multi_head") / "scores.json"
recorded = json.loads(record.read_text(encoding="utf-8"))
recorded["original"] = recorded["multi_head"]
print(
    f"{original.config.n_kv_heads} key/value heads to {fewer}, bits per byte   now   recorded"
)
for name in sorted(scores, key=scores.get):
    print(f"  {name:35} {scores[name]:.2f} {recorded[name]:10.2f}")

# %% [markdown]
# **Explain.** The mean costs most of what random heads cost, and one head of three, as it is, is better. Why is a mean of trained heads so poor? Look at how alike they are.

# %%
print("        largest cosine in a group   length of the mean / mean length")
print("layer           W_k     W_v                    W_k    W_v")
for i, block in enumerate(original.blocks):
    cosines, lengths = [], []
    for layer in (block.attention.k, block.attention.v):
        heads = layer.weight.unflatten(0, (-1, D)).flatten(1)  # (Hkv, D * C)
        groups = heads.unflatten(0, (fewer, -1))
        pairs = torch.cosine_similarity(groups[:, :, None], groups[:, None], dim=-1).tril(-1)
        cosines.append(pairs.abs().max().item())
        lengths.append((groups.mean(1).norm(dim=1) / groups.norm(dim=2).mean(1)).mean().item())
    print(f"{i:5} {cosines[0]:17.2f} {cosines[1]:7.2f} {lengths[0]:25.2f} {lengths[1]:6.2f}")

# %% [markdown]
# They have nothing to do with each other: cosines hardly beyond chance ($1/\sqrt{DC} \approx 0.013$), and a mean as short as that of three perpendicular vectors, $1/\sqrt{3} \approx 0.58$. Training never asked that entry 5 of one head's value mean what entry 5 of another's means; $W_o$ reads each head by columns of its own. Of the mean, each query head gets
# a third of what it was trained to read, and two thirds are foreign. *First* gives one query head in three all it is used to, and the others nothing.
#
# Does the mean at least hold more of what is needed? That shows when the model may adapt.

# %% [markdown]
# ## 5. A little training afterwards
#
# The paper goes on training the converted model for 5 % of the original steps ([section 2.1](https://arxiv.org/abs/2305.13245)), and calls it *uptraining*. The sibling was trained for 1,000 steps; `multi_head_grouped` is its mean after 50 more.
# The control is the sibling itself, trained on as long with all its heads.
#
# **Predict.** Which share of what the mean lost is brought back: a tenth, half, all of it? And how much better does the control get?

# %%
grouped = tk.load("multi_head_grouped")
print("only Hkv differs:", grouped.config == replace(original.config, n_kv_heads=fewer))
scores["mean_uptrained"] = tk.evaluate.bits_per_byte(grouped, sample)
print("bits per byte               now   recorded")
for name in ("mean", "mean_uptrained", "original", "multi_head_trained_on"):
    now = f"{scores[name]:.3f}" if name in scores else "-"  # the control is not in the package
    print(f"{name:24} {now:>6} {recorded[name]:10.3f}")

# %% tags=["hide-input"]
lost = recorded["mean"] - recorded["original"]
share = (recorded["mean"] - recorded["mean_uptrained"]) / lost
gain = recorded["original"] - recorded["multi_head_trained_on"]
left = recorded["mean_uptrained"] - recorded["multi_head_trained_on"]
Markdown(f"""
**Explain.** On the whole held-out text uptraining brings back {share:.0%} of what the mean lost. The control gains {gain:.3f} bits per byte, so this is repair and not more knowledge. {left:.2f} are left to pay for a cache divided by {original.config.n_kv_heads // fewer}.

Of four peaks of the learning rate ({recorded["factors"]} times the sibling's own) the one with the lowest training loss was taken: for the mean the last. A larger one might bring back more, and so might more than {recorded["up_steps"]} steps.
""")

# %% [markdown]
# A shorter one, live: 16 steps of 1,024 tokens, on held-out files that are not scored.
#
# **Predict.** Is the first head still ahead of the mean? Do random heads catch up? And the original?

# %%
stream = [
    i
    for name in files[1::2]
    for i in (original.tokenizer.bos, *original.tokenizer.encode(heldout[name], special=False))
]
STEPS, ROWS, LENGTH, PEAK = 16, 4, 256, 1e-3


@torch.enable_grad()
def trained_on(model):
    """A copy after STEPS steps of AdamW on all weights, at a rate that falls to zero"""
    copy = convert.group_heads(model, model.config.n_kv_heads).requires_grad_(True)
    optimizer = torch.optim.AdamW(copy.parameters(), lr=PEAK, betas=(0.9, 0.95), weight_decay=0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    draw = torch.Generator().manual_seed(0)  # the same text for every model
    for _ in range(STEPS):
        starts = torch.randint(len(stream) - LENGTH, (ROWS,), generator=draw).tolist()
        rows = torch.tensor([stream[s : s + LENGTH + 1] for s in starts])
        loss = F.cross_entropy(copy(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    return copy.requires_grad_(False)


after = {
    name: tk.evaluate.bits_per_byte(trained_on(m), sample)
    for name, m in (converted | {"original": original}).items()
}

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {name} | {scores[name]:.2f} | {after[name]:.2f} |"
    for name in ("original", "first", "mean", "random")
)
regained = {
    name: (scores[name] - after[name]) / (scores[name] - scores["original"])
    for name in converted
}
lead = [found["mean"] - found["first"] for found in (scores, after)]
drift = after["original"] - scores["original"]
assert 0 < lead[1] < lead[0]  # as the text below says
assert drift > 0
Markdown(f"""
| heads | bits per byte, converted | after {STEPS} steps |
| --- | ---: | ---: |
{rows}

**Explain.** The first head regains {regained["first"]:.0%} of what its conversion lost, the mean {regained["mean"]:.0%}, random heads {regained["random"]:.0%}. The first is still ahead of the mean, by {lead[1]:.2f} instead of {lead[0]:.2f} bits per byte. The original loses {drift:.2f}: so short a text teaches it nothing, and what the others win is repair.

{tk.measure.caption()}
""")

# %% [markdown]
# A score before training says only how much a conversion has broken. The paper compares after training and finds the mean best, then the first head, then random ones ([figure 4](https://arxiv.org/abs/2305.13245)). In our small sibling
# the first head leads, before training and after 16 steps.

# %% [markdown]
# ## 6. The puzzle
#
# Why eight heads, and not one? From this page:
#
# 1. **The gain diminishes.** Most bytes go with the first division (section 2).
# 2. **Eight GPUs need eight heads.** With tensor parallelism over eight GPUs, one key/value head is stored eight times. Llama 2's authors give this reason ([appendix A.2.1](https://arxiv.org/abs/2307.09288)).
# 3. **Quality.** Fewer heads hold less. Section 5 shows it for a small model; for a large one the paper found that eight heads cost little and one more (next section).

# %% [markdown]
# ## What real systems do
#
# - **They measured it.** T5 XXL, over seven tasks: multi-head 1.51 s per sample and a mean score of 47.2, one head after uptraining 0.24 s and 46.6, eight heads 0.28 s and 47.1 ([Ainslie et al. 2023, table 1](https://arxiv.org/abs/2305.13245)).
# - **They began with one.** [Shazeer 2019](https://arxiv.org/abs/1911.02150) proposed a single head, to spare the fetching. [Falcon](https://arxiv.org/abs/2311.16867)'s 7B has one; its 40B and 180B have eight, one for each GPU of a server. [Pope et al. 2022](https://arxiv.org/abs/2211.05102) keep one and divide its
#   cache over the chips by sequence instead of by head.
# - **They fuse.** PyTorch [documents](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html) `enable_gqa=True` as repeating keys and values. A kernel need not do so: [FlashAttention](https://github.com/Dao-AILab/flash-attention) takes fewer key/value heads and indexes them.
# - **They compress instead.** [DeepSeek-V2](https://arxiv.org/abs/2405.04434) stores one short vector per token and layer, from which every head's keys and values are computed.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
mistral = shapes.shape("mistral-7b").config
plain = replace(mistral, n_kv_heads=mistral.n_heads)
kv, kv_plain = (memory.memory(c, 1, 4096).kv_bytes for c in (mistral, plain))
ours, theirs = (cost.decode_step(c, 1, 4096) for c in (mistral, plain))
projections = ours["attention projections"].flops / theirs["attention projections"].flops


def room(name):
    """Sequences of 4,096 tokens beside the weights on an A10, activations left out"""
    needs = memory.memory(shapes.shape(name).config, 1, 4096)
    return (hardware.device("a10").memory_bytes - needs.weights_bytes) / needs.kv_bytes


ratio = room("mistral-7b") / room("llama-2-7b")
talk = "T. Lacroix, [*Exploring the Latency/Throughput & Cost Space for LLM Inference*](https://www.youtube.com/watch?v=mYRqvB1_gRk), talk, October 2023"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| Mistral shares a key and a value among four queries, and needs a quarter of the memory for them | {talk} | Right: {mistral.n_kv_heads} of {mistral.n_heads} heads; {kv / 1e9:.3f} GB at 4,096 tokens instead of {kv_plain / 1e9:.3f}. |
| The FLOPs stay the same with grouped queries | same talk | In part. Those of the scores do, {ours["attention scores"].flops / theirs["attention scores"].flops:.0f} to 1. The projections to keys and values shrink: attention's matrices take {projections:.1%}, the whole step at 4,096 tokens {ours.flops / theirs.flops:.3f} of what it took. |
| It does not really hurt performance | same talk | Not derivable. In a model trained so, little, by the table cited above; in one merely converted, a lot: sections 4 and 5. |
| Grouped queries alone give Mistral 1.5 times LLaMA's throughput | same talk | A measurement that we cannot repeat, and not of one change: the MLP is {mistral.d_ff:,} wide instead of {shapes.shape("llama-2-7b").config.d_ff:,}, and there is a window. On an A10, {ratio:.2f} times as many sequences of 4,096 tokens fit, which bounds the gain of a step that waits for the weights. |
""")

# %% [markdown]
# ## Exercises
#
# **1. A prompt.** Extend `stacked` to $T$ new tokens with a causal mask, and compare with `teachkit` for $T = 5$, $S = 11$. How many rows has each product?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def stacked_prompt(q, k, v):
#     B, H, T, D = q.shape
#     rows = q.reshape(B, k.shape[1], -1, D) * D**-0.5
#     scores = (rows @ k.transpose(2, 3)).view(B, H, T, -1)
#     seen = tk.attention.visible(T, k.shape[2])
#     probs = scores.masked_fill(~seen, float("-inf")).softmax(-1)
#     return (probs.view(B, k.shape[1], -1, k.shape[2]) @ v).view(B, H, T, D)
#
# q, k, v = torch.randn(2, 6, 5, 16), torch.randn(2, 2, 11, 16), torch.randn(2, 2, 11, 16)
# assert same(stacked_prompt(q, k, v), package(q, k, v, causal=True))
# ```
#
# $G \cdot T = 3 \cdot 5 = 15$. The mask is put on in the shape $(B, H, T, S)$, where rows are tokens again.
#
# </details>
#
# **2. A basis is a habit.** In `original`, exchange the numbers of one value head among themselves, in $W_v$ and in the columns of $W_o$ that read them. What happens to the model's logits? And to the model pooled by the mean?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# turned = convert.group_heads(original, 6)
# order = torch.randperm(D, generator=torch.Generator().manual_seed(0))
# for block in turned.blocks:
#     v, o = block.attention.v.weight, block.attention.o.weight
#     v[D : 2 * D] = v[D : 2 * D][order]  # key/value head 1
#     o[:, D : 2 * D] = o[:, D : 2 * D][:, order]  # and its query head
# assert (turned(text) - original(text)).abs().max() < 1e-3
# for m in (original, turned):
#     print(tk.evaluate.bits_per_byte(convert.group_heads(m, 2), sample))
# ```
#
# The same function, yet another one when pooled: the mean depends on an order that no training has settled. [Jin et al. 2024](https://arxiv.org/abs/2412.20677) turn heads towards each other before they are merged.
#
# </details>
#
# **3. How many sequences?** Qwen2.5 7B has 28 query heads over 4 key/value heads, 28 layers, heads of 128. By which factor do more sequences of 8,192 tokens fit on an A100-80GB than if it were multi-head?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# qwen = shapes.shape("qwen2.5-7b").config
# for c in (qwen, replace(qwen, n_kv_heads=28)):
#     print(c.kv_bytes_per_token(2), filled(c, context=8192)[0])
# ```
#
# A seventh of the bytes per token. The weights are a little smaller as well, so the factor is slightly above 7.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("gqa")

# %% [markdown]
# Then in your own words:
#
# **A.** A model has 40 query heads and 10 key/value heads. Which key/value head does query head 13 read, and how many rows has the product of a decode step with its keys?
#
# <details>
# <summary>Answer</summary>
#
# $G = 4$ and $\lfloor 13 / 4 \rfloor = 3$; four rows per sequence.
#
# </details>
#
# **B.** Somebody halves the number of key/value heads and sees no change in time per token for one user with a short text. What did the step wait for?
#
# <details>
# <summary>Answer</summary>
#
# For the weights, or for the start of many small operations: with one sequence and a short text the keys and values are few beside them. Or the kernel fetches keys once per query head.
#
# </details>
#
# **C.** Does grouping change the critical batch of the MLP's matrices? And the share of a step that attention takes?
#
# <details>
# <summary>Answer</summary>
#
# The first no: that depends on the machine and the weights' format. The second yes, with $H_{kv}$, as long as attention waits for memory.
#
# </details>
#
# ## Not covered here
#
# Fewer tokens and fewer bits per number: the next two chapters. The merging of heads after alignment is only named.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
