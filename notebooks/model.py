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
#     stem: model
#     modules: [model, layers, config]
#     objectives:
#       - Count a model's parameters from its configuration, and account for every byte of its file
#       - Build RMSNorm, rotary positions and SwiGLU, and say what each is there for
#       - Compute a trained model's logits from the numbers in its file, equal to transformers' on the same folder
#       - Read the residual stream between the layers, and say what such a reading does not show
#       - Take parts out of a model, measure in bits per byte what each was worth, and say what such a figure depends on
#       - Read GPT-2 and Falcon as variations of one decoder, and count the FLOPs and bytes of one token
#     minutes: 65
#     lab: model
# ---

# %% [markdown]
# # From token to logits: what a model is made of
#
# You may take one thing out of a trained model and go on using it as it is: all of its norms, all rotation by position, one whole layer, one
# MLP, or one attention head. **Which removal ruins the model, and which does it hardly notice?**
#
# Rank the five, worst first. Norms and positions are explained below; guess.
#
# **Afterwards you can**
#
# - count a model's parameters from its configuration, and account for every byte of its file;
# - build RMSNorm, rotary positions and SwiGLU, and say what each is there for;
# - compute a trained model's logits from the numbers in its file, equal to `transformers`' on the same folder;
# - read the residual stream between the layers, and say what such a reading does not show;
# - take parts out of a model, measure in bits per byte what each was worth, and say what such a figure depends on;
# - read GPT-2 and Falcon as variations of one decoder, and count the FLOPs and bytes of one token.
#
# **You need** the first lesson, on attention, and its letters: $T$ tokens, $L$ layers, $H$
# query heads on $H_{kv}$ key/value heads of $D$ numbers, $C$ numbers in a token's vector, $V$ tokens in the vocabulary. New is $F$, the width
# inside an MLP. (In code that width is `d_ff`; `F` is PyTorch's module of functions.) No GPU, and no network once `teachkit` is installed. Allow an hour, and half as much again for the exercises.

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
import tempfile
import time
from contextlib import contextmanager

import torch
import torch.nn.functional as F
import transformers
from IPython.display import Markdown, display
from safetensors.torch import load_file

import teachkit as tk
from teachkit import figures

transformers.logging.disable_progress_bar()
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)


# %% [markdown]
# ## 1. Nine numbers and a file
#
# The model that comes with `teachkit` is a folder, as models on the Hugging Face hub are, with a `config.json`:

# %%
folder = tk.weights.find("bundled")
settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
NINE = {
    "vocab_size": "V",
    "hidden_size": "C",
    "num_hidden_layers": "L",
    "num_attention_heads": "H",
    "num_key_value_heads": "Hkv",
    "head_dim": "D",
    "intermediate_size": "F",
    "rms_norm_eps": "ε",
    "rope_theta": "θ",
}
for key, letter in NINE.items():
    print(f"{letter:4} {settings[key]:>9}   {key}")

# %% [markdown]
# $\epsilon$ and $\theta$ are constants, of sections 3 and 4. The other seven give the shape of every tensor. PyTorch stores a matrix as (to, from), the
# reverse of the order in the first lesson's text: $q = W_q x$ becomes `x @ matrix.T`.
#
# | part | shape | how often |
# | --- | --- | --- |
# | embedding, a list of $V$ rows | $(V, C)$ | once |
# | attention: $W_q$, $W_o$ | $(HD, C)$, $(C, HD)$ | in each layer |
# | attention: $W_k$, $W_v$ | $(H_{kv}D, C)$ each | in each layer |
# | MLP: $W_\mathrm{gate}$, $W_\mathrm{up}$, $W_\mathrm{down}$ | $(F, C)$, $(F, C)$, $(C, F)$ | in each layer |
# | norms | $(C)$ | two in each layer, one at the end |
# | head, which gives the logits | $(V, C)$: the embedding, used a second time | – |
#
# Such a head is called *tied* ([Press and Wolf 2017](https://arxiv.org/abs/1608.05859)), by a tenth entry of the file, `"tie_word_embeddings": true`.
#
# **Predict.** With pen and paper, from the seven: which holds most of the parameters, the embedding, the attention or the MLPs? And is
# the file of parameters, at 2 bytes each, nearer to 5 MB, 11 MB or 22 MB?


# %%
def count(c):
    """Parameters of a Llama with a tied head, by part"""
    query, key = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    return {
        "embedding, also the head": c.vocab_size * c.d_model,
        "attention": c.n_layers * c.d_model * (2 * query + 2 * key),
        "MLPs": c.n_layers * 3 * c.d_model * c.d_ff,
        "norms": (2 * c.n_layers + 1) * c.d_model,
    }


config = tk.ModelConfig.from_folder(folder)
parts = count(config)
n_parameters = sum(parts.values())
for name, n in parts.items():
    print(f"{name:25}{n:10,}{n / n_parameters:8.1%}")
print(f"{'together':25}{n_parameters:10,}")

# %% [markdown]
# `model.safetensors` holds them: 8 bytes with the length of a header; the header, in JSON, with the name, number format,
# shape and place of each tensor; then the numbers, and nothing else ([safetensors](https://huggingface.co/docs/safetensors/index)). One term
# must be read from the file: the header's length depends on how its writer formats it.

# %%
path = folder / "model.safetensors"
with path.open("rb") as file:
    header_bytes = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(header_bytes))
del header["__metadata__"]
stored = sum(math.prod(tensor["shape"]) for tensor in header.values())
predicted, on_disk = 8 + header_bytes + 2 * n_parameters, path.stat().st_size

print(f"{len(header)} tensors of {stored:,} numbers", {t["dtype"] for t in header.values()})
print("as many as counted by hand:", stored == n_parameters)
print(f"8 + {header_bytes:,} + 2 x {n_parameters:,} = {predicted:,} bytes")
print(f"on disk {on_disk:,} bytes; as predicted: {on_disk == predicted}")

# %% [markdown]
# **Explain.** The file holds names and numbers, no code and no diagram. (`BF16` is the upper half of an fp32 number, to which `tk.load` widens each.)
# What connects the tensors is the program that the rest of this lesson writes:
#
# ```text
# x = embedding[tokens]
# for each layer:
#     x = x + attention(norm(x))
#     x = x + MLP(norm(x))
# logits = head(norm(x))
# ```

# %% [markdown]
# ## 2. A row for every token

# %%
TEXT = """class Point:
    def __init__(self, x, y):
        self.x = """

model = tk.load("bundled")
L, H, D, C = config.n_layers, config.n_heads, config.head_dim, config.d_model
START = model.tokenizer.bos  # the token that stands before every text in training


def encode(text):
    return torch.tensor([[START, *model.tokenizer.encode(text, special=False)]])


tokens, pieces = encode(TEXT), ["<start>", *model.tokenizer.pieces(TEXT)]
rows_read = model.embedding.weight[tokens]
print(" | ".join(figures.visible(piece) for piece in pieces))
print("tokens", tuple(tokens.shape), "-> rows", tuple(rows_read.shape))

# %% [markdown]
# From here on the model carries one row of $C$ numbers for each token, all the way up. Attention and MLPs read the rows and *add* to them; none
# replaces them. What is carried is called the *residual stream*
# ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)). To look at it, we use *hooks*: functions that PyTorch calls when a module has run. What a hook returns, if anything, takes the place of the module's output.
#
# **Predict.** There are two commas in the text, at places 8 and 10. Do they start with the same row? And after the first layer?


# %%
@contextmanager
def hooked(hooks):
    """Inside, each (module, hook) calls hook(module, given, output) when the module has run."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def outputs(modules, tokens):
    """What each of the modules gives in one pass over the tokens, stacked"""
    kept = []

    def keep(module, given, output):
        kept.append(output)

    with hooked([(module, keep) for module in modules]):
        model(tokens)
    return torch.stack(kept)


def streams(tokens):
    """(L + 1, B, T, C): the stream before the first layer and after each"""
    return outputs([model.embedding, *model.blocks], tokens)


stream = streams(tokens)[:, 0]
print("stream", tuple(stream.shape))
for state, name in zip(stream[:2], ("embedding", "after layer 0")):
    print(f"{name:14} the two commas have the same row: {torch.equal(state[8], state[10])}")

# %% [markdown]
# **Explain.** A row of the embedding says which token it is, not where it stands or what came before. Everything
# else is added on the way.
#
# Below, we change the model and measure its loss, on the first 128 tokens of four files of Python's library that
# were kept out of training. It is given in *bits per byte*: the bits that the tokens cost, divided by the bytes of the text, so that models with different tokenizers can be compared.

# %%
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
by_length = sorted(held_out, key=lambda name: len(held_out[name]))
excerpts = torch.cat([encode(held_out[name])[:, :129] for name in by_length[-4:]])
inputs, targets = excerpts[:, :-1], excerpts[:, 1:]
n_bytes = sum(len(model.tokenizer.decode(row).encode()) for row in targets.tolist())


@torch.inference_mode()
def bits_per_byte(forward):
    """Bits for each byte of the excerpts, when forward(tokens) gives the logits"""
    logits = forward(inputs)
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return nats / math.log(2) / n_bytes


baseline = bits_per_byte(model)
all_equal = math.log2(config.vocab_size) * targets.numel() / n_bytes
print(f"the model: {baseline:.2f} bits per byte")
print(f"all tokens equally likely: {all_equal:.2f}")

# %% [markdown]
# Beginnings are hard; over whole files this model needs fewer bits (see the book's page on the model).

# %% [markdown]
# ## 3. RMSNorm: rows of one size
#
# Each attention and each MLP reads the stream through a *norm*, and so does the head. Llama's is
# RMSNorm ([Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)): divide a row by its root mean square, then multiply channel $i$ by a learnt number, its *gain* $w_i$.
#
# $$\mathrm{norm}(x)_i = w_i \, \frac{x_i}{\mathrm{rms}(x)} \qquad \mathrm{rms}(x) = \sqrt{\frac{1}{C} \sum_{j} x_j^2 + \epsilon}$$
#
# The older LayerNorm ([Ba et al. 2016](https://arxiv.org/abs/1607.06450)) subtracts the row's mean first.
#
# **Predict.** What do the two give, compared with before, if all numbers of a row are made ten times as large? And if 1 is added to each?


# %%
def rms_norm(x, gain, eps):
    """x (..., C), gain (C): divide by the root mean square, times the gain"""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def same(a, b, within=1e-4):
    """Equal but for rounding. Larger numbers than in the first lesson, so a wider margin."""
    return bool((a - b).abs().max() < within)


norm_3, state_3 = model.blocks[3].mlp_norm, stream[3]
gain_3, by_hand = norm_3.weight, rms_norm(state_3, norm_3.weight, config.norm_eps)
print("equals teachkit's:", same(by_hand, norm_3(state_3)))
print("equals PyTorch's: ", same(by_hand, F.rms_norm(state_3, (C,), gain_3, config.norm_eps)))
print("\n           10 x    x + 1   10 x, at the embedding")
for name, function in {
    "RMSNorm": lambda x: rms_norm(x, gain_3, config.norm_eps),
    "LayerNorm": lambda x: F.layer_norm(x, (C,), gain_3, eps=config.norm_eps),
}.items():
    line = f"{name:10}"
    for x, changed in (
        (state_3, 10 * state_3),
        (state_3, state_3 + 1),
        (stream[0], 10 * stream[0]),
    ):
        line += f" {'same' if same(function(changed), function(x)) else 'differs':7}"
    print(line.rstrip())

# %% [markdown]
# After a norm, (almost) only the *direction* of a row counts; LayerNorm forgets a common offset, too. The $\epsilon$ keeps a row of zeros from
# being divided by zero. Beside rows of layer 3 it is lost in rounding; beside the small rows of the embedding it still shows in the fourth digit.
#
# **Predict.** Why would size have to be taken out? The rows of the embedding have a root mean square of 0.1. What will it be after six
# layers, each of which adds twice: still about 0.1, about 1, or above 10?


# %%
def rms(x):
    """(..., B, T, C) -> (..., B * T): the root mean square of each row"""
    return x.square().mean(-1).sqrt().flatten(-2)


states = streams(inputs)
sizes_of = {
    "before the layer, mean": rms(states[:-1]).mean(-1),
    "       smallest token": rms(states[:-1]).amin(-1),
    "        largest token": rms(states[:-1]).amax(-1),
    "added by attention": rms(outputs([b.attention for b in model.blocks], inputs)).mean(-1),
    "added by the MLP": rms(outputs([b.mlp for b in model.blocks], inputs)).mean(-1),
    "after the layer": rms(states[1:]).mean(-1),
}

# %% tags=["hide-input"]
print("root mean square of a row, 512 tokens")
print(f"{'layer':22}" + "".join(f"{i:7}" for i in range(L)))
for name, values in sizes_of.items():
    print(f"{name:22}" + "".join(f"{value:7.3g}" for value in values))

# %% [markdown]
# **Explain.** The MLP of layer 0 writes a row many times the size of the embedding's, and later parts add to that. Sizes do not simply add up, since directions differ: in layer 5,
# 21.5, 10.4 and 13.4 make 24.5. An attention in layer 5
# that read the stream as it is would meet numbers over a hundred times those of layer 0, and several times larger for one token than for another. Read through a norm, all come in
# one size. The stream itself is never divided, so a later part must add more to turn the row by the same angle.

# %% [markdown]
# ## 4. Rotary positions: turned in proportion to position
#
# Queries and keys do not say where they stand. *Rotary positions*
# ([Su et al. 2021](https://arxiv.org/abs/2104.09864)) put the place in by turning. Take two numbers of a query, $(a, b)$, as a point in the plane,
# and turn it by an angle $\varphi$ that grows with the token's position:
#
# $$(a,\ b) \;\to\; (a \cos\varphi - b \sin\varphi,\ \ b \cos\varphi + a \sin\varphi)$$
#
# Do the same with a key. The dot product of two arrows depends on their lengths and on the angle *between* them. A query turned by $m\,\omega$ and
# a key turned by $m'\omega$ have that angle changed by $(m - m')\,\omega$: only the **distance** counts.
#
# One speed $\omega$ would be ambiguous: after a full turn everything looks as before. So the $D$ numbers of a head make $D/2$ pairs, and each
# has its own speed, in radians per token:
#
# $$\omega_i = \theta^{-2i/D}, \qquad i = 0, 1, \ldots, D/2 - 1$$
#
# Pair 0 turns by one radian per token. **Predict.** With $\theta = 10{,}000$ and $D = 64$, how many tokens does the slowest pair need for a full turn:
# 600, 6,000 or 47,000?


# %%
def rotate(x, positions, theta):
    """x (..., T, D), positions (T): turn pair (x[i], x[i + D/2]) by position * theta^(-2i/D)"""
    D = x.shape[-1]
    speed = theta ** -(torch.arange(0, D, 2) / D)
    angle = positions[:, None] * speed  # (T, D/2)
    a, b = x[..., : D // 2], x[..., D // 2 :]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


theta = config.rope_theta
speed = tk.layers.rope_frequencies(D, theta)
for i in (0, 8, 16, 24, 31):
    print(f"pair {i:2}: a full turn takes {2 * math.pi / speed[i].item():8,.0f} tokens")

generator = torch.Generator().manual_seed(0)
query, positions = torch.randn(1, 1, 40, D, generator=generator), torch.arange(40)
turned = rotate(query, positions, theta)
cos_sin = tk.layers.rope_angles(positions[None], speed, torch.float32)
print("equals teachkit's:", same(turned, tk.layers.apply_rope(query, *cos_sin)))

# %% [markdown]
# Like the hands of a clock, fast pairs tell near places apart but repeat after six tokens, and slow ones tell far places apart but hardly move between
# neighbours. Which two numbers make a pair is a convention (exercise 2).

# %% tags=["nbval-ignore-output", "hide-input"]
shown_pairs = (0, 8, 16)


def draw_rotary():
    import matplotlib.pyplot as plt

    ink = figures.colours()
    fig = plt.figure(figsize=(7.4, 4.6))
    grid = fig.add_gridspec(2, 3, height_ratios=[3, 2])
    distance = torch.arange(0, 100, 0.25)
    for column, pair in enumerate(shown_pairs):
        ax = fig.add_subplot(grid[0, column], aspect="equal")
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color=ink["rule"]))
        for place in range(6):
            angle = place * speed[pair].item()
            tip = (math.cos(angle), math.sin(angle))
            ax.plot(
                [0, tip[0]],
                [0, tip[1]],
                color=ink["accent"],
                linestyle="-",
                alpha=1 - place / 8,
            )
            if pair == 0 or place in (0, 5):
                near = 1.17 if pair < 16 or place == 0 else 1.4
                ax.text(
                    near * tip[0],
                    near * tip[1],
                    place,
                    ha="center",
                    va="center",
                    color=ink["ink"],
                )
        ax.set(xlim=(-1.35, 1.45), ylim=(-1.35, 1.35), title=f"pair {pair}")
        ax.axis("off")
        ax = fig.add_subplot(grid[1, column])
        ax.plot(distance, torch.cos(distance * speed[pair]))
        ax.set(ylim=(-1.15, 1.15), yticks=[-1, 0, 1], xlabel="distance (tokens)")
    fig.axes[1].set_ylabel("cos(distance · ω)")
    return fig


display(
    figures.static(
        draw_rotary,
        alt="Pairs 0, 8 and 16 of a query as hands of a clock, at positions 0 to 5: pair 0 has nearly come round, pair 8 has turned "
        "by half a radian, pair 16 by a twentieth. Below, what an equal query and key contribute to the score over a "
        "distance of 100 tokens: a fast wave, a slow one, and a curve that has only begun to fall.",
    )
)
Markdown(
    "*Above: one pair of a query at positions 0 to 5. Below: what that pair gives to the score of an equal key, "
    "as the distance grows, $\\cos(\\mathrm{distance} \\cdot \\omega)$. Predicted, from the formula.*"
)

# %% [markdown]
# **Predict.** *Shifted*: all positions are larger by 100,000. *Stretched* and *halved*, the controls: all positions are doubled or halved, so that every
# distance changes. What does each do to the loss: nothing, some tenths of a bit per byte, or several bits?


# %%
class Placed(tk.cache.UncachedStep):
    """A forward pass whose tokens stand at the given positions instead of 0, 1, 2, ..."""

    def __init__(self, tokens, positions):
        super().__init__(config, tokens)
        self.positions = positions.expand(tokens.shape)  # the model asks its step for them


def placed_at(positions):
    """The model as a function of tokens, with positions (T) of our choice"""

    def forward(tokens):
        return model(tokens, step=Placed(tokens, positions))

    return forward


places = torch.arange(inputs.shape[1])
print(f"as trained  {bits_per_byte(placed_at(places)):.2f} bits per byte")
for name, changed in {
    "shifted": places + 100_000,
    "stretched": 2 * places,
    "halved": 0.5 * places,
}.items():
    print(f"{name:11} {bits_per_byte(placed_at(changed)):.2f} bits per byte")

# %% [markdown]
# **Explain.** Shifted far beyond the 1,024 positions it was trained on, the loss is the same in these digits: the scores have changed by rounding only. The model knows distances only. Stretched, every
# distance is one that it has met in training, but the wrong one; halved, every second distance lies between two that it has met. The token just before seems two places away, or half a place, and the loss
# rises (by tenths only: what stands in queries and keys still counts). Distances longer than any in training are another matter, not tried here;
# [Chen et al. 2023](https://arxiv.org/abs/2306.15595) squeeze them back into the known range.

# %% [markdown]
# ## 5. SwiGLU: where most parameters are
#
# The other half of a layer looks at each row by itself. Llama's MLP ([Shazeer 2020](https://arxiv.org/abs/2002.05202)) has three matrices:
#
# $$\mathrm{MLP}(x) = W_\mathrm{down}\,\bigl(\mathrm{silu}(W_\mathrm{gate}\,x) \odot W_\mathrm{up}\,x\bigr), \qquad \mathrm{silu}(z) = \frac{z}{1 + e^{-z}}$$
#
# $W_\mathrm{gate}$ and $W_\mathrm{up}$ make two sets of $F$ numbers from the row. The first passes through silu, which is nearly 0 for numbers well below 0 and nearly $z$ for
# numbers well above; it then multiplies the second, and so decides which of those come through. Without this gate, $W_\mathrm{down} W_\mathrm{up}$ would be one
# matrix; and attention, once its weights are fixed, only takes means of what matrices make of rows. Apart from those weights and the norms, what no matrix can compute
# from a row has to come from here.
#
# **Predict.** If $W_\mathrm{gate}$ and $W_\mathrm{up}$ change places, is the result the same?


# %%
def swiglu(x, gate, up, down):
    """x (..., C), gate and up (F, C), down (C, F)"""
    z = x @ gate.T
    return (z * z.sigmoid() * (x @ up.T)) @ down.T


mlp_3, read_3 = model.blocks[3].mlp, norm_3(state_3)
gate, up, down = (matrix.weight for matrix in (mlp_3.gate, mlp_3.up, mlp_3.down))
by_package = mlp_3(read_3)
print("equals teachkit's:      ", same(swiglu(read_3, gate, up, down), by_package))
print("gate and up exchanged:  ", same(swiglu(read_3, up, gate, down), by_package))
shuffled = torch.randperm(len(read_3), generator=generator)
print(
    "rows shuffled first, or shuffled after:",
    same(mlp_3(read_3[shuffled]), by_package[shuffled]),
)
in_mlp, in_attention = parts["MLPs"] // L, parts["attention"] // L
print(f"parameters of a layer that are in its MLP: {in_mlp / (in_mlp + in_attention):.0%}")

# %% [markdown]
# **Explain.** Only one of the two passes through silu. And the share is usual: with as many key/value heads as query heads, attention has $4C^2$ parameters; with the usual
# $F = \tfrac{8}{3}C$ (here $\tfrac{11}{4}C$), three matrices have $3 \cdot \tfrac{8}{3} C^2 = 8C^2$, two thirds of the layer. Shared key/value
# heads tilt it further.

# %% [markdown]
# ## 6. All of it, from the file
#
# Now nothing of `teachkit`'s model: the numbers in the file by their names there, three functions from above, and attention (`teachkit`'s, which equals the one
# that you wrote in the first lesson).

# %%
weights = {name: tensor.float() for name, tensor in load_file(path).items()}


def heads(x, matrix):
    """(B, T, C) -> (B, heads, T, D)"""
    return (x @ matrix.T).unflatten(-1, (-1, D)).transpose(1, 2)


def logits_of(tokens, w=weights, c=config, turn=rotate):
    """tokens (B, T) -> logits (B, T, V), from the tensors of the file"""
    positions = torch.arange(tokens.shape[1])
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c.n_layers):
        layer = f"model.layers.{i}."
        read = rms_norm(x, w[layer + "input_layernorm.weight"], c.norm_eps)
        q, k, v = (heads(read, w[f"{layer}self_attn.{name}_proj.weight"]) for name in "qkv")
        q, k = (turn(each, positions, c.rope_theta) for each in (q, k))
        out = tk.attention.scaled_dot_product_attention(q, k, v, causal=True)
        x = x + out.transpose(1, 2).flatten(2) @ w[layer + "self_attn.o_proj.weight"].T
        read = rms_norm(x, w[layer + "post_attention_layernorm.weight"], c.norm_eps)
        gate, up, down = (
            w[f"{layer}mlp.{name}_proj.weight"] for name in ("gate", "up", "down")
        )
        x = x + swiglu(read, gate, up, down)
    return rms_norm(x, w["model.norm.weight"], c.norm_eps) @ w["model.embed_tokens.weight"].T


hub_model = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
with torch.inference_mode():
    from_file = logits_of(inputs)
    others = {"teachkit": model(inputs), "transformers": hub_model(inputs).logits}
spread = (from_file.max() - from_file.min()).item()
print("logits", tuple(from_file.shape), "largest minus smallest", round(spread))
for name, logits in others.items():
    agree = (logits.argmax(-1) == from_file.argmax(-1)).float().mean().item()
    print(f"{name:12} same best token: {agree:.1%}", end="")
    print("; all logits within 0.001:", same(from_file, logits, 1e-3))
print(f"{bits_per_byte(logits_of):.2f} bits per byte")

# %% [markdown]
# The lines in the loop are one Llama layer. The published Llamas are this program with larger numbers; some have a head of their own, and from 3.1 on slower rotations. `transformers`
# shares no code with ours: to agree by mistake, both would have to be wrong in the same way.

# %% [markdown]
# ## 7. Reading between the layers
#
# The last norm and the head turn the last state of the stream into logits. The earlier states have the same shape, so one of those can be sent through norm and head, too:
# the *logit lens* ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens)).
#
# **Predict.** Read before the first layer, straight off the embedding, what does the model say comes after a comma: a space, a name, or a comma?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# A comma. The head is the embedding: the logit of token $v$ is the dot product of row $v$ with what has been read, and that, but for the norm, is the row of the comma. Hardly any row
# suits it as well as its own; only a few, longer ones can get ahead.
#
# </details>


# %%
def read_off(states):
    """Logits of the next token, read off states (..., C) of the stream"""
    return model.project(model.norm(states))


itself = (read_off(states[0]).argmax(-1) == inputs).float().mean().item()
print(f"before any layer, the likeliest next token is the one just read: {itself:.0%}")

# %% tags=["nbval-ignore-output", "hide-input"]
lens_top = read_off(stream).softmax(-1).topk(5)


def name_of(i):
    return "<start>" if i == START else model.tokenizer.decode([i])


said = [[[name_of(i) for i in cell] for cell in row] for row in lens_top.indices.tolist()]
told = "; ".join(
    f"after token {i}, ‘{figures.visible(pieces[i])}’: "
    + ", ".join(figures.visible(reading[i][0]) for reading in said)
    for i in sorted({5, 7, len(pieces) - 1} & set(range(len(pieces))))
)
figures.logit_lens(
    pieces,
    said,
    lens_top.values,
    alt=f"The likeliest next token, read off the embedding and after each layer, {told}.",
)

# %% [markdown]
# `(self` knows early that a comma follows, `def␣` settles on `__init__` only at the end. The lens shows what the model would say, right or
# wrong: after `self.x =␣` it ends at `y`. (Your own text goes into `TEXT` in section 2.)
#
# Is the knowledge not there yet between the layers, or is it there in a form that the head does not read? **Measure**, with a translator: for each state, the one matrix that best turns it, on 16 *other* files, into the last state. It is linear, but not innocent: it may itself
# learn which token follows which. The first column is the control: that state knows only its own token, so what the matrix gains there is its own.


# %%
def normed(states):
    """(..., C) -> (n, C + 1): rows without their sizes, and a 1 for a constant to be added"""
    flat = F.rms_norm(states.flatten(0, -2), (C,)).double()
    return torch.cat((flat, torch.ones(len(flat), 1)), 1)


def bits_of(logits):
    return bits_per_byte(lambda tokens: logits)


practice = torch.cat([encode(held_out[name])[:, :112] for name in by_length[-20:-4]])
known = streams(practice)
goal = normed(known[-1])
direct_bits, translated_bits = [bits_of(read_off(state)) for state in states], []
for practised, state in zip(known, states):
    rows_in = normed(practised)
    # Least squares; the 10 holds large entries down, and 1 or 100 give the same within 0.1.
    translator = torch.linalg.solve(
        rows_in.T @ rows_in + 10 * torch.eye(C + 1), rows_in.T @ goal
    )
    last = (normed(state) @ translator)[:, :C].float().view_as(state)
    translated_bits.append(bits_of(read_off(last)))

# %% tags=["hide-input"]
print(f"bits per byte; all tokens equally likely: {all_equal:.1f}")
print(f"{'':18}  emb.   after layer 0, 1, ...")
print(f"{'read directly':18}" + "".join(f"{bits:6.1f}" for bits in direct_bits))
print(f"{'through a matrix':18}" + "".join(f"{bits:6.1f}" for bits in translated_bits))

# %% [markdown]
# **Explain.** Read directly, the states before layer 4 are no better, or hardly better, than equal odds, two are worse, and the one after layer 4 is only somewhat better. Through the translator each layer
# improves on the one before, and only the fall *from the first column* needs the layers (the matrix may use what they bring in ways in which the model does not). So knowledge arrives step by step, but only at the end in a form the head can read: a lens shows what the head would say, not what the stream contains. Trained translators of
# this kind are called tuned lenses ([Belrose et al. 2023](https://arxiv.org/abs/2303.08112)).

# %% [markdown]
# ## 8. Taking parts out
#
# Everything adds to the stream. So a part can be left out by letting it add zeros, and the rest still runs. The hooks of
# section 2 do it:
#
# - *an MLP*, *an attention*: it adds 0; *a layer*: both do;
# - *a head*: $W_o$ sums over the heads, and one term is taken out;
# - *the norms*: each passes on what it was given, undivided and without gains;
# - *the positions*: all tokens stand at position 0; only the causal mask still tells earlier from later.
#
# Zeros are harsh: the rest was trained with something in that place. So each part is also replaced by its *mean*, the
# one row that it adds on average over the 16 practice files. That takes away all that it says about *this* text,
# and leaves what it always says.
#
# **Predict.** Look at your ranking once more. Would you change it now? Will zeros and means agree?


# %%
def gives(row):
    """A hook that puts one row in place of whatever a module adds"""
    return lambda module, given, output: row.expand_as(output)


def head_gives(head, row):
    """The same for one head, at W_o: row (H * D) is what all heads hand to W_o"""
    part = slice(head * D, (head + 1) * D)

    def hook(o, given, output):
        # Through its columns of W_o: out with what the head handed over, in with the row.
        # given[0] is (B, T, H * D): the heads side by side
        return output + (row[part] - given[0][..., part]) @ o.weight[:, part].T

    return hook


def cost(hooks, forward=model):
    """Bits per byte more than the whole model needs"""
    with hooked(hooks):
        return bits_per_byte(forward) - baseline


means = {}


def note_mean(module, given, output):
    handed = given[0] if isinstance(module, torch.nn.Linear) else output  # Linear: W_o
    means[module] = handed.mean((0, 1))


watched = [m for block in model.blocks for m in (block.attention, block.attention.o, block.mlp)]
with hooked([(module, note_mean) for module in watched]), torch.inference_mode():
    model(practice)
zeros = {module: torch.zeros_like(row) for module, row in means.items()}


# %%
def removals(rows):
    """kind -> name -> the hooks that put rows[module] in place of what that part gives"""
    found = {kind: {} for kind in ("a layer", "an MLP", "an attention", "a head")}
    for i, block in enumerate(model.blocks):
        mlp, attention = ((part, gives(rows[part])) for part in (block.mlp, block.attention))
        found["an MLP"][f"{i}"], found["an attention"][f"{i}"] = [mlp], [attention]
        found["a layer"][f"{i}"] = [mlp, attention]
        o = block.attention.o
        for h in range(H):
            found["a head"][f"{i}.{h}"] = [(o, head_gives(h, rows[o]))]
    return found


def passes_on(module, given, output):
    return given[0]


norms = [norm for block in model.blocks for norm in (block.attention_norm, block.mlp_norm)]
norms.append(model.norm)
no_norms = [(norm, passes_on) for norm in norms]
without_norms = cost(no_norms)
without_positions = cost([], placed_at(0 * places))
removed = {"zeros": removals(zeros), "the mean": removals(means)}
costs = {
    put: {
        kind: {name: cost(hooks) for name, hooks in named.items()}
        for kind, named in kinds.items()
    }
    for put, kinds in removed.items()
}


# %% tags=["hide-input"]
def signed(bits):
    return f"{bits:+.2f}".replace("-0.00", "+0.00") if math.isfinite(bits) else "not a number"


print(f"whole model   {baseline:.2f} bits per byte; more than that without")
print(f"all norms     {signed(without_norms)}")
print(f"all positions {signed(without_positions)}")
print("\n             with zeros           with the mean")
print("             dearest   cheapest   dearest   cheapest")
for kind in costs["zeros"]:
    line = f"{kind:12}"
    for bits in (costs[put][kind] for put in ("zeros", "the mean")):
        most = max(bits, key=bits.get)
        line += f"{most:>4} {signed(bits[most])} {signed(min(bits.values())):>9} "
    print(line.rstrip())

# %% [markdown]
# Names are layers, or layer and head, counted from 0. The chart has all of them; in a running notebook, the controls above it take out any combination.

# %% tags=["hide-input"]
KINDS = list(costs["zeros"])


def draw_costs():
    import matplotlib.pyplot as plt

    ink = figures.colours()
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    looks = {"zeros": ("o", ink["accent"], 0.16), "the mean": ("s", ink["second"], -0.16)}
    for put, (marker, colour, shift) in looks.items():
        for y, kind in enumerate(reversed(KINDS)):
            of = {name: max(bits, 0.001) for name, bits in costs[put][kind].items()}
            height = [y + shift] * len(of)
            label = f"{put} instead" if y == 0 else None
            ax.plot(of.values(), height, marker, color=colour, alpha=0.7, label=label)
            dearest = max(of, key=of.get)
            at = (of[dearest], y + shift)
            ax.annotate(dearest, at, (7, -4), textcoords="offset points", fontsize=9)
    ax.axvline(without_positions, color=ink["muted"], linewidth=1, linestyle="--")
    note = {"ha": "right", "color": ink["muted"], "fontsize": 9}
    ax.text(0.95 * without_positions, len(KINDS) - 0.45, "no positions", **note)
    ax.set(xscale="log", xlim=(0.0008, 6), ylim=(-0.5, len(KINDS) - 0.2))
    ax.set(yticks=range(len(KINDS)), yticklabels=list(reversed(KINDS)))
    ax.set_xlabel("bits per byte more than the whole model needs")
    ax.set_xticks([0.001, 0.01, 0.1, 1], ["0.001 or less", "0.01", "0.1", "1"])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return fig


extremes = "; ".join(
    f"{kind}, {put}: {signed(min(of[kind].values()))} to {signed(max(of[kind].values()))}"
    for kind in KINDS
    for put, of in costs.items()
)
costs_figure = figures.static(
    draw_costs,
    alt="What each removal costs in bits per byte, on a logarithmic axis. "
    f"All positions: {signed(without_positions)}. {extremes}.",
)


# %% tags=["nbval-ignore-output"]
def take_out(norms_in, positions_in, put, layer, mlp, head, second_head):
    chosen = {("a layer", layer), ("an MLP", mlp), ("a head", head), ("a head", second_head)}
    hooks = [] if norms_in else list(no_norms)
    for kind, name in chosen:
        hooks += removed[put][kind].get(name, [])
    bits = cost(hooks, model if positions_in else placed_at(0 * places))
    if not math.isfinite(bits):
        return Markdown("**No number**: the logits are not finite.")
    return Markdown(
        f"**{baseline + bits:.2f} bits per byte**, {signed(bits)} against the whole model"
    )


menus = {kind: ["none", *costs["zeros"][kind]] for kind in KINDS}
figures.live(
    take_out,
    costs_figure,
    with_twin=True,
    norms_in=True,
    positions_in=True,
    put=list(costs),
    layer=menus["a layer"],
    mlp=menus["an MLP"],
    head=menus["a head"],
    second_head=menus["a head"],
)

# %% [markdown]
# *One mark for each removal, measured on 512 tokens of four files; 0.001 and less, also where the loss falls, stand at the left edge. Without norms
# there is no number to draw.* The ranking depends on what is put in place:


# %%
def ranking(put):
    """The norms, then the dearest of each kind, worst first; = where two are within 0.01"""
    dear = {"all positions": without_positions}
    for kind in ("a layer", "an MLP", "a head"):
        name, bits = max(costs[put][kind].items(), key=lambda item: item[1])
        dear[f"{kind.split()[1]} {name}"] = bits
    line, last = "all norms: no number", math.inf
    for name in sorted(dear, key=dear.get, reverse=True):
        tie = last - dear[name] < 0.01
        line = f"{line.rpartition(':')[0]} = {name}" if tie else f"{line}; {name}"
        last = dear[name]
        line += f": {signed(last)}"
    return line


LITTLE = 0.1
cheap_heads = {
    put: sum(bits < LITTLE for bits in kinds["a head"].values()) for put, kinds in costs.items()
}
cheapest, cheapest_bits = min(costs["the mean"]["an MLP"].items(), key=lambda item: item[1])

# %% tags=["hide-input"]
Markdown(f"""
| filled | worst first, the dearest of each kind |
| --- | --- |
| with zeros | {ranking("zeros")} |
| with the mean | {ranking("the mean")} |

Hardly noticed: heads, of which {cheap_heads["zeros"]} of {L * H} with zeros and {cheap_heads["the mean"]} with means cost less than {LITTLE} bits per byte; and
MLP {cheapest}, whose {in_mlp:,} parameters are {in_mlp / n_parameters:.0%} of the model and are worth
{cheapest_bits:.2f} bits per byte.
""")

# %% [markdown]
# So losing the norms ruins the model; for the rest, the question *by kind* has no single answer, as the dearest and the cheapest of a kind lie far apart. And all this holds
# for one small model on one kind of text.
#
# **Explain: the norms.** Nothing brings the size of a row back, and SwiGLU multiplies two numbers that both grow with its input. That might say only that *some* division is needed, not that each row needs its own. The control keeps the gains and divides by a constant, the mean size that each
# norm meets on the practice files.

# %%
usual = {}


def note_size(norm, given, output):
    usual[norm] = given[0].square().mean(-1).sqrt().mean().item()


def by_constant(norm, given, output):
    return given[0] / usual[norm] * norm.weight


def in_short(size):
    return f"{size:.0e}" if math.isfinite(size) else "none"


with hooked([(norm, note_size) for norm in norms]), torch.inference_mode():
    model(practice)
constants = [(norm, by_constant) for norm in norms]
print("largest number in the stream after layer 0, 1, ...")
for name, hooks in {"norms": [], "constants": constants, "neither": no_norms}.items():
    with hooked(hooks):
        largest = streams(inputs)[1:].abs().flatten(1).amax(1).tolist()
    print(f"{name:10}" + "".join(f"{in_short(size):>8}" for size in largest))
one_by_one = [cost([hook]) for hook in constants]
dearest = one_by_one.index(max(one_by_one))
cheap = sum(bits < LITTLE for bits in one_by_one)
print(f"constant for one norm: {cheap} of {len(norms)} cost less than {LITTLE},", end=" ")
print(f"number {dearest} costs {max(one_by_one):+.1f}")
print(f"constants for the first {len(norms) - 1} at once: {cost(constants[:-1]):+.0f}")

# %% [markdown]
# Without norms, from layer 1 on the exponent more than doubles with each layer, until fp32 has no number so large. With constants the sizes still run away, only later. Most norms, one at a time, could be a
# constant at little cost (not the one before the attention of layer 5); the first twelve together could not, although the last one still divided. This model was trained with norms; whether one trained
# with constants would do is not tried.
#
# **A head that is a constant.** With zeros, head 2 of layer 0 costs more than all positions, and even more than zeros for all four heads of its layer: costs are no sums.
# With its mean in its place it costs next to nothing. How much of what a head adds is the same for every token, and how evenly does it read? (*Entropy* says how evenly a row of weights is spread:
# 0 for one token alone, the largest possible for all alike.)

# %%
handed = {}


def note_handed(o, given, output):
    handed[o] = given[0]


output_matrices = [block.attention.o for block in model.blocks]
with hooked([(o, note_handed) for o in output_matrices]), torch.inference_mode():
    model(practice)


def constant_share(layer, head):
    """Of the squared size of what a head adds: the part that its mean row has"""
    o, part = output_matrices[layer], slice(head * D, (head + 1) * D)
    added = handed[o][..., part] @ o.weight[:, part].T
    return (added.mean((0, 1)).square().sum() / added.square().sum(-1).mean()).item()


maps = torch.stack([tk.maps.attention_maps(model, row[None]) for row in inputs])
largest_entropy = torch.arange(2, maps.shape[-1] + 1).log()  # of an even spread; not row 0
evenness = (torch.special.entr(maps).sum(-1)[..., 1:] / largest_entropy).mean((0, -1))
just_before = maps.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1))
print("head   constant   entropy / largest possible   on the token before")
for layer, head in ((0, 0), (0, 1), (0, 2), (0, 3), (2, 0)):
    share, even = constant_share(layer, head), evenness[layer, head]
    print(f"{layer}.{head} {share:11.0%} {even:28.2f} {just_before[layer, head]:21.0%}")

# %% [markdown]
# The heads of layer 0 read all earlier tokens about alike, and hand over nearly the same row whatever the text: a constant on which later parts rely. Zero takes it
# away; the mean leaves it. So the large figure measured how much the rest *relies* on that row, not what the head *knows*. Head 0 of layer 2, the dearest by its mean, is of another kind:
# it reads the token just before.
#
# **The MLP of layer 0** is dear either way. It writes nearly all of what layer 1 starts from (section 3), and a mean row is the
# same for every token. With means, layer 0 costs what its MLP alone costs: its attention was a constant.
#
# **Cheap is not idle.** Another part may do the same, so that either can go and not both: exercise 4 tries pairs of heads. In large models, later layers have been seen to make up for an attention layer that was taken out
# ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771)).

# %% [markdown]
# ## 9. GPT-2 and Falcon: the same program with other switches
#
# Families differ most in the norm, the positions, the MLP, and whether attention and MLP
# take turns. Falcon lets both read the stream as it was, and adds both at once,
#
# $$x \;\to\; x + \mathrm{attention}(\mathrm{norm}_1(x)) + \mathrm{MLP}(\mathrm{norm}_2(x)),$$
#
# a *parallel* layer. Falcon-7B's two parts share one norm (`parallel_norms=1`); Falcon-40B gives each its own. GPT-2 adds a learnt row for each position to the embedding's, and rotates nothing. Its MLP has no gate, only
# $W_\mathrm{down}\,\mathrm{gelu}(W_\mathrm{up}\,x)$, where gelu is a curve much like silu; and all its matrices but the head add a *bias*, a learnt vector.
#
# Below, `transformers` writes small models of random parameters to a folder, and `tk.load` reads it.

# %%
random_tokens = torch.randint(101, (2, 23), generator=generator)


def load_as_written(small_config):
    """A random model, read from the files that transformers writes -> (config, same logits?)"""
    theirs = transformers.AutoModelForCausalLM.from_config(small_config).eval()
    with (
        torch.no_grad()
    ):  # new norms are all 1 and new biases all 0, which would hide a mistake
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    with tempfile.TemporaryDirectory() as written, torch.inference_mode():
        theirs.save_pretrained(written)
        ours = tk.load(written)
        return ours.config, same(ours(random_tokens), theirs(random_tokens).logits)


ids = {"vocab_size": 101, "bos_token_id": 0, "eos_token_id": 0}
gpt2 = transformers.GPT2Config(**ids, n_positions=64, n_embd=48, n_layer=2, n_head=4)
falcon = transformers.FalconConfig(
    **ids, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, alibi=False
)
small = {"GPT-2": load_as_written(gpt2), "Falcon": load_as_written(falcon)}

# %% tags=["hide-input"]
shapes = {"bundled": config, **{family: read for family, (read, _) in small.items()}}
print(f"{'':18}" + "".join(f"{family:>11}" for family in shapes))
for field in (
    "norm",
    "position",
    "gated_mlp",
    "activation",
    "parallel_residual",
    "n_heads",
    "n_kv_heads",
    "qkv_bias",
):
    print(f"{field:18}" + "".join(f"{getattr(s, field)!s:>11}" for s in shapes.values()))
print("logits equal to transformers':", {family: equal for family, (_, equal) in small.items()})

# %% [markdown]
# **Build.** The count of section 1 covers Llama. With the other switches, LayerNorm has a bias beside its gains, a matrix with a bias (`qkv_bias`, `o_bias`,
# `mlp_bias`) has one more number for each row, and learnt positions are one more row for each place. The control: a `Decoder` of that shape on PyTorch's device `meta`, where tensors have shapes and no memory.


# %%
def count_any(c):
    """Parameters of a decoder, from its configuration"""
    query, key = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    norm = c.d_model * (1 if c.norm == "rms" else 2)
    biases = c.qkv_bias * (query + 2 * key) + c.o_bias * c.d_model
    attention = 2 * c.d_model * (query + key) + biases
    widening = 2 if c.gated_mlp else 1
    mlp = (widening + 1) * c.d_model * c.d_ff + c.mlp_bias * (widening * c.d_ff + c.d_model)
    n_norms = c.parallel_norms if c.parallel_residual else 2
    rows = c.vocab_size * (1 if c.tied else 2) + c.context * (c.position == "learned")
    return c.d_model * rows + c.n_layers * (attention + mlp + n_norms * norm) + norm


def llama(n_layers, d_model, n_heads, d_ff, vocab_size=32_000, **more):
    return tk.ModelConfig(vocab_size, d_model, n_layers, n_heads, d_ff, **more)


plain = {"norm": "layer", "gated_mlp": False, "activation": "gelu", "tied": True}
biases = {"qkv_bias": True, "o_bias": True, "mlp_bias": True, "position": "learned"}
one_norm = {"parallel_residual": True, "parallel_norms": 1}
published = {
    "bundled": config,
    "GPT-2": tk.ModelConfig(50257, 768, 12, 12, 3072, context=1024, **plain, **biases),
    "Falcon-7B": tk.ModelConfig(65024, 4544, 32, 71, 18_176, n_kv_heads=1, **plain, **one_norm),
    "Llama-3.2-1B": llama(16, 2048, 32, 8192, vocab_size=128_256, n_kv_heads=8, tied=True),
    "LLaMA-7B": llama(32, 4096, 32, 11_008),
    "LLaMA-65B": llama(80, 8192, 64, 22_016),
}
for name, shape in published.items():
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in tk.Decoder(shape).parameters())
    print(f"{name:13}{count_any(shape):15,}  a model of that shape: {built:15,}")

# %% [markdown]
# The shapes are from the models' own `config.json`: [GPT-2](https://huggingface.co/openai-community/gpt2/blob/main/config.json),
# [Falcon-7B](https://huggingface.co/tiiuae/falcon-7b/blob/main/config.json), [Llama-3.2-1B](https://huggingface.co/meta-llama/Llama-3.2-1B/blob/main/config.json), and from
# [LLaMA](https://arxiv.org/abs/2302.13971), table 2, with the MLP widths of the [converted checkpoints](https://huggingface.co/huggyllama/llama-65b/blob/main/config.json).

# %% [markdown]
# ## 10. What one token costs
#
# **Predict.** A matrix that multiplies one row takes two FLOPs for each of its numbers, a multiplication and an addition. Let $n$ be the number of parameters in all matrices. How many FLOPs does the model take for one token, and how many for $T$?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# For one token $2n$, and a little for attention. For $T$, $2Tn$ and in each layer the first lesson's $4HTSD$ with $S = T$: together $2Tn + 4LHT^2D$. In $n$ the embedding counts once: it is looked up,
# but as the head it is a matrix.
#
# </details>

# %%
from torch.utils.flop_counter import FlopCounterMode

in_matrices = n_parameters - parts["norms"]
print("   T    FLOPs counted   by the formula")
for T in (1, 10, 100):
    with FlopCounterMode(display=False) as counter:
        model(inputs[:1, :T])
    formula = 2 * T * in_matrices + 4 * L * H * D * T**2
    print(f"{T:4} {counter.get_total_flops():16,} {formula:16,}")
of_attention = 4 * L * H * D / (2 * in_matrices + 4 * L * H * D)
print(f"for one token, the part that is attention over tokens: {of_attention:.1%}")

# %% [markdown]
# **Explain.** For the matrix products the formula is exact; norms, softmax and silu are by custom not counted.
#
# Now the bytes. For the logits of one token, each number of the matrices is fetched from memory, multiplied once, added once, and done with: in 16 bits,
# two FLOPs for two bytes. An A100 (the SXM card, 80 GB) could do some 150 FLOPs with each byte that it reads
# ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)), and is asked for one.
# Writing one token at a time, a large model spends its time on moving bytes. Hence the name of this course, *Memory Bound*.
#
# The way out is in the formula, too. The matrices are the same for all $T$ tokens: used on 100 rows, each byte serves 100 times. A prompt's tokens are all known, so they share one reading; an answer's tokens come one by one.

# %% [markdown]
# ## What real systems do
#
# - **They merge and fuse.** vLLM's [Llama](https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/models/llama.py) computes $q$, $k$ and $v$ in one product, gate and up in another, and adds to the stream in the same pass that norms it.
# - **They norm first.** The first transformer normed after the addition; in front of each part, training needs no slow start of the learning rate
#   ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)). Qwen3 also norms queries and keys, head by head ([Qwen3](https://arxiv.org/abs/2505.09388)).
# - **They stretch the rotation for longer texts.** Llama 3 raised $\theta$ to 500,000 ([Llama 3](https://arxiv.org/abs/2407.21783), section 3.2), and newer ones slow only the slow pairs (`teachkit.config.RopeScaling`).
# - **Small models often tie the head**; large ones such as [Llama-3.1-8B](https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json) mostly do not.
# - **They take layers out on purpose.** Many deeper layers of large models can go at little cost on question answering, after a little further training
#   ([Gromov et al. 2024](https://arxiv.org/abs/2403.17887)).

# %% [markdown]
# ## What the sources claim, checked

# %%
sizes = {name: count_any(shape) for name, shape in published.items()}
llama_sizes = [
    sizes["LLaMA-7B"],
    count_any(llama(40, 5120, 40, 13_824)),
    count_any(llama(60, 6656, 52, 17_920)),
    sizes["LLaMA-65B"],
]
untied_falcon = sizes["Falcon-7B"] + 65_024 * 4544
attention_share = 4 * 32 * 4096 * 2048 / (2 * sizes["LLaMA-7B"])  # one token, 2,048 keys

# %% tags=["hide-input"]
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| GPT-2's smallest model has 117M parameters | [Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf), table 2 | Wrong: {sizes["GPT-2"] / 1e6:.1f} million. The authors say so themselves in their [repository](https://github.com/openai/gpt-2#gpt-2). |
| LLaMA has 6.7, 13.0, 32.5 and 65.2 billion parameters | [LLaMA](https://arxiv.org/abs/2302.13971), table 2 | Right, with the last cut off rather than rounded: {", ".join(f"{n / 1e9:.2f}" for n in llama_sizes)}. |
| Falcon-7B has 7 billion parameters | its [page](https://huggingface.co/tiiuae/falcon-7b) | Right, rounded: {sizes["Falcon-7B"] / 1e9:.2f} billion with the tied head that `transformers` assumes, as `config.json` says nothing; {untied_falcon / 1e9:.2f} billion in a file that stores the head as well. |
| One step (the next token of every sequence in the batch) loads roughly as much memory as the model has parameters | T. Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk, October 2023 | Right in numbers: section 10. In bytes, twice as much in 16 bits: {2 * sizes["LLaMA-7B"] / 1e9:.1f} GB for LLaMA-7B. |
| One step takes 2 FLOPs per parameter and sequence | same talk | Right for the matrices. Attention adds {attention_share:.0%} at the 2,048 tokens of LLaMA-7B's context, and the embedding, where it is not the head, takes none. |
""")

# %% [markdown]
# ## Exercises
#
# **1. The wrong clock.** Run the model with another $\theta$ than it was trained with, by `dataclasses.replace(config, rope_theta=...)`. Which pairs of a head change speed, which hardly? Predict whether
# a factor of 2 is a disaster, and a factor of 100.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# import dataclasses
#
# for theta_now in (100, 1_000, 5_000, 10_000, 20_000, 1_000_000):
#     other = dataclasses.replace(config, rope_theta=float(theta_now))
#     print(f"{theta_now:9,} {bits_per_byte(lambda tokens: logits_of(tokens, c=other)):.2f}")
# # 100: 1.75   1,000: 1.61   5,000: 1.56   10,000: 1.55   20,000: 1.55   1,000,000: 1.61
# ```
#
# Neither is. Pair 0 always turns by one radian per token; the slower the pair, the more it changes. A factor of 2 does next to nothing, one of 100 costs a few hundredths upwards and two tenths downwards. This is consistent with
# heads that look at neighbours by the fast pairs, and with excerpts of 128 tokens that hardly use the slowest; and with raising $\theta$ for longer texts by a little further training.
#
# </details>
#
# **2. The other convention.** Hugging Face's Llama checkpoints pair $x_i$ with $x_{i + D/2}$; the paper pairs neighbours, $x_{2i}$ and $x_{2i+1}$. Write `rotate_neighbours`, and put it in the place of `rotate`: the logits have the right shape and are wrong. Then mend the result without touching your function: which rows of $W_q$ and
# $W_k$ have to change places?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def rotate_neighbours(x, positions, theta):
#     speed = theta ** -(torch.arange(0, D, 2) / D)
#     angle = positions[:, None] * speed
#     a, b = x[..., 0::2], x[..., 1::2]
#     turned = (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin())
#     return torch.stack(turned, -1).flatten(-2)
#
# order = torch.arange(D).view(2, D // 2).T.flatten()  # 0, 32, 1, 33, ...
# mended = dict(weights)
# for name, matrix in weights.items():
#     if "q_proj" in name or "k_proj" in name:
#         mended[name] = matrix.unflatten(0, (-1, D))[:, order].flatten(0, 1)
# for w in (weights, mended):
#     print(f"{bits_per_byte(lambda tokens: logits_of(tokens, w=w, turn=rotate_neighbours)):.2f}")  # 1.93, then 1.55
# ```
#
# In each head, row $i$ and row $i + D/2$ become neighbours. Queries and keys are permuted alike, and a dot product does not mind. Conversion scripts do just this.
#
# </details>
#
# **3. Gains for nothing.** The gains of a norm can be multiplied into the matrices that read it, and set to 1, without a change of the logits. Do it for all norms but the last. Why is the last one different here?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# folded = dict(weights)
# for i in range(L):
#     readers = {"input_layernorm": ("self_attn.q", "self_attn.k", "self_attn.v"),
#                "post_attention_layernorm": ("mlp.gate", "mlp.up")}
#     for norm_name, matrices in readers.items():
#         gain = weights[f"model.layers.{i}.{norm_name}.weight"]
#         folded[f"model.layers.{i}.{norm_name}.weight"] = torch.ones(C)
#         for matrix in matrices:
#             name = f"model.layers.{i}.{matrix}_proj.weight"
#             folded[name] = weights[name] * gain  # scales the columns
# print(same(logits_of(inputs, w=folded), logits_of(inputs), 1e-2))  # True
# ```
#
# The last norm is read by the head, and the head is the embedding: scaled columns there would also change every token's first row. An untied head could take them.
#
# </details>
#
# **4. Together.** Put means in the place of two heads of the last layer at once, for each of the six pairs. If each head had work of its own, and losses added up, a pair would cost the sum of the two. What does it cost?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# heads_off = removed["the mean"]["a head"]
# for a in range(H):
#     for b in range(a + 1, H):
#         pair = [f"{L - 1}.{h}" for h in (a, b)]
#         both = cost(heads_off[pair[0]] + heads_off[pair[1]])
#         print(pair, signed(both), "sum", signed(sum(costs["the mean"]["a head"][h] for h in pair)))
# # 0 and 1: +0.10, sum +0.06   0 and 2: +0.08, +0.08   0 and 3: +0.06, +0.05
# # 1 and 2: +0.04, sum +0.04   1 and 3: +0.02, +0.01   2 and 3: +0.06, +0.03
# ```
#
# Where *together* exceeds the sum, as for 0 and 1, the second head was worth more once the first was gone, as it would be if each could do part of the other's work. Two that merely add up, such as 0 and 2, show that excess is not a rule of the measure. With 512 tokens, differences
# of 0.01 mean nothing.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("model")

# %% [markdown]
# Then in your own words:
#
# **A.** Somebody multiplies the last state of the stream by 3, just before the last norm. Which logits change? And if the state after layer 2 is multiplied by 3?
#
# <details>
# <summary>Answer</summary>
#
# None: the norm divides the 3 out. After layer 2 it does change the result, although the next norm divides it out: the attention of layer 3 adds what it added before, but to a row three times as
# long. In proportion that is a third, so from there on the rows point elsewhere.
#
# </details>
#
# **B.** A converted checkpoint gives exactly the right logits for a text of one token, and wrong ones from the second token on. Which part do you look at first?
#
# <details>
# <summary>Answer</summary>
#
# The rotation. At position 0 every angle is 0, and one token attends to itself whatever its score. All that does not depend on place or on other tokens must be right: embedding, norms, values, $W_o$, MLPs, head. After it, the scores: $W_q$, $W_k$, scale and mask are not tested by one token either.
#
# </details>
#
# **C.** You double $V$ and leave the rest. What happens to the parameters of the layers, to the FLOPs for one token, and to the bytes that are read for one token?
#
# <details>
# <summary>Answer</summary>
#
# The layers stay as they are. FLOPs and bytes grow by the head's: $2VC$ FLOPs more, and $VC$ numbers more to read. The table of rows for looking up doubles as well, but of that one row per token is read; if the head is tied, the two are one matrix.
#
# </details>
#
# ## Not covered here
#
# How the parameters came to be: training. How a tokenizer is made, and how an answer comes out of logits: next chapter. Mixtures of experts, models with state instead of attention, encoders.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
