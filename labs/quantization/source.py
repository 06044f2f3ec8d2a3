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
# # Lab: fewer bits for the same weights
#
# Decoding reads every weight for every token. Weights of 8 or 4 bits are a quarter or an eighth of the bytes that 32 take; the question is what
# the text suffers. You write the codes, the packing and an integer product; at the end your codes take the place of the bundled model's weights,
# and you see what the text loses.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. A weight matrix is (N, C), float32: N outputs, each with a row of C weights. Use Python and PyTorch's ordinary
# functions on tensors; each answer may build on those above it. `teachkit`, in which all this exists, is not there when your answers are graded, nor
# are PyTorch's own `quantize_per_tensor` and `quantize_per_channel`. No function may change its arguments.

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
# ## q1. A step for each row
#
# With `bits` bits, codes run from -(2^(bits-1) - 1) to 2^(bits-1) - 1: for 8 bits from -127 to 127, for 4 from -7 to 7. A row's
# *scale* is the size of one step: the largest absolute weight of the row, divided by the largest code.
#
# Write `row_scales(w, bits)`: `w` is (N, C), `bits` an integer from 2 to 8; the result is (N, 1), float32.
#
# - The weights of a row of zeros will be divided by its scale, too: there it is 1.
# - The most negative number in 8 bits, -128, is left out, so that the codes are symmetric.
#
# <details><summary>Hint</summary>
# `amax` over the last axis, with `keepdim=True`, of the absolute values.
# </details>


# %%
def row_scales(w, bits):
    """(N, C) -> (N, 1): the largest absolute value of each row over the largest code; 1 for a row of zeros."""
    ### BEGIN SOLUTION
    scales = w.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return scales.masked_fill(scales == 0, 1)
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q1", row_scales)

# %% [markdown]
# ## q2. Numbers to codes, and back
#
# - `quantize(w, bits)` returns the pair `(codes, scales)`: `codes` is (N, C), int8, each the weight over its row's scale, rounded to the
#   nearest integer; `scales` is (N, 1), float32, as in q1.
# - `dequantize(codes, scales)` gives the weights that the codes stand for, (N, C), float32.
#
# <details><summary>Hint</summary>
# `round` rounds to the nearest; a conversion to int8 alone cuts off what is behind the point. First the one, then the other.
# </details>


# %%
def quantize(w, bits):
    """(N, C) -> codes (N, C) int8, scales (N, 1)."""
    ### BEGIN SOLUTION
    scales = row_scales(w, bits)
    return (w / scales).round().to(torch.int8), scales
    ### END SOLUTION


def dequantize(codes, scales):
    """What the codes stand for, (N, C) float32."""
    ### BEGIN SOLUTION
    return codes * scales
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q2", quantize, dequantize)

# %% [markdown]
# ## q3. How wrong it can be
#
# Write `worst_error(scales)`: for each row the largest amount by which a dequantized weight can differ from the weight it was
# made of, whatever the weights were. `scales` is (N, 1), float32, and so is the result.
#
# <details><summary>Hint</summary>
# Where between two steps does a weight lie that rounding to the nearest serves worst?
# </details>


# %%
def worst_error(scales):
    """The largest possible |dequantized - weight| in each row."""
    ### BEGIN SOLUTION
    return scales / 2
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q3", worst_error)

# %% [markdown]
# ## q4. Two codes in a byte
#
# Codes of 4 bits are stored two to a byte, or nothing is gained.
#
# - `pack(codes)`: `codes` is (N, C), int8, from -8 to 7, C even. The result is (N, C / 2), uint8. Add 8 to each code, so that it
#   runs from 0 to 15. Byte j of a row holds code 2j in its *low* four bits and code 2j + 1 in its *high* four.
# - `unpack(packed)` undoes it: (N, C), int8.
# - `pack` raises `ValueError` if C is odd.
#
# <details><summary>Hint</summary>
# `x << 4` moves four bits up, `x >> 4` four down, `x & 15` keeps the low four. Mind the dtype: an int8 has no room for 240.
# </details>
# <details><summary>A further hint</summary>
# Of the shifted codes, as uint8, `x[:, ::2]` are the first of each two and `x[:, 1::2]` the second; `|` puts them together. On the way back, `torch.stack` of the low and
# the high halves along a new last axis, flattened, puts neighbours next to each other.
# </details>


# %%
def pack(codes):
    """(N, C) int8 from -8 to 7 -> (N, C / 2) uint8, the first of each two in the low bits."""
    ### BEGIN SOLUTION
    if codes.shape[1] % 2:
        raise ValueError(f"codes: expected an even number of columns, got {codes.shape[1]}")
    nibbles = (codes + 8).to(torch.uint8)
    return nibbles[:, ::2] | nibbles[:, 1::2] << 4
    ### END SOLUTION


def unpack(packed):
    """(N, C / 2) uint8 -> (N, C) int8."""
    ### BEGIN SOLUTION
    nibbles = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
    return nibbles.to(torch.int8) - 8
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q4", pack, unpack)

# %% [markdown]
# ## q5. A step for each group
#
# One large weight makes the steps of its whole row coarse. So a row is cut into groups of `group_size` neighbouring weights, each
# with a scale of its own.
#
# - `quantize_groups(w, bits, group_size)` returns the pair `(codes, scales)`: codes (N, C) int8, scales (N, C / group_size) float32. A
#   group of zeros has the scale 1. If group_size does not divide C, raise `ValueError`.
# - `bits_per_weight(bits, group_size, scale_bits)`: bits that a weight takes, with its share of its group's scale; a float. All three are integers.
#
# <details><summary>Hint</summary>
# Your `quantize` gives each *row* a scale. Which `reshape` makes a row of every group?
# </details>
# <details><summary>A further hint</summary>
# Seen as (N · C / group_size, group_size), every group is a row. Afterwards codes and scales go back to their shapes.
# </details>


# %%
def quantize_groups(w, bits, group_size):
    """(N, C) -> codes (N, C) int8, scales (N, C / group_size)."""
    ### BEGIN SOLUTION
    n, c = w.shape
    if c % group_size:
        raise ValueError(f"group_size: {group_size} does not divide {c}")
    codes, scales = quantize(w.reshape(-1, group_size), bits)
    return codes.reshape(n, c), scales.reshape(n, c // group_size)
    ### END SOLUTION


def bits_per_weight(bits, group_size, scale_bits):
    """Bits of a code and of its share of a scale."""
    ### BEGIN SOLUTION
    return bits + scale_bits / group_size
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q5", quantize_groups, bits_per_weight)

# %% [markdown]
# ## q6. A product of integers
#
# If the activations are codes, too, the product itself can be of integers, which many machines do faster. *W8A8*: weights in 8
# bits with a scale for each output, activations in 8 bits with a scale for each token.
#
# Write `w8a8(x, codes, scales)`: `x` is (T, C), float32; `codes` (N, C), int8, and `scales` (N, 1), as from `quantize(w, 8)`. The
# result is (T, N), float32: quantize each row of `x` to 8 bits, multiply codes by codes and add up *as integers*, then scale once.
#
# <details><summary>Hint</summary>
# Products of two int8 codes do not fit into int8: convert to int32 before you multiply.
# </details>
# <details><summary>A further hint</summary>
# The scale of an output is that of its token times that of its row of weights: (T, 1) times (1, N).
# </details>


# %%
def w8a8(x, codes, scales):
    """(T, C) times codes (N, C) with scales (N, 1) -> (T, N), summed as integers."""
    ### BEGIN SOLUTION
    x_codes, x_scales = quantize(x, 8)
    sums = x_codes.to(torch.int32) @ codes.to(torch.int32).T
    return sums * x_scales * scales.T
    ### END SOLUTION


# %%
# teachgrade: show
check("quantization.q6", w8a8)

# %% [markdown]
# ## q7. Where the loss comes from
#
# In four or five sentences: with the same number of bits, why do groups lose less than rows, and rows less than one scale for the
# whole matrix? What do smaller groups cost? And why does one activation a hundred times larger than the others hurt W8A8 more
# than one such weight hurts 8-bit weights? (A person reads your answer.)
#
# *Your answer here.*

# %% [markdown]
# ## Your codes in a real model
#
# Every matrix of the bundled model is replaced by what your codes stand for. The score is bits per byte of text that the model was
# not trained on: the lower, the better it predicts. Beside it stands what the matrices take, with their scales in fp32. Compare 4 bits in
# groups with 5 bits in rows, which take about as much: here a scale of 32 bits for 32 weights is a bit that a code might have had. Engines keep
# their scales in 16 bits, or fewer.

# %%
# teachgrade: show
import copy
import json
from importlib import resources

import matplotlib.pyplot as plt
import teachkit as tk
from teachkit.figures import plots

model = tk.load("bundled")
folder = resources.files("teachkit") / "checkpoints" / "bundled"
texts = list(json.loads((folder / "heldout.json").read_text(encoding="utf-8")).values())
text, SIZE = [one[:2500] for one in texts[:4]], 32
matrices = [weight for weight in model.parameters() if weight.dim() == 2]
n_weights = sum(weight.numel() for weight in matrices)


def in_rows(w, bits):
    return dequantize(*quantize(w, bits))


def in_groups(w, bits):
    codes, scales = quantize_groups(w, bits, SIZE)
    return dequantize(codes.reshape(-1, SIZE), scales.reshape(-1, 1)).reshape(w.shape)


def score_with(change, *bits):
    """Bits per byte of the model with another matrix in place of each."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() == 2:
                weight.copy_(change(weight, *bits))
    return tk.evaluate.bits_per_byte(made, text)


def megabytes(bits, size=None):
    """Of all matrices; groups of one row each if no size is given."""
    each = (w.numel() * bits_per_weight(bits, size or w.shape[1], 32) for w in matrices)
    return sum(each) / 8e6


try:
    unchanged = score_with(lambda w: w)
    found = {"a scale for each row": [], f"a scale for each group of {SIZE}": []}
    print(f"fp32 {4 * n_weights / 1e6:35.1f} MB {unchanged:8.3f} bits per byte")
    for bits in (8, 5, 4, 3):
        for name, change, size in zip(found, (in_rows, in_groups), (None, SIZE), strict=True):
            found[name].append((megabytes(bits, size), score_with(change, bits)))
            mb, score = found[name][-1]
            print(f"{bits} bits, {name:28} {mb:4.1f} MB {score:8.3f} bits per byte")
    codes = quantize(matrices[0], 4)[0]
    kept = torch.equal(unpack(pack(codes)), codes)
    n_bytes = pack(codes).numel()
    print(f"packed, {codes.numel():,} codes take {n_bytes:,} bytes; unpacked the same: {kept}")
    with plots.style():
        plt.figure(figsize=(6.5, 4))
        for (name, points), marker in zip(found.items(), "os", strict=True):
            line = plt.plot(*zip(*points, strict=True), marker=marker, label=name)[0]
            for bits, point in zip((8, 5, 4, 3), points, strict=True):
                label = {"textcoords": "offset points", "color": line.get_color()}
                plt.annotate(f"{bits}", point, (0, 6), **label)
        plt.axhline(unchanged, color="gray", linestyle=":", label="fp32")
        plt.xlabel("all matrices, MB")
        plt.ylabel("bits per byte of held-out text")
        plt.title("What fewer bits cost (at the points: bits of a code)")
        plt.legend()
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q1, q2, q4 and q5.")
