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
#       - Count a model's parameters from its configuration, and predict the size of its file to the byte
#       - Build RMSNorm, rotary positions and SwiGLU, and say what each is there for
#       - Compute a trained model's logits from the numbers in its file, equal to transformers' on the same folder
#       - Read the residual stream between the layers, and say what such a reading does not show
#       - Take parts out of a model, measure in bits per byte what each was worth, and say what such a figure depends on
#       - Read GPT-2 and Falcon as variations of one decoder, and count the FLOPs and bytes of one token
#     minutes: 75
#     lab: null
# ---

# %% [markdown]
# # From token to logits: what a model is made of
#
# You may take one thing out of a trained model and go on using it as it is: all of its norms, all knowledge of positions, one whole layer, one
# MLP, or one attention head. **Which removal ruins the model, and which does it hardly notice?**
#
# Write down your ranking, worst first. Norms and positions are explained below; guess. At the end you will have taken
# out every one of them.
#
# **Afterwards you can**
#
# - count a model's parameters from its configuration, and predict the size of its file to the byte;
# - build RMSNorm, rotary positions and SwiGLU, and say what each is there for;
# - compute a trained model's logits from the numbers in its file, equal to `transformers`' on the same folder;
# - read the residual stream between the layers, and say what such a reading does not show;
# - take parts out of a model, measure in bits per byte what each was worth, and say what such a figure depends on;
# - read GPT-2 and Falcon as variations of one decoder, and count the FLOPs and bytes of one token.
#
# **You need** the first lesson, on attention: queries, keys and values, heads that share keys, the causal mask, logits, bits per token. No GPU,
# and no network once `teachkit` is installed. Allow an hour and a quarter, and half as much again for the exercises. Letters as before: $T$ tokens, $L$ layers, $H$
# query heads on $H_{kv}$ key/value heads of $D$ numbers, $C$ numbers in a token's vector, $V$ tokens in the vocabulary. New is $F$, the width
# inside an MLP.

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
# The model that comes with `teachkit` is a folder, as models on the Hugging Face hub are. `config.json` in it says what the model looks
# like:

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
# Two of the nine are constants in a formula: $\epsilon$ in section 3, $\theta$ in section 4. The other seven give the shape of every tensor in the model:
#
# | part | shape, (to, from) | how often |
# | --- | --- | --- |
# | embedding | $(V, C)$ | once |
# | attention: $W_q$, $W_o$ | $(HD, C)$, $(C, HD)$ | in each layer |
# | attention: $W_k$, $W_v$ | $(H_{kv}D, C)$ each | in each layer |
# | MLP: $W_\mathrm{gate}$, $W_\mathrm{up}$, $W_\mathrm{down}$ | $(F, C)$, $(F, C)$, $(C, F)$ | in each layer |
# | norms | $(C)$ | two in each layer, one at the end |
# | head, which gives the logits | $(V, C)$: the embedding, used a second time | – |
#
# The last row is a choice, made by a tenth entry of the file, `"tie_word_embeddings": true`. Such a head is called *tied*.
#
# **Predict.** With pen and paper, from the nine numbers: which holds most of the parameters, the embedding, the attention or the MLPs? And how
# large is the file of parameters, if each takes 2 bytes?


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
# `model.safetensors` holds them. The format is plain: 8 bytes with the length of a header; the header, in JSON, with the name, number format,
# shape and place of each tensor; then the numbers, and nothing else ([safetensors](https://huggingface.co/docs/safetensors/index)). So the size
# of the file should be known to the byte. Not by us, though, before we look: the header's length depends on how it is written.

# %%
path = folder / "model.safetensors"
with path.open("rb") as file:
    header_bytes = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(header_bytes))
del header["__metadata__"]
stored = sum(math.prod(tensor["shape"]) for tensor in header.values())
predicted, on_disk = 8 + header_bytes + 2 * n_parameters, path.stat().st_size

print(
    f"{len(header)} tensors of {stored:,} numbers; counted by hand: the same {stored == n_parameters}"
)
print(f"8 + {header_bytes:,} + 2 x {n_parameters:,} = {predicted:,} bytes")
print(f"on disk {on_disk:,} bytes; as predicted: {on_disk == predicted}")
for name in list(header)[:4]:
    print(f"  {header[name]['dtype']}  {header[name]['shape']!s:12} {name}")

# %% [markdown]
# **Explain.** There is no code in the file and no picture of how the tensors are connected: a configuration, names, and numbers. `BF16` is the upper
# half of an fp32 number, with its range and fewer of its digits; `tk.load` widens each to fp32. What connects the tensors is the program
# that the rest of this lesson writes:
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
embedding = model.embedding.weight
x = embedding[tokens]
one_hot = F.one_hot(tokens, config.vocab_size).float()
print(" | ".join(figures.visible(piece) for piece in pieces))
print("tokens", tuple(tokens.shape), "-> x", tuple(x.shape))
print("the same as a matrix product:", torch.equal(one_hot @ embedding, x))

# %% [markdown]
# The tokenizer cuts the text and looks each piece up in a list of $V$; the embedding looks each number up in a table of $V$ rows. In formulas the latter is
# a product with a row of zeros and a single 1; in code it is an index, and costs next to nothing.
#
# From here on the model carries one row of $C$ numbers for each token, all the way up. Attention and MLPs read the rows and *add* to them; none
# replaces them. What is carried is called the *residual stream*
# ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)).
#
# **Predict.** There are two commas in the text, at places 8 and 10. Do they start with the same row? And after the first layer?
#
# To look, we use *hooks*: functions that PyTorch calls when a module has run. They read what passes, and what a hook returns, if anything,
# takes the place of the module's output.


# %%
@contextmanager
def hooked(hooks):
    """Inside, each (module, hook) calls hook(module, inputs, output) when the module has run."""
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
    with hooked(
        [(module, lambda module, inputs, output: kept.append(output)) for module in modules]
    ):
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
# **Explain.** A row of the embedding says which token it is and nothing more: not where it stands, not what came before. Everything
# else is added on the way. (The two `x` are no example: `x` and `x␣`, with the space behind it, are different tokens of the vocabulary.)

# %% [markdown]
# ## 3. RMSNorm: the same size for everyone
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
    """x (..., C), gain (C): divide by the root mean square, multiply each channel by its gain"""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def same(a, b, within=1e-4):
    """Equal but for rounding"""
    return bool((a - b).abs().max() < within)


norm, eps, x = model.blocks[3].mlp_norm, config.norm_eps, stream[3]
ours = rms_norm(x, norm.weight, eps)
print("equals teachkit's:", same(ours, norm(x)))
print("equals PyTorch's: ", same(ours, F.rms_norm(x, (C,), norm.weight, eps)))
print("\n            10 x    x + 1")
for name, function in {
    "RMSNorm": lambda x: rms_norm(x, norm.weight, eps),
    "LayerNorm": lambda x: F.layer_norm(x, (C,), norm.weight),
}.items():
    times, plus = (same(function(changed), function(x)) for changed in (10 * x, x + 1))
    print(f"{name:10} {'same' if times else 'differs':8} {'same' if plus else 'differs'}")

# %% [markdown]
# After a norm, only the *direction* of a row counts; LayerNorm forgets a common offset, too. The $\epsilon$ keeps a row of zeros from being divided by zero; beside
# ordinary rows it is lost in rounding.
#
# **Predict.** Why would size have to be taken out? Follow it: the rows of the embedding have a root mean square of 0.1. What will it be after six
# layers, each of which adds twice: still about 0.1, about 1, or above 10?


# %%
def rms(x):
    """(..., T, C) -> mean over tokens of the root mean square of a row"""
    return x.square().mean(-1).sqrt().flatten(1).mean(1)


def row(name, values, width=6):
    print(f"{name:22}" + "".join(f"{value:{width}.2g}" for value in values))


added_by_attention = outputs([block.attention for block in model.blocks], tokens)
added_by_mlp = outputs([block.mlp for block in model.blocks], tokens)
row("before the layer", rms(streams(tokens))[:-1])
row("added by attention", rms(added_by_attention))
row("added by the MLP", rms(added_by_mlp))
row("after the layer", rms(streams(tokens))[1:])

# %% [markdown]
# **Explain.** One column per layer. The MLP of layer 0 writes a row many times the size of the one that came out of the embedding, and the later parts add to that. An attention in layer 5
# that read the stream as it is would meet numbers over a hundred times those of layer 0, and different ones for different tokens. Read through a norm, they all come in
# one size. The stream itself is never divided: what has been added stays, and a later part has to add more to change the direction as much.

# %% [markdown]
# ## 4. Rotary positions: turned by place
#
# A score is a dot product of a query and a key, and neither says where it stands. *Rotary positions*
# ([Su et al. 2021](https://arxiv.org/abs/2104.09864)) put the place in by turning. Take two numbers of a query, $(a, b)$, as a point in the plane,
# and turn it by an angle $\varphi$ that grows with the token's position:
#
# $$(a,\ b) \;\to\; (a \cos\varphi - b \sin\varphi,\ \ b \cos\varphi + a \sin\varphi)$$
#
# Do the same with a key. The dot product of two arrows depends on their lengths and on the angle *between* them. If the query has been turned by $p\,\omega$ and
# the key by $p'\omega$, the angle between them has changed by $(p - p')\,\omega$: only the **distance** counts.
#
# One speed $\omega$ would be ambiguous, since after a full turn everything looks as before. So the $D$ numbers of a head make $D/2$ pairs, and each
# pair has its own speed, in radians per token:
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
query, key = torch.randn(2, 1, 1, 40, D, generator=generator)
positions = torch.arange(40)
cos_sin = tk.layers.rope_angles(positions[None], speed, torch.float32)
print(
    "equals teachkit's:",
    same(rotate(query, positions, theta), tk.layers.apply_rope(query, *cos_sin)),
)

# %% [markdown]
# Which two numbers make a pair is a convention. Here $x_i$ goes with $x_{i + D/2}$, as in all of Hugging Face's Llama checkpoints; the paper pairs neighbours,
# $x_{2i}$ and $x_{2i+1}$. A checkpoint of the one kind, run by code of the other, gives logits of the right shape that are wrong (exercise 2).
#
# The pairs work like the hands of a clock: fast ones tell near places apart and soon repeat themselves, slow ones tell far places apart and hardly move between
# neighbours.

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
    fig.axes[1].set_ylabel("part of the score")
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
    "as the distance grows. Predicted, from the formula.*"
)

# %% [markdown]
# **Measure.** First one score. The same query and the same key stand at different places; the control is another distance.


# %%
def score(p, q):
    """The score of the same query at position p and key at position q"""
    turned_query, turned_key = (
        rotate(x[0, 0, :1], torch.tensor([place]), theta) for x, place in ((query, p), (key, q))
    )
    return (turned_query * turned_key).sum().item()


for p, q in ((3, 0), (103, 100), (903, 900), (10, 0)):
    print(f"query at {p:3}, key at {q:3}, distance {p - q:2}: score {score(p, q):5.1f}")

# %% [markdown]
# Then the whole model, by its loss on the first 128 tokens of four files of Python's library that were kept out of training. The loss is given in *bits per byte*: the sum of
# the bits that the tokens cost, divided by the bytes of the text instead of the tokens, so that models with different tokenizers can be compared. Beginnings are hard, with little read so far; over
# whole files this model needs fewer bits, as its model card in this book says.
#
# **Predict.** *Shifted*: all positions are larger by 100. *Stretched*, the control: all positions are doubled, so that every distance changes. What does either do to the loss?

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


class Placed(tk.cache.UncachedStep):
    """A forward pass whose tokens stand at the given positions instead of 0, 1, 2, ..."""

    def __init__(self, tokens, positions):
        super().__init__(config, tokens)
        self.positions = positions.expand(tokens.shape)


def placed_at(positions):
    return lambda tokens: model(tokens, step=Placed(tokens, positions))


# %%
places = torch.arange(inputs.shape[1])
baseline = bits_per_byte(model)
print(f"as trained  {baseline:.2f} bits per byte")
for name, positions in {"shifted": places + 100, "stretched": 2 * places}.items():
    print(f"{name:11} {bits_per_byte(placed_at(positions)):.2f} bits per byte")

# %% [markdown]
# **Explain.** Shifted, the model computes the same scores to within rounding, and so the same everything. The positions in this model are only distances. Stretched, every distance is
# one that the heads were not trained to expect, and the loss rises. Where a text ends is nowhere a limit of the formula; that a model does badly beyond the length it was trained on is a matter of distances
# that it has never met ([Chen et al. 2023](https://arxiv.org/abs/2306.15595) squeeze them back into the known range).

# %% [markdown]
# ## 5. SwiGLU: where most parameters are
#
# The other half of a layer looks at each row by itself. Llama's MLP ([Shazeer 2020](https://arxiv.org/abs/2002.05202)) has three matrices:
#
# $$\mathrm{MLP}(x) = W_\mathrm{down}\,\bigl(\mathrm{silu}(W_\mathrm{gate}\,x) \odot W_\mathrm{up}\,x\bigr), \qquad \mathrm{silu}(z) = \frac{z}{1 + e^{-z}}$$
#
# $W_\mathrm{gate}$ and $W_\mathrm{up}$ make two sets of $F$ numbers from the row. The first passes through silu, which is nearly 0 for numbers well below 0 and nearly $z$ for
# numbers well above; it then multiplies the second, and so decides which of those come through. $W_\mathrm{down}$ takes the $F$ numbers back to $C$.
#
# **Predict.** If $W_\mathrm{gate}$ and $W_\mathrm{up}$ change places, is the result the same?


# %%
def swiglu(x, gate, up, down):
    """x (..., C), gate and up (F, C), down (C, F)"""
    z = x @ gate.T
    return (z * z.sigmoid() * (x @ up.T)) @ down.T


mlp = model.blocks[3].mlp
x = model.blocks[3].mlp_norm(stream[3])
gate, up, down = mlp.gate.weight, mlp.up.weight, mlp.down.weight
order = torch.randperm(len(x), generator=generator)
print("equals teachkit's:                       ", same(swiglu(x, gate, up, down), mlp(x)))
print("gate and up exchanged:                   ", same(swiglu(x, up, gate, down), mlp(x)))
print("rows shuffled first, or shuffled after:  ", same(mlp(x[order]), mlp(x)[order]))
in_mlp, in_attention = parts["MLPs"] // L, parts["attention"] // L
print(f"parameters of a layer that are in its MLP: {in_mlp / (in_mlp + in_attention):.0%}")

# %% [markdown]
# **Explain.** Exchanged, they are not the same: only one of the two passes through silu. And the last line is no accident of this model. With as many key/value heads as query heads, attention has $4C^2$ parameters; with
# $F = \tfrac{8}{3}C$, three matrices have $3 \cdot \tfrac{8}{3} C^2 = 8C^2$, twice as many, and just what two matrices of the older width $4C$ had. Shared key/value
# heads tilt it further.

# %% [markdown]
# ## 6. All of it, from the file
#
# Now nothing of `teachkit`'s model: the numbers in the file by the names that they have there, three functions from above, and the attention of the first lesson.

# %%
weights = {name: tensor.float() for name, tensor in load_file(path).items()}


def heads(x, matrix):
    """(B, T, C) -> (B, heads, T, D)"""
    return (x @ matrix.T).unflatten(-1, (-1, D)).transpose(1, 2)


def logits_of(tokens, w=weights, c=config, rotate=rotate):
    """tokens (B, T) -> logits (B, T, V), from the tensors of the file"""
    positions = torch.arange(tokens.shape[1])
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c.n_layers):
        layer = f"model.layers.{i}."
        read = rms_norm(x, w[layer + "input_layernorm.weight"], c.norm_eps)
        q, k, v = (heads(read, w[f"{layer}self_attn.{name}_proj.weight"]) for name in "qkv")
        q, k = (rotate(each, positions, c.rope_theta) for each in (q, k))
        out = tk.attention.scaled_dot_product_attention(q, k, v, causal=True)
        x = x + out.transpose(1, 2).flatten(2) @ w[layer + "self_attn.o_proj.weight"].T
        read = rms_norm(x, w[layer + "post_attention_layernorm.weight"], c.norm_eps)
        x = x + swiglu(
            read, *(w[f"{layer}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        )
    return rms_norm(x, w["model.norm.weight"], c.norm_eps) @ w["model.embed_tokens.weight"].T


theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
with torch.inference_mode():
    ours = logits_of(inputs)
    others = {"teachkit": model(inputs), "transformers": theirs(inputs).logits}
print("logits", tuple(ours.shape), "spread over", round((ours.max() - ours.min()).item()))
for name, logits in others.items():
    best = (logits.argmax(-1) == ours.argmax(-1)).float().mean().item()
    print(
        f"{name:12} differs by less than 0.001: {same(ours, logits, 1e-3)}, same best token: {best:.1%}"
    )
print(f"{bits_per_byte(logits_of):.2f} bits per byte")

# %% [markdown]
# Eight lines in the loop, and that is a layer of a Llama. The published ones are the same program with larger numbers in place of the nine. `transformers` shares no code with ours: to agree by
# mistake, both would have to be wrong in the same way.

# %% [markdown]
# ## 7. Reading between the layers
#
# The last norm and the head turn the last state of the stream into logits. The earlier states have the same shape, so nothing keeps us from sending one of those through norm and head
# and looking at what would be said. That is the *logit lens* ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens)).
#
# **Predict.** Read before the first layer, straight off the embedding, what does the model say comes after a comma?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# A comma. The head is the embedding: the logit of token $v$ is the dot product of row $v$ with what has been read, and what has been read is the row of the comma. Hardly any row
# suits it as well as its own; only a few, longer ones can get ahead.
#
# </details>


# %%
def lens(states):
    """Probabilities of the next token, read off states (..., C) of the stream"""
    return model.project(model.norm(states)).softmax(-1)


def bits_of(logits):
    return bits_per_byte(lambda tokens: logits)


by_state = streams(inputs)
itself = (lens(by_state[0]).argmax(-1) == inputs).float().mean().item()
guess = math.log2(config.vocab_size) * targets.numel() / n_bytes
lens_bits = [bits_of(model.project(model.norm(state))) for state in by_state]
print(
    f"before any layer, the likeliest next token is the one just read: {itself:.0%} of the time"
)
print("                      emb.   after layer 0, 1, ...")
print(f"{'bits per byte':20}" + "".join(f"{bits:6.1f}" for bits in lens_bits))
print(f"all tokens equally likely: {guess:.1f}")

# %% tags=["nbval-ignore-output"]
probs = lens(streams(tokens)[:, 0])
top = probs.topk(5)


def name_of(i):
    return "<start>" if i == START else model.tokenizer.decode([i])


said = [[[name_of(i) for i in cell] for cell in row] for row in top.indices.tolist()]
figures.logit_lens(pieces, said, top.values)

# %% [markdown]
# Go along a row: `(self` knows early that a comma follows, `def␣` settles on `__init__` only at the end. Put a text of your own into `TEXT` in section 2 and run the cells again.
#
# Between the first layer and the last, the reading is hardly better than guessing blindly, and for some layers worse. Is the knowledge not there
# yet, or is it there in a form that the head does not read? No layer but the last was ever trained to be read by the head. **Measure**, with a
# translator: for each state, the one matrix that best turns it, on 16 *other* files, into the last state. It is linear; what it finds has been in the state.


# %%
def normed(states):
    """(..., C) -> (n, C + 1): rows of equal size, and a 1 for a constant to be added"""
    flat = F.rms_norm(states.flatten(0, -2), (C,)).double()
    return torch.cat((flat, torch.ones(len(flat), 1)), 1)


practice = torch.cat([encode(held_out[name])[:, :256] for name in by_length[-20:-4]])
known = streams(practice)
goal = normed(known[-1])
translated_bits = []
for practised, state in zip(known, by_state):
    rows = normed(practised)
    # Least squares, with a small penalty on large entries.
    translator = torch.linalg.solve(rows.T @ rows + 10 * torch.eye(C + 1), rows.T @ goal)
    last = (normed(state) @ translator)[:, :C].float().view_as(state)
    translated_bits.append(bits_of(model.project(model.norm(last))))
print("bits per byte         emb.   after layer 0, 1, ...")
print(f"{'read directly':20}" + "".join(f"{bits:6.1f}" for bits in lens_bits))
print(f"{'through a matrix':20}" + "".join(f"{bits:6.1f}" for bits in translated_bits))

# %% [markdown]
# **Explain.** Through the translator every layer is an improvement on the one before. So knowledge does arrive step by step; it is the head's *language* that
# the stream takes on only at the end. A lens shows what the head would say, not what the stream contains. Trained translators of this kind are called tuned lenses
# ([Belrose et al. 2023](https://arxiv.org/abs/2303.08112)). In larger models the direct lens has been found to make sense much earlier than here, but not in all of them (same paper).

# %% [markdown]
# ## 8. Taking parts out
#
# Nothing replaces the stream, everything adds to it. So a part can be left out by letting it add zeros, and the rest still runs. The hooks of
# section 2 do it, on the same four excerpts:
#
# - *an MLP*, *an attention*: what it adds becomes 0; *a layer*: both;
# - *a head*: $W_o$ sums over the heads, and one term of the sum is taken out;
# - *the norms*: each passes on what it was given;
# - *the positions*: all tokens stand at position 0.
#
# Zeros are a harsh substitute: the rest of the model was trained with something in that place. So each part is also replaced by its *mean*, the
# one row that it adds on average over the 16 practice files, the same for every token. That takes away all that the part says about *this* text,
# and leaves what it always says.
#
# **Predict.** Look at your ranking once more, and change it if the sections above have changed your mind. Will zeros and means agree?


# %%
def passes_on(module, inputs, output):
    return inputs[0]


def gives(row):
    """A hook that puts one row in place of whatever a module adds"""
    return lambda module, inputs, output: row.expand_as(output)


def head_gives(head, row):
    """The same for one head, at W_o: row (H * D) is what all heads hand to W_o"""
    part = slice(head * D, (head + 1) * D)

    def hook(o, inputs, output):
        return output - (inputs[0][..., part] - row[part]) @ o.weight[:, part].T

    return hook


def cost(hooks, positions=places):
    """Bits per byte more than the whole model needs"""
    with hooked(hooks):
        return bits_per_byte(placed_at(positions)) - baseline


means = {}


def note_mean(module, inputs, output):
    handed = inputs[0] if isinstance(module, torch.nn.Linear) else output  # Linear: W_o
    means[module] = handed.mean((0, 1))


watched = [m for block in model.blocks for m in (block.attention, block.attention.o, block.mlp)]
with hooked([(module, note_mean) for module in watched]), torch.inference_mode():
    model(practice)
zeros = {module: torch.zeros_like(row) for module, row in means.items()}


# %%
def costs_with(rows):
    """kind -> name -> bits per byte, with rows[module] in place of what a part gives"""
    found = {kind: {} for kind in ("a layer", "an MLP", "an attention", "a head")}
    for i, block in enumerate(model.blocks):
        mlp, attention = ((part, gives(rows[part])) for part in (block.mlp, block.attention))
        found["an MLP"][f"{i}"] = cost([mlp])
        found["an attention"][f"{i}"] = cost([attention])
        found["a layer"][f"{i}"] = cost([mlp, attention])
        for h in range(H):
            o = block.attention.o
            found["a head"][f"{i}.{h}"] = cost([(o, head_gives(h, rows[o]))])
    return found


norms = [norm for block in model.blocks for norm in (block.attention_norm, block.mlp_norm)]
norms.append(model.norm)
without_norms = cost([(norm, passes_on) for norm in norms])
without_positions = cost([], positions=0 * places)
costs = {"zeros": costs_with(zeros), "the mean": costs_with(means)}


def signed(bits):
    return f"{bits:+.2f}".replace("-0.00", "+0.00")


print(f"whole model {baseline:.2f} bits per byte")
print(f"no norms     {without_norms:+.2f}")
print(f"no positions {without_positions:+.2f}")
print("              with zeros: most, least       with the mean: most, least")
for kind in costs["zeros"]:
    line = f"{kind:12}"
    for of in (found[kind] for found in costs.values()):
        most, least = max(of, key=of.get), min(of, key=of.get)
        line += f"{most:>7} {of[most]:+.2f} {least:>6} {signed(of[least])}  "
    print(line.rstrip())

# %% [markdown]
# Names are layers, or layer and head, counted from 0.

# %% tags=["nbval-ignore-output", "hide-input"]
KINDS = list(costs["zeros"])


def draw_costs():
    import matplotlib.pyplot as plt

    ink = figures.colours()
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    looks = {"zeros": ("o", ink["accent"], 0.16), "the mean": ("s", ink["second"], -0.16)}
    for put, (marker, colour, shift) in looks.items():
        for y, kind in enumerate(reversed(KINDS)):
            of = {name: max(bits, 0.001) for name, bits in costs[put][kind].items()}
            label = f"{put} instead" if y == 0 else None
            ax.plot(
                of.values(), [y + shift] * len(of), marker, color=colour, alpha=0.7, label=label
            )
            dearest = max(of, key=of.get)
            ax.annotate(
                dearest,
                (of[dearest], y + shift),
                (7, -4),
                textcoords="offset points",
                fontsize=9,
            )
    ax.axvline(without_positions, color=ink["muted"], linewidth=1, linestyle="--")
    ax.text(
        0.95 * without_positions,
        len(KINDS) - 0.45,
        "no positions",
        ha="right",
        color=ink["muted"],
        fontsize=9,
    )
    ax.set(
        xscale="log", xlim=(0.0008, 6), ylim=(-0.5, len(KINDS) - 0.2), yticks=range(len(KINDS))
    )
    ax.set(
        yticklabels=list(reversed(KINDS)),
        xlabel="bits per byte more than the whole model needs",
    )
    ax.set_xticks([0.001, 0.01, 0.1, 1], ["0.001 or less", "0.01", "0.1", "1"])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return fig


extremes = "; ".join(
    f"{kind}, {put}: {min(of[kind].values()):.2f} to {max(of[kind].values()):.2f}"
    for kind in KINDS
    for put, of in costs.items()
)
costs_figure = figures.static(
    draw_costs,
    alt=f"What each removal costs in bits per byte, on a logarithmic axis. {extremes}.",
)
display(costs_figure)
Markdown(
    "*One mark for each removal; the dearest of a kind is named by layer, or layer and head. All norms are missing: without them there "
    f"is no number to draw.* {tk.measure.caption()}"
)

# %% [markdown]
# **Explain.** Four of these need a second look.
#
# **The norms.** `nan` is "not a number". Without norms nothing brings the size of a row back, and SwiGLU multiplies two numbers that have both grown with its input: ten times the input, a hundred times
# the output.


# %%
def largest(hooks):
    """The largest number in the stream after each layer"""
    with hooked(hooks):
        return streams(inputs)[1:].abs().flatten(1).amax(1).tolist()


def power(size):
    return f"10^{math.log10(size):.0f}" if math.isfinite(size) else "none"


print("largest number after layer 0, 1, ...")
print("with norms    below 1000:", all(size < 1000 for size in largest([])))
print("without norms", [power(size) for size in largest([(norm, passes_on) for norm in norms])])

# %% [markdown]
# The exponent about doubles from layer to layer until fp32 has no number so large. But that might say only that *some* division is needed, not that
# each row needs its own. The control: divide by a constant, the mean size that each norm meets on the practice files.

# %%
usual = {}


def note_size(norm, inputs, output):
    usual[norm] = inputs[0].square().mean(-1).sqrt().mean().item()


def by_constant(norm, inputs, output):
    return inputs[0] / usual[norm] * norm.weight


with hooked([(norm, note_size) for norm in norms]), torch.inference_mode():
    model(practice)
each = [cost([(norm, by_constant)]) for norm in norms]
together = cost([(norm, by_constant) for norm in norms])
print(
    f"one norm at a time: {sum(bits < 0.2 for bits in each)} of {len(each)} cost less than 0.2"
)
print(f"all {len(each)} at once cost more than 10: {together > 10}")

# %% [markdown]
# Almost any one norm could be a constant; all of them could not. A row that comes out a little too large makes the next part's result larger still, and nothing takes it back. Dividing
# each row by its own size is what keeps such errors from growing, much as a thermostat does.
#
# **A head that knows nothing.** With zeros, head 2 of layer 0 costs more than all positions. With its mean in its place it costs next to nothing. How much of what a head adds is the same for
# every token?


# %%
def constant_share(layer, head):
    """Of the squared size of what a head adds: the part that its mean row has"""
    handed = []
    o = model.blocks[layer].attention.o
    with (
        hooked([(o, lambda module, inputs, output: handed.append(inputs[0]))]),
        torch.inference_mode(),
    ):
        model(practice)
    part = slice(head * D, (head + 1) * D)
    added = handed[0][..., part] @ o.weight[:, part].T
    return (added.mean((0, 1)).square().sum() / added.square().sum(-1).mean()).item()


maps = tk.maps.attention_maps(model, inputs[:1])
just_before = maps.diagonal(-1, dim1=-2, dim2=-1).mean(-1)
even = (1 / torch.arange(2, maps.shape[-1] + 1)).mean().item()
print("dearest with     head   the same for all tokens   weight on the token before")
for put, of in costs.items():
    name = max(of["a head"], key=of["a head"].get)
    layer, head = map(int, name.split("."))
    same_for_all, before = constant_share(layer, head), just_before[layer, head].item()
    print(f"{put:12} {name:>8} {same_for_all:24.0%} {before:28.0%}")
print(f"if all earlier tokens are read alike, the weight on the one before is {even:.0%}")

# %% [markdown]
# The heads of layer 0 read all earlier tokens about alike, and hand over nearly the same row whatever the text. What they add works as a constant that the MLP behind them has been trained on. Zero takes the
# constant away; the mean leaves it. So the large figure measured how much the rest *relies* on that row, not what the head *knows*. The head that is dearest by its mean is of another kind:
# it reads the token just before, one of the patterns of the first lesson.
#
# **The MLP of layer 0** is dear either way. Section 3 shows why: it writes most of what the stream is from there on, and it turns a token into the row that all later parts were trained to read. No mean can say which
# token it is.
#
# **Cheap is not idle.** That a removal costs little does not show that the part does little: another may do the same, so that either can go and not both. Below, heads of the last layer are replaced in
# pairs. If each had work of its own, a pair would cost the sum of the two.

# %%
last = model.blocks[-1].attention.o
alone = [costs["the mean"]["a head"][f"{L - 1}.{h}"] for h in range(H)]
print("heads      together   sum of both")
for a in range(H):
    for b in range(a + 1, H):
        both = cost([(last, head_gives(h, means[last])) for h in (a, b)])
        print(f"{a} and {b}   {signed(both):>8}   {signed(alone[a] + alone[b]):>11}")

# %% [markdown]
# Where *together* is clearly more than the sum, each of the two had been covering for the other. In large models, later layers have been seen to make up for an attention layer that was taken out before them
# ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771)).
#
# In a running notebook, the controls below take out any combination.

# %% tags=["nbval-ignore-output"]
layers = ["none", *(str(i) for i in range(L))]
heads_of = ["none", *costs["zeros"]["a head"]]


def take_out(norms_in, positions_in, put, layer, mlp, head, second_head):
    rows = zeros if put == "zeros" else means
    hooks = [] if norms_in else [(norm, passes_on) for norm in norms]
    for i in {layer, mlp} - {"none"}:
        block = model.blocks[int(i)]
        parts_off = (block.mlp, block.attention) if i == layer else (block.mlp,)
        hooks += [(part, gives(rows[part])) for part in parts_off]
    for name in {head, second_head} - {"none"}:
        i, h = map(int, name.split("."))
        o = model.blocks[i].attention.o
        hooks.append((o, head_gives(h, rows[o])))
    bits = cost(hooks, places if positions_in else 0 * places)
    return Markdown(
        f"**{baseline + bits:.2f} bits per byte**, {bits:+.2f} against the whole model"
    )


figures.live(
    take_out,
    costs_figure,
    norms_in=True,
    positions_in=True,
    put=list(costs),
    layer=layers,
    mlp=layers,
    head=heads_of,
    second_head=heads_of,
)

# %% [markdown]
# And so the puzzle has two answers:


# %%
def ranking(put):
    dear = {"all positions": without_positions}
    for kind in ("a layer", "an MLP", "a head"):
        name, bits = max(costs[put][kind].items(), key=lambda item: item[1])
        dear[f"{kind} ({name})"] = bits
    return ", ".join(sorted(dear, key=dear.get, reverse=True))


cheap = min(costs["the mean"]["an MLP"], key=costs["the mean"]["an MLP"].get)
Markdown(f"""
| | worst first, the dearest of each kind |
| --- | --- |
| with zeros | all norms, {ranking("zeros")} |
| with the mean | all norms, {ranking("the mean")} |

Hardly noticed: most heads, and MLP {cheap}, whose {in_mlp:,} parameters are {in_mlp / n_parameters:.0%} of the model and are worth
{costs["the mean"]["an MLP"][cheap]:.2f} bits per byte. The size of a part is no guide to what it is worth.
""")

# %% [markdown]
# All this holds for one small model on one kind of text. And it says nothing of a model that was *trained* without the part, and has learnt to do without.

# %% [markdown]
# ## 9. GPT-2 and Falcon: the same program with other switches
#
# Four things differ among the families that this course speaks of: how rows are normed, how positions come in, what the MLP is made of, and whether attention and MLP
# take turns. The original order is one after the other. Falcon lets both read the same row, and adds both at once,
#
# $$x \;\to\; x + \mathrm{attention}(\mathrm{norm}(x)) + \mathrm{MLP}(\mathrm{norm}(x)),$$
#
# a *parallel* layer, so that the two need not wait for each other. GPT-2 has no rotation: it adds a learnt row for each position to the embedding's. Its MLP has no gate, only
# $W_\mathrm{down}\,\mathrm{gelu}(W_\mathrm{up}\,x)$, where gelu is a curve much like silu. And all its matrices but the head add a *bias*, a learnt vector.
#
# `ModelConfig` has a field for each. Below, `transformers` makes small models of random parameters and writes them to a folder; `tk.load` reads the folder.

# %%
ids = {"vocab_size": 101, "bos_token_id": 0, "eos_token_id": 0}
small = {
    "GPT-2": transformers.GPT2Config(**ids, n_positions=64, n_embd=48, n_layer=2, n_head=4),
    "Falcon": transformers.FalconConfig(
        **ids, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, alibi=False
    ),
}
random_tokens = torch.randint(101, (2, 23), generator=generator)
shapes, agree = {"bundled": config}, {}
for family, settings in small.items():
    theirs = transformers.AutoModelForCausalLM.from_config(settings).eval()
    with (
        torch.no_grad()
    ):  # new norms are all 1 and new biases all 0, which would hide a mistake
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    with tempfile.TemporaryDirectory() as written, torch.inference_mode():
        theirs.save_pretrained(written)
        ours = tk.load(written)
        agree[family] = same(ours(random_tokens), theirs(random_tokens).logits)
    shapes[family] = ours.config
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
    print(
        f"{field:18}" + "".join(f"{getattr(shape, field)!s:>10}" for shape in shapes.values())
    )
print(f"{'':18}" + "".join(f"{family:>10}" for family in shapes))
print("logits equal to transformers':", agree)

# %% [markdown]
# Falcon-7B's one key/value head for all queries needs no switch of its own: it is $H_{kv} = 1$.
#
# **Build.** The count of section 1 covers Llama. With the other switches it takes a few lines more, and needs no model, only a shape. The control: the
# parameters of a `Decoder` of that shape, on PyTorch's device `meta`, where tensors have shapes and no memory.


# %%
def count_any(c):
    """Parameters of a decoder, from its configuration"""
    query, key = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    norm = c.d_model * (1 if c.norm == "rms" else 2)  # LayerNorm has a bias
    attention = (
        2 * c.d_model * (query + key) + c.qkv_bias * (query + 2 * key) + c.o_bias * c.d_model
    )
    widening = 2 if c.gated_mlp else 1
    mlp = (widening + 1) * c.d_model * c.d_ff + c.mlp_bias * (widening * c.d_ff + c.d_model)
    n_norms = c.parallel_norms if c.parallel_residual else 2
    rows = c.vocab_size * (1 if c.tied else 2) + c.context * (c.position == "learned")
    return c.d_model * rows + c.n_layers * (attention + mlp + n_norms * norm) + norm


def llama(n_layers, d_model, n_heads, d_ff, vocab_size=32_000, **more):
    return tk.ModelConfig(vocab_size, d_model, n_layers, n_heads, d_ff, **more)


layer_norm = {"norm": "layer", "gated_mlp": False, "activation": "gelu", "tied": True}
biases = {"qkv_bias": True, "o_bias": True, "mlp_bias": True, "position": "learned"}
published = {
    "bundled": config,
    "GPT-2": tk.ModelConfig(50257, 768, 12, 12, 3072, context=1024, **layer_norm, **biases),
    "Falcon-7B": tk.ModelConfig(
        65024,
        4544,
        32,
        71,
        4 * 4544,
        n_kv_heads=1,
        parallel_residual=True,
        parallel_norms=1,
        **layer_norm,
    ),
    "Llama-3.2-1B": llama(16, 2048, 32, 8192, vocab_size=128_256, n_kv_heads=8, tied=True),
    "LLaMA-7B": llama(32, 4096, 32, 11_008),
    "LLaMA-65B": llama(80, 8192, 64, 22_016),
}
for name, shape in published.items():
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in tk.Decoder(shape).parameters())
    print(
        f"{name:13}{count_any(shape):>16,}  a model of that shape has as many: {built == count_any(shape)}"
    )

# %% [markdown]
# The shapes are from the models' own `config.json`: [GPT-2](https://huggingface.co/openai-community/gpt2/blob/main/config.json),
# [Falcon-7B](https://huggingface.co/tiiuae/falcon-7b/blob/main/config.json), [Llama-3.2-1B](https://huggingface.co/meta-llama/Llama-3.2-1B/blob/main/config.json), and from
# [LLaMA](https://arxiv.org/abs/2302.13971), table 2, with the MLP widths of the [converted checkpoints](https://huggingface.co/huggyllama/llama-65b/blob/main/config.json).

# %% [markdown]
# ## 10. What one token costs
#
# **Predict.** A matrix that multiplies one row takes two FLOPs for each of its numbers, a multiplication and an addition. Let $n$ be the number of parameters in all matrices. How many FLOPs does the model take for one token, and how many for $T$?

# %%
from torch.utils.flop_counter import FlopCounterMode

# The embedding counts: it is looked up, but as the head it is a matrix.
in_matrices = n_parameters - parts["norms"]
print("   T    FLOPs counted    2 T n + 4 L H D T²")
for T in (1, 10, 100):
    with FlopCounterMode(display=False) as counter:
        model(inputs[:1, :T])
    formula = 2 * T * in_matrices + 4 * L * H * D * T**2
    print(
        f"{T:4} {counter.get_total_flops():16,}    the same: {counter.get_total_flops() == formula}"
    )
of_attention = 4 * L * H * D / (2 * in_matrices + 4 * L * H * D)
print(f"for one token, the part that is attention over tokens: {of_attention:.1%}")

# %% [markdown]
# **Explain.** Two FLOPs for each parameter that stands in a matrix, and the first lesson's $4HTSD$ in each layer, which grows with what has been read. For the matrix products this is exact; the norms, softmax and silu are by custom not counted.
#
# Now the bytes. To compute the logits for one token, every one of these matrices is needed whole: each number must be fetched from memory, multiplied once, added once, and is done with. In 16 bits that is
# two FLOPs for two bytes. An A100 with 80 GB does 312 TFLOP/s in 16 bits and reads 2.0 TB/s
# ([data sheet](https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)): it could do some 150 FLOPs with each byte, and is asked for one.
# Writing one token at a time, a large model is *memory bound*: the time goes into moving its bytes. Hence the name of this course.
#
# The way out is in the formula, too. The matrices are the same for all $T$ tokens. Fetched once and used on 100 rows, each byte serves 100 times. A prompt offers its tokens all at once; an answer does not.

# %% [markdown]
# ## What real systems do
#
# - **They merge matrices that read the same row.** vLLM's [Llama](https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/models/llama.py) computes $q$, $k$ and $v$ in one product, and gate and
#   up in another. GPT-2's and Falcon's files already hold $q$, $k$, $v$ as one tensor.
# - **They fuse the norm with the addition before it.** A norm does few FLOPs and reads and writes whole rows, so that a pass of its own is nearly all memory traffic (same file: the norm is given the residual).
# - **They put the norm in front.** The first transformer normed after the addition; in front of each part, training is stable without a slow start
#   ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)). Qwen3 also norms queries and keys, head by head ([Qwen3](https://arxiv.org/abs/2505.09388)).
# - **They stretch the rotation for longer texts.** Llama 3 raised $\theta$ to 500,000 ([Llama 3](https://arxiv.org/abs/2407.21783), section 3.2); Llama 3.1 and later also slow down the slow pairs only, which
#   `teachkit.config.RopeScaling` describes.
# - **They tie the head where it weighs.** An embedding's share shrinks as a model grows: Llama-3.2-1B ties, [Llama-3.1-8B](https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json) does not. Tying is due to
#   [Press and Wolf 2017](https://arxiv.org/abs/1608.05859).
# - **They take layers out on purpose.** A sizeable part of the deeper layers of large models can go at little cost on question answering, after a little further training
#   ([Gromov et al. 2024](https://arxiv.org/abs/2403.17887)); of heads in translation models and BERT, many can ([Michel et al. 2019](https://arxiv.org/abs/1905.10650)).

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
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| GPT-2's smallest model has 117M parameters | [Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf), table 2 | Wrong: {sizes["GPT-2"] / 1e6:.1f} million. The authors say so themselves in their [repository](https://github.com/openai/gpt-2#gpt-2). |
| LLaMA has 6.7, 13.0, 32.5 and 65.2 billion parameters | [LLaMA](https://arxiv.org/abs/2302.13971), table 2 | Right, with the last cut off rather than rounded: {", ".join(f"{n / 1e9:.2f}" for n in llama_sizes)}. |
| Falcon-7B | its name | {sizes["Falcon-7B"] / 1e9:.2f} billion, since its head is tied. A file that stores the embedding a second time as the head holds {(sizes["Falcon-7B"] + 65024 * 4544) / 1e9:.2f} billion. |
| One step loads roughly as much memory as the model has parameters | T. Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk, October 2023 | In numbers, yes: section 10. In bytes, twice as much in 16 bits: {2 * sizes["LLaMA-7B"] / 1e9:.1f} GB for LLaMA-7B. |
| One step takes 2 FLOPs per parameter and sequence | same talk | Right for the matrices. Attention adds {4 * 32 * 4096 * 4096 / (2 * sizes["LLaMA-7B"]):.0%} at 4,096 tokens in LLaMA-7B, and the embedding, where it is not the head, takes none. |
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
# for theta_now in (100, 1_000, 5_000, 10_000, 20_000, 100_000, 1_000_000):
#     other = dataclasses.replace(config, rope_theta=float(theta_now))
#     print(f"{theta_now:9,} {bits_per_byte(lambda tokens: logits_of(tokens, c=other)):.2f}")
# ```
#
# Pair 0 always turns by one radian per token; the slower the pair, the more it changes. Near the trained value little happens: the heads that look at neighbours use the fast pairs, and excerpts of 128 tokens hardly use the
# slowest. That is why $\theta$ can be raised for longer texts with a little further training.
#
# </details>
#
# **2. The other convention.** Write `rotate_neighbours`, which turns $(x_{2i}, x_{2i+1})$ as the paper does, and put it in the place of `rotate`. Then mend the result without touching your function: which rows of $W_q$ and
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
#     print(f"{bits_per_byte(lambda tokens: logits_of(tokens, w=w, rotate=rotate_neighbours)):.2f}")
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
# print(same(logits_of(inputs, w=folded), logits_of(inputs), 1e-2))
# ```
#
# The last norm is read by the head, and the head is the embedding: scaled columns there would also change every token's first row. An untied head could take them.
#
# </details>
#
# **4. All of layer 0's attention.** Replace all four heads of layer 0 by their means at once, and compare with zeros. Then use what you find: how many of the model's parameters could be dropped, at
# that price, by adding one constant row instead? What else would the constant save when a token is computed?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# attention = model.blocks[0].attention
# for put, rows in {"zeros": zeros, "the mean": means}.items():
#     print(put, f"{cost([(attention, gives(rows[attention]))]):+.3f}")
# print(f"parameters of one attention: {in_attention:,}, {in_attention / n_parameters:.1%} of the model")
# ```
#
# The row replaces four matrices at next to no cost on this text. Gone with them are the scores, whose number grows with the length, and the keys and values of that layer. The price on *other* text has to be measured before anyone does so.
#
# </details>
#
# **5. Where does your file go?** From its `config.json`, predict the bytes of a checkpoint that you use, and the share that the embedding has in it. Then look at the file. (With no other at hand: predict them for Llama-3.2-1B, in
# 16 bits, and look at its page on the hub.)
#
# <details>
# <summary>Answer</summary>
#
# ```python
# shape = published["Llama-3.2-1B"]
# print(f"{2 * count_any(shape) / 1e9:.2f} GB, embedding {shape.vocab_size * shape.d_model / count_any(shape):.0%}")
# ```
#
# A file that is larger by some kilobytes has a longer header; one that is larger by $2VC$ bytes stores the head a second time.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# **A.** Somebody multiplies the last state of the stream by 3, just before the last norm. Which logits change? And if the state after layer 2 is multiplied by 3?
#
# <details>
# <summary>Answer</summary>
#
# None: the norm divides the 3 out. After layer 2 it does change the result, although every norm above divides it out for its own part: what the later parts add is as large as before, and now a third in
# proportion to what was there.
#
# </details>
#
# **B.** A converted checkpoint gives exactly the right logits for a text of one token, and wrong ones from the second token on. Which part do you look at first?
#
# <details>
# <summary>Answer</summary>
#
# The rotation. At position 0 every angle is 0, and one token attends to itself whatever its score. All that does not depend on place or on other tokens must be right: embedding, norms, values, $W_o$, MLPs, head.
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
