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
#     stem: quantization
#     modules: [quant, gptq, linear, quant_cache, schemes]
#     objectives:
#       - Turn weights into 8-bit codes, and say when one scale for a matrix fails
#       - Measure what a scheme costs, in pairs on held-out text, with a standard error
#       - Pack 4-bit weights two to a byte, and count all their bits
#       - Choose codes by a layer's outputs (GPTQ), and test them on other text
#       - Count the bytes that a product moves, and say when dequantizing first is slower
#       - Show what a loud channel does to 8-bit activations, and few bits to keys and values
#     minutes: 50
#     lab: quantization
# ---

# %% [markdown]
# # Quantization: fewer bits for the same weights
#
# With weights in 8 bits instead of 32, a step of decode has a quarter of their bytes to fetch, and bytes are what a large model's step waits for. Yet the obvious program,
# which stores 8 bits and turns them back into floats when they are needed, is **several times slower than before. Why? And what do the missing bits cost?**
#
# Write down a guess at each. Section 5 answers the first, section 8 the second.
#
# **Afterwards you can**
#
# - turn weights into 8-bit codes, and say when one scale for a matrix fails;
# - measure what a scheme costs, in pairs on held-out text, with a standard error;
# - pack 4-bit weights two to a byte, and count all their bits;
# - choose codes by a layer's outputs (GPTQ), and test them on other text;
# - count the bytes that a product moves, and say when dequantizing first is slower;
# - show what a loud channel does to 8-bit activations, and few bits to keys and values.
#
# **You need** the lessons on the model (a layer is `x @ matrix.T`, a row of the matrix for each output), on the KV cache and on the roofline. No GPU, and no
# network once `teachkit` is installed. Allow fifty minutes, and half as much for the exercises.

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
import copy
import json
import math
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import teachkit as tk
from teachkit import cost, figures, gptq, hardware, quant, roofline, shapes
from teachkit.figures.int4_packing import int4_packing
from teachkit.linear import Int4Linear
from teachkit.quant_cache import QuantizedCache

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. Eight bits: a scale for each row
#
# Take 255 evenly spaced values, from minus the largest magnitude in a row of weights to plus it. Store for each weight the number of the nearest value, its *code*,
# from −127 to 127, and for the row the distance between two values, its *scale*:
#
# $$\text{scale} = \frac{\max |w|}{127} \qquad \text{code} = \mathrm{round}\!\left(\frac{w}{\text{scale}}\right) \qquad \text{weight} \approx \text{code} \cdot \text{scale}$$
#
# **Predict.** The largest magnitude in a row is 0.254. How far can rounding move a weight of that row, at most?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# The scale is $0.254 / 127 = 0.002$. No weight is further than half of that, 0.001, from the nearest value.
#
# </details>


# %%
def round_int8(weight):
    """Codes from -127 to 127, and a scale for each row"""
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


model = tk.load("bundled")
config = model.config
weight = model.blocks[2].mlp.gate.weight  # (704 outputs, 256 inputs)
codes, scale = round_int8(weight)
stored = quant.int8(weight)
assert torch.equal(codes, stored.q)
assert torch.equal(scale[:, 0], stored.scale)

off = (weight - codes * scale).abs()
print(f"largest error, in scales: {(off / scale).max():.2f}")
print(f"root mean square error, in scales: {(off / scale).square().mean().sqrt():.2f}")
print(f"bits per weight, scales included: {stored.bits_per_weight}")

# %% [markdown]
# Half a scale bounds the error. Errors spread evenly between two values have a root mean square of $1/\sqrt{12} \approx 0.29$ scales, as here.
#
# A row's scale can wait until after the sum: $\sum_j (\text{code}_j \cdot \text{scale})\, x_j = \text{scale} \cdot \sum_j \text{code}_j\, x_j$. One scale
# for the whole matrix would be simpler still.
#
# **Predict.** One row is multiplied by 64. What happens to the error of the *other* rows, with a scale per row, and with one for the matrix?

# %%
louder = weight.clone()
louder[0] *= 64
print("root mean square error of rows 1 to 703, per cent of their weights")
print("              as trained   row 0 louder")
for per in ("channel", "tensor"):
    line = f"per {per:8}"
    for matrix in (weight, louder):
        off = (quant.int8(matrix, per=per).dequantize() - matrix)[1:]
        line += f"{100 * off.square().mean().sqrt() / weight[1:].square().mean().sqrt():14.1f}"
    print(line)

# %% [markdown]
# **Explain.** One scale for all is set by the loudest row, and leaves most others two or three codes on either side of zero. (*Channel* is the field's word: here for a row
# of outputs, in section 6 for a column of inputs.) But an error of weights is not yet an error of predictions.

# %% [markdown]
# ## 2. Measured in pairs
#
# Quality is measured in bits per byte (lesson on the model), on windows of 512 tokens from files of Python's library that the model was not trained on. Some of these files are set
# aside for *calibration*: section 4 looks at text before it rounds, and must not be judged by the same text.

# %%
folder = tk.weights.find("bundled")
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
names = sorted(held_out)


def windows(names, n):
    """n windows of 513 tokens, spread evenly over these files"""
    rows = []
    for name in names:
        ids = [model.tokenizer.bos, *model.tokenizer.encode(held_out[name], special=False)]
        rows += [ids[i : i + 513] for i in range(0, len(ids) - 512, 512)]
    return torch.tensor(rows[:: len(rows) // n][:n])


judged, calibration = windows(names[::2], 16), windows(names[1::2], 16)[:, :512]
n_bytes = sum(len(model.tokenizer.decode(row).encode()) for row in judged[:, 1:].tolist())


def bits(model, cache=tk.cache.ContiguousCache, **options):
    """Bits that each judged window costs: -log2 of the probability of every token that came

    It reads through a cache, since section 7 rounds what is in it.
    """
    spent = []
    for rows in judged.split(8):
        past, nats = cache(config, len(rows), 512, **options), 0
        pieces = zip(rows[:, :-1].split(128, 1), rows[:, 1:].split(128, 1), strict=True)
        for given, came in pieces:
            logits = model(given, cache=past)
            nats += F.cross_entropy(logits.mT, came, reduction="none").sum(1)
        spent.append(nats.double() / math.log(2))
    return torch.cat(spent)


baseline = bits(model)
worse = {}  # by scheme: what each window costs more, in per cent of a mean window


def mean_and_error(name):
    return worse[name].mean().item(), worse[name].std().item() / len(judged) ** 0.5


def loss(name):
    """Mean and standard error; of a mean within two errors of zero, how large it may be"""
    mean, error = mean_and_error(name)
    if abs(mean) < 2 * error:
        return f"not told from 0 (below {math.ceil(10 * (abs(mean) + 2 * error)) / 10} %)"
    return f"{mean:+.{0 if mean > 4 else 1}f} % ± {error:.1f}"


def judge(name, model, **options):
    worse[name] = 100 * (bits(model, **options) - baseline) / baseline.mean()
    print(f"{name:28} {loss(name)}")


print(f"fp32: {baseline.sum() / n_bytes:.2f} bits per byte, {len(judged)} windows")
print(f"one window to another: ± {100 * baseline.std() / baseline.mean():.0f} %")

# %% [markdown]
# Windows differ far more from each other than a model from its quantized self. So each window is compared *with itself*: a scheme costs the mean of the 16 differences, and their standard deviation divided by $\sqrt{16}$
# is the *standard error* of that mean. A mean within two standard errors of zero may be luck.
#
# `tk.quantize` rounds the matrices of all layers, and the embedding, which is also the head. It gets the model as trained, and one with a *plant*: in each attention two rows of every query head are multiplied by 64, the same rows of the key heads divided.
# The factors cancel in every score. (Two rows, because rotary positions turn them as a pair.)
#
# **Predict.** What does int8 cost each model, with a scale per row and with one per matrix?


# %%
def louder_rows(model, factor=64):
    """The same function: two rows of every query head louder, of every key head softer"""
    other = copy.deepcopy(model)
    pair = [5, 5 + config.head_dim // 2]
    for block in other.blocks:
        for layer, by in ((block.attention.q, factor), (block.attention.k, 1 / factor)):
            layer.weight.view(-1, config.head_dim, config.d_model)[:, pair] *= by
    return other


planted = louder_rows(model)
print("same logits:", torch.equal(planted(judged[:2, :64]), model(judged[:2, :64])), "\n")
int8 = tk.quantize(model, "int8")
judge("int8", int8)
judge("int8 per tensor", tk.quantize(model, "int8", per="tensor"))
judge("planted, int8", tk.quantize(planted, "int8"))
judge("planted, int8 per tensor", tk.quantize(planted, "int8", per="tensor"))

# %% tags=["hide-input"]
rows_of = (
    layer.weight.abs().amax(1)
    for layer in model.modules()
    if isinstance(layer, torch.nn.Linear)
)
loudest = max((rows.max() / rows.median()).item() for rows in rows_of)
mean, error = mean_and_error("int8")
verdict = "cannot be told from nothing" if abs(mean) < 2 * error else "is small but there"
Markdown(f"""
**Explain.** What int8 per row costs {verdict} on this sample. One scale per matrix hardly costs more in the model as trained, where the loudest row of any matrix is at most {loudest:.1f} times the median one.
The plant does nothing to rows with a scale of their own, whose codes stay the same; with one scale for the matrix, it leaves the other rows of the queries few codes. A scale per row is cheap: {stored.bits_per_weight - 8:.3f} bits per weight.
""")

# %% [markdown]
# ## 3. Four bits: a scale and a zero for each group
#
# Sixteen values are few for a whole row. So it is cut into *groups* of 32, 64 or 128 neighbours. A group's sixteen values reach from its least weight to its largest: *scale* is the distance
# between two, *zero* the value of code 8, near the middle. A code of four bits, half a byte, is a *nibble*. (So in PyTorch's int4 kernels; other formats have only a scale.)
#
# $$\text{weight} \approx (\text{nibble} - 8) \cdot \text{scale} + \text{zero}, \qquad \text{nibble} = 0, 1, \ldots, 15$$
#
# **Predict.** Scale and zero take 16 bits each. How many bits per weight are stored with groups of 32, and of 128?


# %%
def round_int4(weight, size):
    """Nibbles, and the scale and zero of every group of `size` neighbours"""
    groups = weight.unflatten(-1, (-1, size))
    scale, zero = quant.fit_groups(groups)  # such that no weight is out of reach, in bfloat16
    steps = (groups - zero.float()[..., None]) / scale.float()[..., None]
    return (steps.round() + 8).to(torch.uint8).flatten(-2), scale, zero


def pack(nibbles):
    """Two columns to a byte: the even one in the low four bits, the odd one in the high four"""
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def unpack(packed):
    return torch.stack((packed & 15, packed >> 4), -1).flatten(-2)


def turn_back(nibbles, scale, zero, size):
    steps = (nibbles.float() - 8).unflatten(-1, (-1, size))
    return (steps * scale.float()[..., None] + zero.float()[..., None]).flatten(-2)


print("group   bits per weight")
for size in quant.GROUP_SIZES:
    nibbles, scale, zero = round_int4(weight, size)
    stored = quant.int4(weight, group_size=size)
    assert torch.equal(pack(nibbles), stored.packed)
    assert torch.equal(unpack(pack(nibbles)), nibbles)
    assert torch.equal(turn_back(nibbles, scale, zero, size), stored.dequantize())
    print(f"{size:5} {stored.bits_per_weight:13}")
print("first four nibbles ", nibbles[0, :4].tolist())
print("first two bytes    ", [f"{byte:08b}" for byte in pack(nibbles)[0, :2].tolist()])

# %% [markdown]
# The figure shows a group of 32 weights on its sixteen values. Choose a byte and follow its two weights into bits and back. Then make one of them 1 and
# watch the sixteen lines: what becomes of the other 31 weights?

# %% tags=["nbval-ignore-output"]
int4_packing({f"row {i} of the matrix": weight[i, :32].tolist() for i in (0, 1, 2)}, byte=3)

# %% [markdown]
# **Explain.** The lines move apart to reach the one large weight, and the others are left with at most half of the nibbles: section 1's loud row, now inside a group. Smaller groups confine the damage and cost more bits.
#
# **Measure.** In `tk.quantize`, "rtn" is *round to nearest*, as above. The embedding stays in int8.

# %%
for size in quant.GROUP_SIZES:
    judge(f"int4 by {size}, rtn", tk.quantize(model, "int4", group_size=size))

# %% [markdown]
# ## 4. GPTQ: errors that make each other good
#
# Rounding to nearest keeps each *weight* close. A layer passes on $x W^\top$, where errors may cancel. Suppose that two inputs are always equal, and that a row has
# the weights 0.4 and 0.4, to be rounded to whole numbers. To nearest gives 0 and 0: the output, which should be $0.8x$, is gone. Instead round the first to 0, let the second take over what is missing, which makes it 0.8, and round that to 1.
#
# GPTQ ([Frantar et al. 2022](https://arxiv.org/abs/2210.17323)) does so column by column. Which columns can stand in for which is seen in the layer's inputs $X$ on calibration text:
# an entry of $H = \frac{2}{n} X^\top X$ is large where two inputs go up and down together. If rounding puts column $j$ off by $\delta$, the outputs change least when the later columns change by
# $\delta\, U_{j,k} / U_{j,j}$ in column $k$, where $U$ is the upper Cholesky factor of $H^{-1}$ (derived in the paper).


# %%
def round_gptq(weight, H, size=64, damping=0.01):
    """Nibbles, chosen column by column; the columns still to come are moved against the error"""
    H = H + damping * H.diagonal().mean() * torch.eye(len(H))  # so that it can be inverted
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    left, chosen = weight.double(), []
    for j in range(weight.shape[1]):
        if j % size == 0:
            scale, zero = quant.fit_groups(left[:, j : j + size].float())
        nibble = quant.nearest_nibbles(left[:, j].float(), scale, zero)
        rounded = (nibble.double() - 8) * scale.double() + zero.double()
        error = (left[:, j] - rounded) / U[j, j]
        left[:, j + 1 :] -= error[:, None] * U[j, j + 1 :]
        chosen.append(nibble)
    return torch.stack(chosen, 1)


def inputs_of(layer, model, tokens):
    """What a layer of the model receives, a row for each token"""
    kept = []
    handle = layer.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    model(tokens, last_only=True)
    handle.remove()
    return kept[0].flatten(0, 1)


layer = model.blocks[2].mlp.gate
X, X_judged = (inputs_of(layer, model, rows[:8, :512]) for rows in (calibration, judged))
H = 2 / len(X) * X.double().T @ X.double()
assert torch.allclose(H, gptq.hessian([X]))
by_gptq = gptq.gptq(weight, H)
ours = pack(round_gptq(weight, H))
print(f"same bytes as teachkit's: {(ours == by_gptq.packed).float().mean():.1%}")

# %% [markdown]
# **Predict.** Are GPTQ's *weights* closer to the original than the nearest ones? And the layer's *outputs*, on text that it has not seen?

# %%
print("root mean square error, %   weights   outputs, calibration   outputs, other text")
for name, packed in {"nearest": quant.int4(weight), "GPTQ": by_gptq}.items():
    change = packed.dequantize() - weight
    line = f"{name:25} {100 * change.norm() / weight.norm():9.1f}"
    for x in (X, X_judged):
        line += f"{100 * (x @ change.T).norm() / (x @ weight.T).norm():20.1f}"
    print(line)

# %% [markdown]
# **Explain.** Its weights are further off, its outputs closer. The last column is the control: a method that sees text could fit that text alone. On other files it errs a little more, and far less than the nearest. Now all layers:

# %%
pieces = [calibration[:8], calibration[8:]]
by_feedback = tk.quantize(model, "int4", group_size=64, method="gptq", calibration=pieces)
judge("int4 by 64, gptq", by_feedback)

# %% [markdown]
# The format is the same, and so is the cost when the model runs: only codes and scales are better chosen.

# %% [markdown]
# ## 5. The obvious program is slower
#
# Now the puzzle, with one row of activations and 4096 × 4096 weights, in fp32 more than most processors cache. First count what every operation reads and writes.
#
# **Predict.** `w8.dequantize()` is `q.float() * scale`. In `F.linear(x, w8.dequantize())` each weight is fetched as one byte. How many bytes per weight are read and written in all, when fp32 itself moves 4?


# %%
class BytesMoved(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views move nothing"""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            # copy_ only writes its first tensor; what is broadcast is small in memory.
            read = args[1:] if operation is torch.ops.aten.copy_.default else args
            tensors = [t for t in tree_leaves((read, out)) if isinstance(t, torch.Tensor)]
            self.total += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return out


SIZE = 4096
generator = torch.Generator().manual_seed(0)
W = torch.randn(SIZE, SIZE, generator=generator) / SIZE**0.5
w8, w4 = quant.int8(W), quant.int4(W)
kernel, room = Int4Linear(w4), torch.empty_like(W)


def into_room(x):
    """The codes are widened into memory that is already there"""
    return F.linear(x, room.copy_(w8.q)) * w8.scale


ways = {
    "fp32": lambda x: F.linear(x, W),
    "int8, dequantized first": lambda x: F.linear(x, w8.dequantize()),
    "int8, widened, scale after the sum": lambda x: F.linear(x, w8.q.float()) * w8.scale,
    "int8, the same into memory reused": into_room,
    "int4, dequantized first": lambda x: F.linear(x, w4.dequantize()),
    "int4, codes read by the product": kernel,
}
row = torch.randn(1, SIZE, generator=generator)
moved = {}
print("bytes moved per weight")
for name, way in ways.items():
    with BytesMoved() as counter:
        result = way(row)
    held = W if name == "fp32" else (w8 if "int8" in name else w4).dequantize()
    exact = row @ held.T
    assert (result - exact).norm() < 0.01 * exact.norm()
    moved[name] = counter.total / W.numel()
    print(f"{name:35} {moved[name]:6.1f}")

# %% [markdown]
# The second line: 1 to read the codes and 4 to write them as fp32, 4 and 4 to multiply by the scale, 4 to read the result in the product. Only the last is needed with fp32.
# Four bits take several such operations to unpack.
#
# **Predict.** How many times as long as fp32 does the second line take with one row? With 256 rows, as in prefill?

# %% tags=["nbval-ignore-output"]
seconds = {}
for B in (1, 256):
    x = torch.randn(B, SIZE, generator=generator)
    calls = {name: lambda way=way, x=x: way(x) for name, way in ways.items()}
    timings = tk.measure.time_calls(calls, warmup=1, repeats=9 if B == 1 else 3)
    seconds |= {(name, B): min(timing.times_s) for name, timing in timings.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
times = {key: value / seconds["fp32", key[1]] for key, value in seconds.items()}
table = "\n".join(
    f"| {name} | {moved[name]:.1f} | {moved[name] / 4:.1f} | {times[name, 1]:.1f} | {times[name, 256]:.1f} |"
    for name in ways
)
first, fresh, reused, read = (list(ways)[i] for i in (1, 2, 3, 5))
told = [
    f"**The answer to the puzzle.** Dequantizing first moves {moved[first] / 4:.1f} times fp32's bytes and takes {times[first, 1]:.1f} times as long with one row."
    if times[first, 1] > 1.2
    else "Dequantizing first was not clearly slower in this run: run it again."
]
if times[fresh, 1] > 1.5 * times[reused, 1]:
    told.append(
        f"Bytes are one part of that. Fresh memory, which the operating system hands out page by page at the first touch, is another: the third and fourth line move the same bytes, in {times[fresh, 1]:.1f} and {times[reused, 1]:.1f} times fp32's time."
    )
if times[first, 256] < times[first, 1]:
    told.append(
        f"With 256 rows the second line is at {times[first, 256]:.1f}: the matrix is turned back once for all rows, and their arithmetic outweighs it."
    )
told.append(
    f"The product that reads the nibbles itself moves {4 / moved[read]:.0f} times fewer bytes than fp32 and is **{1 / times[read, 1]:.1f} times as fast**. With 256 rows it is at {times[read, 256]:.1f}: arithmetic then takes the time, not fetching."
    if times[read, 1] < 0.95
    else "The product that reads the nibbles itself was not faster in this run: run it again."
)
Markdown(f"""
| {SIZE} × {SIZE} weights | bytes moved per weight | times fp32's | time, 1 row, times fp32's | 256 rows |
| --- | ---: | ---: | ---: | ---: |
{table}

fp32 took {seconds["fp32", 1] * 1e3:.1f} ms with one row, {seconds["fp32", 256] * 1e3:.0f} ms with 256; the fastest of several runs each.

{" ".join(told)}

{tk.measure.caption()}
""")

# %% [markdown]
# So quantization makes nothing faster by itself. A *kernel* does, a program that takes codes as they arrive and writes no wide weights to memory. PyTorch's int4 product widens each code in the processor's registers, on its way into the sum. Which program multiplies a matrix is decided in `teachkit.kernels`, and `model.kernels()` says what was decided.

# %%
for small in (int8, by_feedback):
    for use in (small.kernels()[0], small.kernels()[-1]):
        print(f"{use.name:20} {use.scheme:5} {use.bits_per_weight:6.3f} bits   {use.kernel}")

# %% [markdown]
# Over int8 codes "library product" is the table's third line, the slow way. `tk.fast(model)` gives both schemes a kernel of `teachkit`'s own ([`native`](../book/api.md)), which does not widen at all: even in registers that is work for the processor, and can take longer than fetching the codes. Instead each activation becomes two 8-bit
# digits, once for all rows of the matrix, off by at most a 64,516th of the largest activation. Then the sums are of integers, and many processors multiply 64 pairs of bytes and add up the products in one instruction. `teachkit bench` measures such steps.

# %% [markdown]
# ## 6. Activations in eight bits, and one loud channel
#
# Two digits leave activations all but exact. *W8A8* keeps only the first, so that an activation is an 8-bit code like a weight: half as many products, which counts in prefill. An activation is known only when it comes; each token gets its scale then. (The cells below take the integer sums in floats, exactly: measured here is the loss, not the speed.)


# %%
def w8a8(x, weight):
    """Integer products and sums; then the scale of the token and that of the row"""
    x_codes, x_scale = round_int8(x)
    sums = x_codes.double() @ weight.q.double().T  # whole numbers, exact in double
    return sums * x_scale * weight.scale


stored, some = quant.int8(weight), X[:100]
integers, exact = w8a8(some, stored), some @ weight.T
assert torch.allclose(integers.float(), quant.w8a8_matmul(some, stored), rtol=1e-5)
print("root mean square error of the outputs, %")
for name, result in (("weights only", some @ stored.dequantize().T), ("W8A8", integers)):
    print(f"{name:13} {100 * (result - exact).norm() / exact.norm():.1f}")

# %% [markdown]
# Two roundings of about the same coarseness: errors add up in squares, hence a factor near $\sqrt 2$.
#
# Large language models have a few input channels that are many times louder than the rest, the same ones for nearly every token ([Dettmers et al. 2022](https://arxiv.org/abs/2208.07339)). This small model has none, so plant
# one. What attention and MLP read comes from a norm, whose gain multiplies each channel: multiply one gain by 32, and divide the weights that read this channel by 32.
#
# **Predict.** The function is the same. Which of these notices: int8 for weights only, W8A8, int4?


# %%
def norms(model):
    """Every norm, with the layers that read it"""
    for block in model.blocks:
        yield block.attention_norm, (block.attention.q, block.attention.k, block.attention.v)
        yield block.mlp_norm, (block.mlp.gate, block.mlp.up)


def loud_channel(model, factor=32, channel=7):
    """The same function: behind every norm one channel is louder, and its weights are smaller"""
    other = copy.deepcopy(model)
    for norm, readers in norms(other):
        norm.weight[channel] *= factor
        for reader in readers:
            reader.weight[:, channel] /= factor
    return other


loud = loud_channel(model)
print("same logits:", torch.equal(loud(judged[:2, :64]), model(judged[:2, :64])), "\n")
judge("w8a8", tk.quantize(model, "w8a8"))
judge("loud channel, int8", tk.quantize(loud, "int8"))
judge("loud channel, w8a8", tk.quantize(loud, "w8a8"))
judge("loud channel, int4 by 64", tk.quantize(loud, "int4"))

# %% [markdown]
# **Explain.** A token has one scale, and the loud channel sets it: the other 255 channels share the few codes that are left. That is what W8A8 loses. With weights only, activations stay exact, and int8 still has a few codes for the divided weights. Int4 has not: such a
# weight becomes whichever of its group's sixteen values is nearest to zero, and meets the loudest input of all. So "weights only" is no protection: a small weight can matter most. Methods that look at activations, as GPTQ does, know which (exercise 1).

# %% [markdown]
# ## 7. Keys and values
#
# The cache is the other thing that a step reads. A key never changes, so it is rounded once, when its token comes: $D = 64$ numbers with one scale, and in 4 bits a zero.
#
# **Predict.** Four bits in groups of 64: does a model lose more by its weights, or by its keys and values?


# %%
def rounded(x):
    return turn_back(*round_int4(x, config.head_dim), config.head_dim)


class RoundedStep(tk.cache.UncachedStep):
    """A pass in which keys, values or both go through four bits and back"""

    which = "kv"

    def layer(self, index):
        def attend(q, k, v, *, scale=None):
            k = rounded(k) if "k" in self.which else k
            v = rounded(v) if "v" in self.which else v
            return tk.attention.scaled_dot_product_attention(q, k, v, causal=True, scale=scale)

        return SimpleNamespace(attend=attend)


some = judged[:2, :200]
ours = model(some, step=RoundedStep(config, some))
theirs = model(some, cache=QuantizedCache(config, 2, 200, bits=4))
print("same logits as teachkit's:", bool((ours - theirs).abs().max() < 1e-3))
caches = {
    "fp32": tk.cache.ContiguousCache(config, 1, 512),
    "keys and values int8": QuantizedCache(config, 1, 512),
    "keys and values int4": QuantizedCache(config, 1, 512, bits=4),
}
for name, cache in caches.items():
    print(f"{name:20} {cache.nbytes // 512:5} bytes per token")
print()
judge("keys and values int8", model, cache=QuantizedCache)
judge("keys and values int4", model, cache=QuantizedCache, bits=4)

# %% [markdown]
# **Explain.** Keys and values cost less than weights rounded to nearest. One reason: attention averages values over many tokens, and their errors with them (exercise 3). What is saved here is memory. Our cache turns a layer's past back
# into floats before it attends, the naive way of section 5; a kernel that reads codes would save time, too.

# %% [markdown]
# ## 8. One table
#
# Every scheme on the same weights and windows, with the bytes that one step of decode reads: all matrices, and the keys and values of 512 tokens.

# %% tags=["hide-input"]
fp32_bytes = model.weight_bytes()
int4_bytes = by_feedback.weight_bytes()
past = {name: cache.nbytes for name, cache in caches.items()}
rows = {  # quality, bytes of weights, of keys and values
    "fp32": (None, fp32_bytes, past["fp32"]),
    "bf16": (None, fp32_bytes // 2, past["fp32"]),
    "int8": ("int8", int8.weight_bytes(), past["fp32"]),
    "W8A8": ("w8a8", int8.weight_bytes(), past["fp32"]),
    "int4 by 64, to nearest": ("int4 by 64, rtn", int4_bytes, past["fp32"]),
    "int4 by 64, GPTQ": ("int4 by 64, gptq", int4_bytes, past["fp32"]),
    **{f"fp32, {name}": (name, fp32_bytes, past[name]) for name in list(past)[1:]},
}
table = "\n".join(
    f"| {name} | {32 * weights / fp32_bytes:.1f} | {weights / 1e6:.2f} | {cached / 1e6:.2f} "
    f"| {baseline.sum() / n_bytes * (1 + (mean_and_error(key)[0] if key else 0) / 100):.2f} "
    f"| {loss(key) if key else 'nothing'} |"
    for name, (key, weights, cached) in rows.items()
)
Markdown(f"""
| scheme | bits per weight, head included | MB of weights | MB of keys and values | bits per byte | costs |
| --- | ---: | ---: | ---: | ---: | ---: |
{table}

{len(judged)} windows of 512 tokens, {n_bytes:,} bytes; ± is one standard error. bf16 weights cost nothing because the file holds them: ours in fp32 are the same numbers, widened.
""")

# %% [markdown]
# **The answer, second part.** Eight bits cost next to nothing; four, well chosen, little. Neither is a law: one loud channel (section 6) hurt W8A8 and ruined int4. `teachkit bench` makes this table on more text, with predicted and measured tokens per second.

# %% [markdown]
# ## What real systems do
#
# - **They keep loud channels wide.** [LLM.int8()](https://arxiv.org/abs/2208.07339) multiplies those few in 16 bits, everything else in 8.
# - **They move loudness into the weights.** [SmoothQuant](https://arxiv.org/abs/2211.10438) is our plant run backwards (exercise 2). [AWQ](https://arxiv.org/abs/2306.00978) scales up the weights that meet loud inputs, and rounds them to 4 bits.
# - **They use small groups.** llama.cpp's [Q4_0 and Q8_0](https://github.com/ggml-org/llama.cpp/blob/b4000/ggml/src/ggml-common.h) have blocks of 32 with a 16-bit scale and no zero: 4.5 and 8.5 bits per weight.
# - **They write kernels.** gpt-fast's [README](https://github.com/pytorch-labs/gpt-fast/blob/0f925b5d4ce457b89a7ca6c9ce50f42bf2576945/README.md) has 104.9 tokens a second for Llama 2 7B on an A100, 155.58 in 8 bits and 196.80 in 4. The bandwidth reached falls from 1,397 to 1,069 and 863 GB/s: what is not fetching grows in share.
# - **They round keys by channel.** [KIVI](https://arxiv.org/abs/2402.02750) found that some channels of keys are loud, and in 2 bits gives keys a scale per channel, values one per token.

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
a100, a10 = hardware.device("a100-80gb"), hardware.device("a10")
llama, llama2, llama13, mistral = (
    shapes.shape(name).config for name in ("llama-7b", "llama-2-7b", "llama-13b", "mistral-7b")
)
n_llama, n_llama13 = (sum(cost.parameters(c).values()) for c in (llama, llama13))


def gain(config, device, batch, context, **narrow):
    """How many times less a step of decode takes at least in fewer bits"""
    steps = (cost.decode_step(config, batch, context, **bits) for bits in ({}, narrow))
    wide, less = (roofline.time_bound(step, device).seconds for step in steps)
    return wide / less


def prefill_ms(weight_bits, act_bits):
    work = cost.prefill(llama, 1, 512, weight_bits=weight_bits, act_bits=act_bits)
    return f"{1e3 * roofline.time_bound(work, a100).seconds:.1f}"


def critical(weight_bits, act_bits):
    return roofline.critical_batch(a100, weight_bits=weight_bits, act_bits=act_bits)


all_eight = {"weight_bits": 8, "act_bits": 8, "kv_bits": 8}
talk = "T. Lacroix, [talk](https://www.youtube.com/watch?v=mYRqvB1_gRk), October 2023"
analysis = "[llm-analysis](https://github.com/cli99/llm-analysis/tree/main/examples/llama), example “LLaMA Models”"
deck = "Li and Li, [*Quantifying Latency-Accuracy of LLMs*](https://bu9gy.github.io/)"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| int8 loses no precision, or very little; int4 some | {talk} | Both hold here for weights with a scale per row or group (section 8). Not for int8 as such: one scale per matrix with loud rows costs {mean_and_error("planted, int8 per tensor")[0]:.0f} %, W8A8 with a loud channel {mean_and_error("loud channel, w8a8")[0]:.0f}. |
| int8 halves the weights, int4 quarters them | same talk | Right for the bare codes. With a 16-bit scale for every 32 weights int4 is {16 / 4.5:.2f} times smaller: {n_llama * 4.5 / 8e9:.2f} GB instead of {n_llama * 4 / 8e9:.2f} for LLaMA-7B. |
| The critical batch stays the same | same talk | If weights *and* activations are narrow, and arithmetic as much faster: {critical(8, 8):.0f} on an A100, as in 16 bits. With narrow weights alone, {critical(8, 16):.1f} in 8 bits and {critical(4, 16):.1f} in 4. |
| int8 arithmetic should be twice as fast; 1.5 times is what one gets | same talk | A measurement, of shapes that are not given. The A100's data sheet allows {a100.peak(8) / a100.peak(16):.0f} times. |
| Where memory binds, everything gets twice as fast in int8 | same talk | The weights' part does. With keys and values in 16 bits, Llama 2 7B on an A100 gains {gain(llama2, a100, 1, 544, weight_bits=8):.2f} times for one sequence of 544 tokens, {gain(llama2, a100, 33, 4096, weight_bits=8):.2f} for 33 of 4,096. |
| Another precision doubles the requests | same talk | Mistral 7B on an A10, 64 sequences of 512 tokens: {gain(mistral, a10, 64, 512, weight_bits=8):.2f} times with weights alone, {gain(mistral, a10, 64, 512, **all_eight):.2f} if activations, keys and values follow. |
| Integer products need weights *and* activations in narrow integers | {analysis} | Right (section 6): 512 tokens of LLaMA-7B take at least {prefill_ms(16, 16)} ms on an A100, and {prefill_ms(4, 16)} with weights in 4 bits; with both in 8 bits {prefill_ms(8, 8)}, with weights in 4 and activations in 8 {prefill_ms(4, 8)}. |
| LLaMA-2-13B does not fit an M2 with 16 GB unless it is optimized | {deck} | Right: {n_llama13 * 2 / 1e9:.1f} GB in 16 bits, {n_llama13 * 4.5 / 8e9:.1f} in 4.5. |
""")

# %% [markdown]
# ## Exercises
#
# **1. What GPTQ knows.** Quantize `loud` to int4 with GPTQ, on the same calibration text. How much of the loss comes back? Then calibrate on random tokens instead of text, for `model`.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# judge("loud channel, gptq", tk.quantize(loud, "int4", method="gptq", calibration=pieces))
# noise = torch.randint(config.vocab_size, (8, 512), generator=torch.Generator().manual_seed(0))
# judge("gptq, random tokens", tk.quantize(model, "int4", method="gptq", calibration=[noise]))
# ```
#
# Nearly all of it: the loud channel's entry in $H$ is about $32^2$ times the others, so its error is made good first. Random tokens do almost as well as text here: much of what goes up and down together comes from the weights before the layer, not from the language.
#
# </details>
#
# **2. SmoothQuant.** For each channel behind a norm, let $a$ be its largest activation on calibration text and $w$ the largest weight that reads it. Divide the gain by $s = \sqrt{a / w}$, multiply the weights by $s$. Is W8A8 of `loud` cured?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def smooth(model, tokens):
#     other = copy.deepcopy(model)
#     for norm, readers in norms(other):
#         a = inputs_of(readers[0], other, tokens).abs().amax(0)
#         w = torch.stack([reader.weight.abs().amax(0) for reader in readers]).amax(0)
#         s = (a / w).sqrt()
#         norm.weight /= s
#         for reader in readers:
#             reader.weight *= s
#     return other
#
#
# smoothed = smooth(loud, calibration[:2])
# judge("loud, smoothed, w8a8", tk.quantize(smoothed, "w8a8"))
# ```
#
# Yes, without knowing which channel was loud, and at no cost when the model runs: the factors are folded into gains and weights.
#
# </details>
#
# **3. Keys or values?** Let only keys, or only values, go through 4 bits. Which loses more?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# given, came = judged[:, :-1], judged[:, 1:]
# for which in ("k", "v", "kv"):
#     step = RoundedStep(config, given)
#     step.which = which
#     nats = F.cross_entropy(model(given, step=step).mT, came, reduction="none").sum(1)
#     worse[which] = 100 * (nats / math.log(2) - baseline) / baseline.mean()
#     print(which, loss(which))
# ```
#
# Keys: a value that is off is averaged with others, a key that is off changes where a head looks. Both together lose no more than keys alone, within the error of this sample.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("quantization")

# %% [markdown]
# Then in your own words:
#
# **A.** One weight of a row is 10, the others lie between −1 and 1. How far off can these be in int8, at most, with the 10 and without?
#
# <details>
# <summary>Answer</summary>
#
# Half a scale: $10 / 127 / 2 = 0.039$, and $1 / 127 / 2 = 0.0039$.
#
# </details>
#
# **B.** The first byte of a packed row is 01101001. Which nibbles do columns 0 and 1 have?
#
# <details>
# <summary>Answer</summary>
#
# The low half is column 0: 1001 is 9. The high half is column 1: 0110 is 6.
#
# </details>
#
# **C.** A colleague quantizes weights to 4 bits and finds that a prompt of 2,000 tokens is read no faster, while answers come sooner. Is something broken?
#
# <details>
# <summary>Answer</summary>
#
# No. Prefill of so many rows waits for arithmetic, which narrow weights alone do not speed up; decode waits for the weights.
#
# </details>
#
# ## Not covered here
#
# Floating-point formats of 8 and 4 bits (FP8, MXFP4), formats below 4 bits, and training with rounded weights. Pruning and distillation come in a later part.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
