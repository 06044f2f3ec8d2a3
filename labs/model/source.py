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
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. Shapes: B sequences, T tokens, C numbers a token, H query heads over Hkv key/value heads of D numbers, F numbers
# in the MLP, V tokens in the vocabulary. Weights are stored (out, in), as PyTorch stores them: y = x W^T.

# %%
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lab carries; a copy without an address says what to do. If teachgrade is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
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
# - `x` is (..., C), `weight` (C,). The root mean square is the root of the mean of the squares *plus* `eps`.
#
# <details><summary>Hint</summary>
# No mean is taken away: that would be a layer norm.
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
# Write `swiglu(x, gate, up, down)`: `gate` and `up` are (F, C), `down` is (C, F); `x` is (..., C). Two products lead to F numbers each. The one
# from `gate` goes through silu(z) = z · sigmoid(z), is multiplied with the one from `up`, and `down` leads back.
#
# <details><summary>Hint</summary>
# `torch.nn.functional.silu` may be used.
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
# Write `rotate(x, theta)`: `x` is (B, H, T, D), its tokens at positions 0 to T - 1. Numbers i and i + D/2 of each are turned together by the
# angle position · theta^(-2i/D): with a the first half and b the second, the result is a cos - b sin, then b cos + a sin.
#
# <details><summary>Hint</summary>
# `torch.outer(positions, speeds)` is a (T, D/2) table of angles.
# </details>


# %%
def rotate(x, theta):
    """(B, H, T, D), turned by the positions 0 to T - 1."""
    ### BEGIN SOLUTION
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), speeds)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q3", rotate)

# %% [markdown]
# ## q4. One layer of attention
#
# Write `attention_layer(x, weights, n_heads, n_kv_heads, theta)`: `x` is (B, T, C); the result has the same shape. `weights` is a dict with `"q"`
# of (H · D, C), `"k"` and `"v"` of (Hkv · D, C), and `"o"` of (C, H · D).
#
# - Queries, keys and values are products with x, cut into heads: the first D numbers are head 0.
# - Queries and keys are rotated. H / Hkv neighbouring query heads share a key/value head.
# - Scores are divided by the root of D; no token sees a later one.
# - The heads' results, side by side in their order, go through `o`.
#
# <details><summary>Hint</summary>
# `x.unflatten(-1, (n, D)).transpose(1, 2)` cuts into heads, `out.transpose(1, 2).flatten(2)` joins them.
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
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ weights["o"].T
    ### END SOLUTION


# %%
# teachgrade: show
check("model.q4", attention_layer)

# %% [markdown]
# ## q5. From tokens to logits
#
# Write `forward(tokens, weights, config)`: `tokens` is (B, T), the result (B, T, V). `config` is a dict with `n_heads`, `n_kv_heads`, `theta`, `eps`.
# `weights` is a dict:
#
# - `"embedding"` (V, C): a row for each token. It is used again at the end: the logits are the products with its rows.
# - `"blocks"`: a list of dicts, one for each block, with `"attention_norm"` (C,), `"attention"` (a dict as in q4), `"mlp_norm"` (C,), and `"gate"`, `"up"`,
#   `"down"` as in q2.
# - `"norm"` (C,): the last norm.
#
# Each block adds two things to the numbers of a token: attention of the normed numbers, then the MLP of what is there then, normed.
#
# <details><summary>Hint</summary>
# x = x + attention(norm(x)), x = x + mlp(norm(x)): norms are in the branches, not between them.
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
# Write `count_parameters(config)`: `config` is a dict with `vocab_size`, `d_model` (C), `d_ff` (F), `n_layers`, `n_heads`, `n_kv_heads`, `head_dim` (D). How many
# numbers does a model as in q5 have? An integer. The embedding is stored once.
#
# <details><summary>Hint</summary>
# Two norms in each block, and one at the end.
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
# In three or four sentences: a block *adds* to the numbers of a token instead of replacing them. What does that make easy to learn, and what would a
# fault in one block do to all later ones without it?
#
# *Your answer here.*

# %% [markdown]
# ## Real weights in your model
#
# The bundled model's weights, sorted into the dictionary that you asked for. Your logits are compared with the package's, and your code writes.

# %%
# teachgrade: show
import teachkit as tk

model = tk.load("bundled")
stored = model.state_dict()
config = {
    "n_heads": model.config.n_heads,
    "n_kv_heads": model.config.n_kv_heads,
    "theta": model.config.rope_theta,
    "eps": model.config.norm_eps,
}


def block_of(number):
    """The weights of one block, by the names of q5"""
    of = {
        name.removeprefix(f"blocks.{number}."): w
        for name, w in stored.items()
        if name.startswith(f"blocks.{number}.")
    }
    return {
        "attention_norm": of["attention_norm.weight"],
        "attention": {name: of[f"attention.{name}.weight"] for name in "qkvo"},
        "mlp_norm": of["mlp_norm.weight"],
        **{name: of[f"mlp.{name}.weight"] for name in ("gate", "up", "down")},
    }


weights = {
    "embedding": stored["embedding.weight"],
    "blocks": [block_of(number) for number in range(model.config.n_layers)],
    "norm": stored["norm.weight"],
}
tokens = torch.tensor([model.tokenizer.encode("def mean(values):\n    ")])
with torch.inference_mode():
    error = (forward(tokens, weights, config) - model(tokens)).abs().max()
    print(f"largest difference of a logit: {error:.1e}")
    for _ in range(24):
        new = forward(tokens, weights, config)[:, -1:].argmax(-1)
        tokens = torch.cat((tokens, new), 1)
print(model.tokenizer.decode(tokens[0].tolist()))
