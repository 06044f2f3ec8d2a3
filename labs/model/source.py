# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab: a model from its weights
#
# A checkpoint is a dictionary of tensors, and a model is what you do with them. You write it piece by piece: a norm, an MLP, the
# rotation, attention, and the whole forward pass. At the end you load the bundled model's real weights into your code, and its logits
# equal those of the package.
#
# Work from top to bottom: q4 needs q3, and q5 needs all before it. After each question a cell checks your code on a few
# small inputs; they are the visible part of what is checked, and the mark comes from more, of other sizes.
#
# Shapes: B sequences, T tokens, C numbers a token, H query heads over Hkv key/value heads of D numbers, F numbers in the
# MLP, V tokens in the vocabulary. Weights are stored (out, in), as PyTorch stores them: y = x W^T. All are float32, and so
# are the results; sums may be added up in any order, last digits that differ for that reason do not count. Do not change
# the tensors that your functions are given.

# %% tags=["setup", "hide-input"]
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address
# that the published copy of this lab carries; a copy without one says what to do.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. "
            "In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that the course can work with stays as it is.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True)

from teachgrade import check

# %%
import torch


# %% [markdown]
# ## q1. A norm
#
# Write `rms_norm(x, weight, eps)`: each token's numbers divided by their root mean square, times `weight`.
#
# - `x` is (..., C), `weight` (C,); the result has the shape of `x`.
# - `eps` is added to the mean of the squares, before the root is taken: a token of zeros stays zeros.
# - PyTorch's own `rms_norm` and `RMSNorm` are not there while this question is graded.
#
# <details><summary>Hint</summary>
# No mean is taken away: that would be a layer norm. `x.pow(2).mean(-1, keepdim=True)` has one number for each token, and
# keeps the axis, so that `x` can be divided by its root.
# </details>


# %%
def rms_norm(x, weight, eps):
    """x / sqrt(mean of x^2 + eps) * weight, over the last axis."""
    ### BEGIN SOLUTION
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q1", rms_norm)

# %% [markdown]
# ## q2. An MLP with a gate
#
# Write `swiglu(x, gate, up, down)`, the MLP of most models of today.
#
# - `x` is (..., C), `gate` and `up` are (F, C), `down` is (C, F); the result has the shape of `x`.
# - Two products lead to F numbers each. The one from `gate` goes through silu(z) = z · sigmoid(z) and is multiplied, number
#   by number, with the one from `up`; `down` leads back to C numbers.
# - You may use `torch.nn.functional.silu` and `linear`.
#
# <details><summary>Hint</summary>
# Every product is `x @ W.T`. Write down the shape of each of the three results before you multiply.
# </details>


# %%
def swiglu(x, gate, up, down):
    """down(silu(gate(x)) * up(x))"""
    ### BEGIN SOLUTION
    return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q2", swiglu)

# %% [markdown]
# ## q3. Turned by the position
#
# Attention by itself does not know the order of its keys. Rotary positions tell it: every query and every key is turned
# by its position, in D/2 planes, each plane at a speed of its own.
#
# Write `rotate(x, theta)`.
#
# - `x` is (B, H, T, D), D even, its tokens at positions 0 to T - 1; `theta` is a float. The result has the same shape.
# - Numbers i and i + D/2 of a token are turned together, by the angle position · theta^(-2i/D), for i from 0 to D/2 - 1:
#   with a the first half and b the second, the first half of the result is a cos - b sin, the second b cos + a sin.
#
# <details><summary>Hint</summary>
# The angles are a (T, D/2) table: positions down, speeds across. It broadcasts over B and H by itself.
# </details>
#
# <details><summary>Another hint</summary>
# With `half = D // 2`, 2i/D is i/half: the speeds are `theta ** (-torch.arange(half) / half)`, and
# `torch.outer(positions, speeds)` is the table, if both are floats. `x[..., :half]` is a, and `torch.cat` along the last
# axis joins both halves again.
# </details>


# %%
def rotate(x, theta):
    """(B, H, T, D), turned by the positions 0 to T - 1."""
    ### BEGIN SOLUTION
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.arange(x.shape[2])[:, None] * speeds
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q3", rotate)

# %% [markdown]
# ## q4. One layer of attention
#
# Write `attention_layer(x, weights, n_heads, n_kv_heads, theta)`: `x` is (B, T, C); the result has the same shape.
# `weights` is a dict of four matrices: `"q"` is (H · D, C), `"k"` and `"v"` are (Hkv · D, C), and `"o"` is (C, H · D). H is
# a multiple of Hkv; H · D need not be C.
#
# - Queries, keys and values are products with x, cut into heads: the first D numbers are head 0.
# - Queries and keys are rotated (your `rotate`), values are not. H / Hkv neighbouring query heads share a key/value head:
#   with H = 4 and Hkv = 2, heads 0 and 1 read the first, 2 and 3 the second.
# - Scores are divided by the square root of D; no token sees a later one.
# - The heads' results, side by side in their order, go through `o`.
# - You may use `softmax` and `scaled_dot_product_attention` of PyTorch.
#
# <details><summary>Hint</summary>
# `y.unflatten(-1, (n, -1)).transpose(1, 2)` cuts (B, T, n · D) into (B, n, T, D); `y.transpose(1, 2).flatten(2)` is the way
# back.
# </details>
#
# <details><summary>Another hint</summary>
# `repeat_interleave(H // Hkv, 1)` gives each query head its keys, and `torch.ones(T, T, dtype=torch.bool).triu(1)` is
# `True` where a token would see a later one. Rotate before you repeat, or after: it makes no difference.
# </details>


# %%
def attention_layer(x, weights, n_heads, n_kv_heads, theta):
    """Causal grouped attention of (B, T, C), with rotated queries and keys."""
    ### BEGIN SOLUTION
    q = (x @ weights["q"].T).unflatten(-1, (n_heads, -1)).transpose(1, 2)
    k = (x @ weights["k"].T).unflatten(-1, (n_kv_heads, -1)).transpose(1, 2)
    v = (x @ weights["v"].T).unflatten(-1, (n_kv_heads, -1)).transpose(1, 2)
    q, k = rotate(q, theta), rotate(k, theta)
    k, v = (y.repeat_interleave(n_heads // n_kv_heads, 1) for y in (k, v))
    T = x.shape[1]
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ weights["o"].T
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q4", attention_layer)

# %% [markdown]
# ## q5. From tokens to logits
#
# Write `forward(tokens, weights, config)`: `tokens` is (B, T), of integers; the result is (B, T, V), a logit of every token
# of the vocabulary as the next one, at every place. `config` is a dict with `"n_heads"`, `"n_kv_heads"`, `"theta"` and
# `"eps"`. `weights` is a dict:
#
# - `"embedding"` (V, C): a row for each token. It is used again at the end: the logits are the products with its rows.
# - `"blocks"`: a list of dicts, one for each block, with `"attention_norm"` (C,), `"attention"` (a dict as in q4),
#   `"mlp_norm"` (C,), and `"gate"`, `"up"`, `"down"` as in q2.
# - `"norm"` (C,): the norm before the logits.
#
# Each block adds two things to the numbers of a token: attention of the normed numbers, and then the MLP of what is there
# by now, normed.
#
# <details><summary>Hint</summary>
# x = x + attention(norm(x)), then x = x + mlp(norm(x)): the norms are in the branches, the sum never passes through one
# until the very end.
# </details>
#
# <details><summary>Another hint</summary>
# `weights["embedding"][tokens]` looks up all tokens at once. If the logits are wrong and all your pieces pass their checks,
# look at three places: which norm goes where, whether `x` itself is added to, and the norm before the logits.
# </details>


# %%
def forward(tokens, weights, config):
    """Logits (B, T, V) of tokens (B, T)."""
    ### BEGIN SOLUTION
    x = weights["embedding"][tokens]
    for block in weights["blocks"]:
        normed = rms_norm(x, block["attention_norm"], config["eps"])
        x = x + attention_layer(
            normed, block["attention"], config["n_heads"], config["n_kv_heads"], config["theta"]
        )
        normed = rms_norm(x, block["mlp_norm"], config["eps"])
        x = x + swiglu(normed, block["gate"], block["up"], block["down"])
    return rms_norm(x, weights["norm"], config["eps"]) @ weights["embedding"].T
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q5", forward)

# %% [markdown]
# ## q6. How many numbers
#
# Write `count_parameters(config)`: how many numbers does a model as in q5 have? `config` is a dict of integers, with
# `"vocab_size"` (V), `"d_model"` (C), `"d_ff"` (F), `"n_layers"`, `"n_heads"` (H), `"n_kv_heads"` (Hkv) and `"head_dim"` (D).
#
# - The result is an integer. The embedding is stored once, though it is used twice.
# - H · D need not be C.
#
# <details><summary>Hint</summary>
# Go through the dictionary of q5 and write the shape of each entry beside it. There are two norms in each block, and one
# at the end.
# </details>


# %%
def count_parameters(config):
    """Numbers in all weights, the tied embedding once."""
    ### BEGIN SOLUTION
    C, D = config["d_model"], config["head_dim"]
    attention = 2 * C * D * (config["n_heads"] + config["n_kv_heads"])
    block = attention + 3 * C * config["d_ff"] + 2 * C
    return config["vocab_size"] * C + config["n_layers"] * block + C
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q6", count_parameters)

# %% [markdown]
# ## q7. Why a residual
#
# In three or four sentences: a block *adds* to the numbers of a token instead of replacing them. What does that make easy
# to learn, for a block that has little to contribute? What does it do for the gradient on its way to the first blocks? And
# without it, what would become of a token's numbers on their way through a block that has learnt nothing yet?
#
# *Your answer here.*

# %% [markdown]
# ## Real weights in your model
#
# The next cell sorts the bundled model's weights into the dictionary that you asked for. Then your count is held against
# the numbers in the file, your logits against the package's, and your code writes.

# %%
# teachgrade: show
import matplotlib.pyplot as plt
import teachkit as tk


def ready(**answers):
    """Whether these answers pass their checks; if not, it says which do not."""
    missing = [q for q, answer in answers.items() if not check(f"model.{q}", answer)]
    if missing:
        print(f"Not yet: {', '.join(missing)} should pass the check first.")
    return not missing


def block_of(number):
    """The weights of one block, by the names of q5."""
    start = f"blocks.{number}."
    of = {name.removeprefix(start): w for name, w in stored.items() if name.startswith(start)}
    return {
        "attention_norm": of["attention_norm.weight"],
        "attention": {name: of[f"attention.{name}.weight"] for name in "qkvo"},
        "mlp_norm": of["mlp_norm.weight"],
        **{name: of[f"mlp.{name}.weight"] for name in ("gate", "up", "down")},
    }


model = tk.load("bundled")
stored = model.state_dict()
weights = {
    "embedding": stored["embedding.weight"],
    "blocks": [block_of(number) for number in range(model.config.n_layers)],
    "norm": stored["norm.weight"],
}
config = {name: getattr(model.config, name) for name in ("n_heads", "n_kv_heads")}
config |= {"theta": model.config.rope_theta, "eps": model.config.norm_eps}
answers = {"q1": rms_norm, "q2": swiglu, "q3": rotate, "q4": attention_layer, "q5": forward}

if ready(q6=count_parameters):
    names = ("vocab_size", "d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim")
    counted = count_parameters({name: getattr(model.config, name) for name in names})
    stored_numbers = sum(p.numel() for p in model.parameters())
    print(f"numbers by your count {counted:,}, in the file {stored_numbers:,}")

if ready(**answers):
    tokens = torch.tensor([model.tokenizer.encode("def mean(values):\n    ")])
    with torch.inference_mode():
        yours, package = forward(tokens, weights, config), model(tokens)
        error = (yours - package).abs().max()
        print(f"logits up to {package.abs().max():.1f}; largest difference {error:.1e}")
        for _ in range(24):
            new = forward(tokens, weights, config)[:, -1:].argmax(-1)
            tokens = torch.cat((tokens, new), 1)
    print(model.tokenizer.decode(tokens[0].tolist()))

# %% [markdown]
# And a look at q7. Since blocks only add, what is there after any number of them can be read: leave the later blocks out,
# and let the last norm and the embedding make logits of what there is. Your `forward` does that if it is given fewer
# blocks. The figure shows how well each such model predicts the text below, in bits per token. A guess among all 4,096
# tokens costs 12; what stands above that is confidently wrong. With no block at all it is: what is there is the token's
# own row of the embedding, so the model expects every token to come again.

# %%
# teachgrade: show
sample = """def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)
"""
if ready(**answers):
    tokens = torch.tensor([model.tokenizer.encode(sample)])
    bits = []
    with torch.inference_mode():
        for n in range(len(weights["blocks"]) + 1):
            logits = forward(tokens, {**weights, "blocks": weights["blocks"][:n]}, config)
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:])
            bits.append(loss.item() / torch.log(torch.tensor(2.0)).item())
    print("bits per token:", ", ".join(f"{b:.1f}" for b in bits))
    plt.figure(figsize=(6, 3.6), layout="constrained")
    plt.plot(range(len(bits)), bits, "o-")
    plt.axhline(12, color="gray", linestyle="--", label="a guess among 4,096 tokens")
    plt.xlabel("blocks used")
    plt.ylabel("bits per token")
    plt.ylim(bottom=0)
    plt.legend()
    plt.show()
