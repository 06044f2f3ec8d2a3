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
#     stem: paged_cache
#     modules: [blocks, block_table, paged, block_attention]
#     objectives:
#       - Measure what a reservation wastes on a trace of requests, and predict what blocks of any size waste
#       - Write an allocator and a block table in 30 lines, and a cache that reads and writes through the table
#       - Write attention that visits blocks where they lie and combines the pieces, and say when it beats a gather
#       - Share a past between sequences, by copy on write and by content, and say why a key must stand for all tokens before
#       - Say what of a published gain in throughput is memory, and what is batching
#     minutes: 60
#     lab: paged_cache
# ---

# %% [markdown]
# # The paged cache: memory for the tokens that are there
#
# Suppose that a server has room for the keys and values of 4,096 tokens, and that its requests have, averaged over their lives, 140 tokens stored. $4096 / 140 = 29$: so many could be served at a time.
# A cache as we know it, with a row for each request, holds **four**. Where is the rest of the memory?
#
# Write down your guess. Then a second one: if the server knew how long every text will become, and reserved just that, how many would it hold?
#
# **Afterwards you can**
#
# - measure what a reservation wastes on a trace of requests, and predict what blocks of any size waste;
# - write an allocator and a block table in 30 lines, and a cache that reads and writes through the table;
# - write attention that visits blocks where they lie and combines the pieces, and say when it beats a gather;
# - share a past between sequences, by copy on write and by content, and say why a key must stand for all tokens before;
# - say what of a published gain in throughput is memory, and what is batching.
#
# **You need** the lessons on attention, generation and the KV cache. No GPU, and no network once `teachkit` is installed. Allow an hour, and half as much for the exercises. Letters as before; new are
# $N$ blocks in a pool and $P$ tokens in a block. A *slot* is the room for one token's keys and values. *Paged* is what operating systems call memory that is handed out in pieces of one size, its pages.

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
import functools
import itertools
import json
import math
import random
import statistics
import time
from array import array
from collections import Counter, deque
from hashlib import sha256
from importlib import resources

import torch
from IPython.display import Markdown, display
from torch.utils._python_dispatch import TorchDispatchMode

import teachkit as tk
from teachkit import blocks, figures, shapes
from teachkit.block_attention import BlockReads, block_attention
from teachkit.block_table import BlockTable
from teachkit.engine import Engine
from teachkit.paged import PagedCache

torch.set_grad_enabled(False)  # nothing is trained here
started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. What a reservation wastes
#
# A *trace* says what was asked of a server. Ours has 128 requests; the lengths of prompts and of answers are lognormal, many short and a few long, as people's are. No key or value is stored for an answer's last token: nobody attends to it.


# %%
def lengths(n, median, draw, sigma=0.8, cap=512):
    """Lognormal: the logarithm has a normal distribution, of deviation sigma, around the median's"""
    drawn = [draw.lognormvariate(math.log(median), sigma) for _ in range(n)]
    return [min(cap, max(1, round(x))) for x in drawn]


draw = random.Random(0)
prompts, answers = lengths(128, 64, draw), lengths(128, 48, draw)
trace = [(p, p + a - 1) for p, a in zip(prompts, answers)]  # stored at first, and at the end
print("           median   mean   longest")
for name, found in (("prompts", prompts), ("answers", answers)):
    print(
        f"{name} {statistics.median(found):9.0f} {statistics.mean(found):6.0f} {max(found):9}"
    )

# %% [markdown]
# A row of a rectangular cache must be as long as the longest text can get: the model's context, here 1,024. The row belongs to one request from its first token to its last. Three alternatives:
#
# - reserve the next power of two above the request's final length;
# - reserve its final length, if an oracle told it;
# - reserve nothing. Hand out *blocks* of $P$ slots as they are needed; any free block will do.
#
# A request holds its slots, full or empty, in every step of its life. So we count each of them once a step, and sum over all requests.
#
# **Predict.** Which share of this sum is *empty*, for the whole row and for each alternative? For the blocks, take $P = 16$; the table has other sizes too.

# %%
CONTEXT = 1024


def in_blocks(P):
    return lambda stored, final: -(-stored // P) * P


# slots that a request holds, by the tokens that it has stored and will have stored at its end
RULES = {
    "the context": lambda stored, final: CONTEXT,
    "a power of two": lambda stored, final: 1 << (final - 1).bit_length(),
    "the final length": lambda stored, final: final,
} | {f"blocks of {P}": in_blocks(P) for P in (8, 16, 32, 64, 128)}

moments = [(stored, final) for first, final in trace for stored in range(first, final + 1)]
tokens_held = sum(stored for stored, _ in moments)
wasted = {
    name: 1 - tokens_held / sum(rule(*moment) for moment in moments)
    for name, rule in RULES.items()
}
mean_stored = tokens_held / len(moments)
print(f"tokens stored, on average: {mean_stored:.0f}")
print("what is reserved          empty")
for name, share in wasted.items():
    print(f"{name:18} {share:12.1%}")

# %% [markdown]
# **Explain.** With the whole context reserved, more than four slots in five are empty: most texts never get so long. The oracle helps less than one would think. A request that begins with 100 tokens and ends with 300
# has 200 empty slots at first: with the length known, over a quarter of the memory is still empty, all of it room for what is yet to come.
#
# Blocks waste the rest of the last block. If its end falls anywhere with equal probability, from 0 to $P - 1$ slots are empty, $(P-1)/2$ on average, beside $\bar S$ tokens stored:
#
# $$\text{wasted share} \approx \frac{(P-1)/2}{\bar S + (P-1)/2}$$

# %%
print("  P   predicted   counted")
for P in (8, 16, 32, 64, 128):
    empty = (P - 1) / 2
    print(f"{P:3} {empty / (mean_stored + empty):11.1%} {wasted[f'blocks of {P}']:9.1%}")

# %% [markdown]
# The formula fits until $P$ gets near the length of the texts. Three kinds of empty memory have names. What is held for later is *reserved*. What is left over in a piece that was given is *internal fragmentation*; the rest of a last block is that.
# *External fragmentation* is free memory in pieces too small for anybody; where all pieces are equal there is none.
#
# ### How many at a time
#
# Now all 128 requests arrive at once, 4,096 slots are there, and the first to come is the first to be served. A request is let in if its slots are free; in each step everyone stores a token more. Blocks can run out on the way: then the one that came last gives its
# own back and waits. The server knows its tokens, so it can compute their keys and values anew. We count that as free here; the next chapter counts what it takes.
#
# **Predict.** How many are served at a time, while others wait, with each rule? If no slot were ever empty it would be about 29.


# %%
def serve(rule, room):
    """Of each step: requests served, tokens stored, slots held, requests waiting"""
    waiting, running, steps = deque(trace), [], []

    def held():
        return sum(rule(*request) for request in running)

    while waiting or running:
        while held() > room:
            waiting.appendleft(running.pop())
        while waiting and held() + rule(*waiting[0]) <= room:
            running.append(waiting.popleft())
        steps.append((len(running), sum(stored for stored, _ in running), held(), len(waiting)))
        running = [(stored + 1, final) for stored, final in running if stored < final]
    return steps


print("what is reserved   at a time   empty, mean of steps   steps until all are done")
at_a_time = {}
for name, rule in ({"(none ever empty)": in_blocks(1)} | RULES).items():
    steps = serve(rule, 4096)
    at_a_time[name] = statistics.mean(n for n, _, _, waiting in steps if waiting)
    empty = statistics.mean(1 - stored / held for _, stored, held, _ in steps)
    print(f"{name:18} {at_a_time[name]:9.1f} {empty:22.1%} {len(steps):26,}")

# %% [markdown]
# **Explain.** Blocks of 16 serve 28.6 requests at a time where whole rows serve four: seven times as many, and hardly fewer than with no slot ever empty. (That is 30.2 and not 29, since the last steps, with long texts and nobody waiting, are not counted.) With the oracle it is 21; blocks of 128 waste as much.
#
# Summed over all steps, the empty share is that of the first table, as it must be: in whatever order they come, all requests live through the same moments. The mean *of the steps* is lower, for it counts the last ones, with a few long texts and hardly an empty slot, as much as those of a full machine.

# %% [markdown]
# ## 2. An allocator and a block table
#
# Every sequence has a *block table*, the list of its blocks. Token $p$ lies in the block that stands at place $\lfloor p / P \rfloor$ of the table, in that block's slot $p \bmod P$.


# %%
class Pool:
    """Which blocks are free"""

    def __init__(self, n_blocks, block_size):
        self.block_size = block_size
        self.free = list(range(n_blocks))[::-1]  # a stack: given and taken back at its end

    def take(self):
        return self.free.pop()

    def give_back(self, block):
        self.free.append(block)


class Table:
    """The blocks of one sequence, in order"""

    def __init__(self, pool):
        self.pool, self.blocks, self.length = pool, [], 0

    def reserve(self, n_new):
        """Room for n_new more tokens"""
        missing = -(-(self.length + n_new) // self.pool.block_size) - len(self.blocks)
        if missing > len(self.pool.free):
            raise ValueError("not enough free blocks")  # nothing has changed
        self.blocks += [self.pool.take() for _ in range(missing)]
        self.length += n_new

    def truncate(self, length):
        """Forget all but the first tokens"""
        keep = -(-length // self.pool.block_size)
        while len(self.blocks) > keep:
            self.pool.give_back(self.blocks.pop())
        self.length = length


# %% [markdown]
# **Predict.** A pool of 8 blocks of 4 tokens. A stores 6 tokens, B 3, A 4 more. B ends. C stores 5, A 3 more. Which blocks has A? Work it out with pencil and paper; free blocks lie on a stack, block 0 on top.

# %%
pool = Pool(8, 4)
A, B, C = Table(pool), Table(pool), Table(pool)
A.reserve(6)
B.reserve(3)
A.reserve(4)
B.truncate(0)
C.reserve(5)
A.reserve(3)
print("A:", A.blocks, "for", A.length, "tokens")
print("C:", C.blocks, "for", C.length, "tokens")
print("A's token 9 lies in block", A.blocks[9 // 4], "slot", 9 % 4)

# %% [markdown]
# A's blocks are not neighbours, C got the one that B had, and nothing was moved. A block is given in the time of a `pop`, however large the pool. `teachkit.blocks.BlockPool` and `teachkit.block_table.BlockTable` do the same, and more; section 5 compares them with ours.

# %% [markdown]
# ## 3. Write and read through the table
#
# The keys of one layer are a pool of shape $(N, H_{kv}, P, D)$, and so are its values. As in the lesson on the KV cache, the model asks for a plan, and each layer for a view whose `attend` stores what is new and reads what is there. Only these two know of blocks. The plan also says where the new tokens stand, for their rotation, and which are no padding (here all).


# %%
class Paged:
    """The cache of one sequence, in pools (L, N, Hkv, P, D) that others use too"""

    def __init__(self, k, v, table):
        self.k, self.v, self.table = k, v, table

    def plan(self, n_new):
        start = self.table.length
        self.table.reserve(n_new[0])
        return Plan(self, torch.arange(start, self.table.length))


class Plan:
    def __init__(self, cache, places):
        self.cache, self.positions = cache, places[None]
        self.valid = torch.ones_like(self.positions, dtype=torch.bool)
        size = cache.table.pool.block_size
        self.blocks = torch.tensor(cache.table.blocks)  # of all tokens, in order
        self.slots = self.blocks[places // size], places % size  # of the new ones

    def layer(self, index):
        return View(self, self.cache.k[index], self.cache.v[index])


class View:
    def __init__(self, plan, k, v):
        self.plan, self.k, self.v = plan, k, v

    def attend(self, q, k, v, *, scale=None):
        block, slot = self.plan.slots
        for stored, new in ((self.k, k), (self.v, v)):
            stored[block, :, slot] = new[0].transpose(0, 1)  # (T, Hkv, D)
        k, v = gather(self.k, self.plan), gather(self.v, self.plan)
        return tk.attention.scaled_dot_product_attention(q, k, v, causal=True, scale=scale)


def gather(stored, plan):
    """The blocks of a sequence as one stretch, (1, Hkv, S, D)"""
    stretch = stored[plan.blocks].transpose(0, 1).flatten(1, 2)
    return stretch[None, :, : plan.cache.table.length]


# %% [markdown]
# **Measure.** Two texts go through the bundled model in turns, in pieces of unequal length, so that their blocks alternate in the pool. `teachkit`'s `PagedCache(config, n_blocks, block_size, batch=2)` takes both as rows of one batch. The reference is one pass over each text without a cache.

# %%
model = tk.load("bundled")
config = model.config
L, Hkv, D = config.n_layers, config.n_kv_heads, config.head_dim
folder = resources.files("teachkit") / "checkpoints" / "bundled"
# A file of Python's library that the model was not trained on.
source = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))["functools.py"]
ids = torch.tensor([model.tokenizer.bos, *model.tokenizer.encode(source, special=False)])
texts = ids[None, :110], ids[None, 600:710]
expected = [model(text) for text in texts]
PIECES = (50, 1, 1, 13, 32, 1, 12)


def same(a, b):
    """Equal but for rounding: logits are of the order of 10"""
    return bool((a - b).abs().max() < 1e-3)


shape = (L, 20, Hkv, 16, D)
pool, k, v = Pool(20, 16), torch.empty(shape), torch.empty(shape)
caches = [Paged(k, v, Table(pool)) for _ in texts]
rows = PagedCache(config, n_blocks=20, block_size=16, batch=2)
logits, from_rows = ([], []), []
for pieces in zip(*(text.split(PIECES, 1) for text in texts)):
    for cache, piece, found in zip(caches, pieces, logits):
        found.append(model(piece, cache=cache))
    from_rows.append(model(torch.cat(pieces), cache=rows))
for i, name in enumerate(("first text", "second text")):
    ours, package = torch.cat(logits[i], 1), torch.cat(from_rows, 1)[i : i + 1]
    print(name, "in blocks", caches[i].table.blocks)
    print("   logits as without a cache: ours", same(ours, expected[i]), end="")
    print(", teachkit's", same(package, expected[i]))

# %% [markdown]
# ## 4. Attention that comes to the blocks
#
# `gather` copies the whole past of a sequence, in every layer and for every token, to read it once. Is the copy needed?
#
# **Predict.** A query reads 60 tokens in blocks of 16. We put the blocks one behind the other and take the first 60 slots, but in another order than the table's: first with the full blocks exchanged; then with the last one, which holds 12 tokens, in the place of the first. Which of the two changes the answer?


# %%
def attend(q, k, v):
    """A query (H, D) over keys and values (Hkv, S, D)"""
    return tk.attention.scaled_dot_product_attention(q[None, :, None], k[None], v[None])[
        0, :, 0
    ]


torch.manual_seed(0)
H, n = 4, 60
q, k, v = torch.randn(H, D), torch.randn(4, Hkv, 16, D), torch.randn(4, Hkv, 16, D)


def in_order(order):
    """The answer with blocks in this order, the first 60 slots taken for the tokens"""
    return attend(q, *(x[order].transpose(0, 1).flatten(1, 2)[:, :n] for x in (k, v)))


reference = in_order([0, 1, 2, 3])
for order in ([2, 0, 1, 3], [3, 1, 2, 0]):
    print(order, "the same answer:", torch.allclose(in_order(order), reference, atol=1e-5))

# %% [markdown]
# **Explain.** A key carries its position in its rotation, and attention is a weighted mean: a sum does not know an order. The second order fails for another reason: among the first 60 slots there are now four empty ones, and four tokens are left out. Mask the last block by its own length, wherever it stands, and any order will do. So a query may visit the blocks in any order, one at a time, if the answers of single blocks can be put together.
#
# They can. Of each block keep a *piece*: the largest score $m$, the sum $l$ of $e^{s - m}$, and the values summed with these weights, $o$. Two pieces become one if both are brought to the larger of the two maxima:
#
# $$m = \max(m_1, m_2), \qquad l = l_1 e^{m_1 - m} + l_2 e^{m_2 - m}, \qquad o = o_1 e^{m_1 - m} + o_2 e^{m_2 - m}$$
#
# At the end $o / l$ is the answer. This is *online softmax* ([Milakov and Gimelshein 2018](https://arxiv.org/abs/1805.02867)).


# %%
def piece(q, k, v):
    """Of one block: q (Hkv, G, D) over k and v (Hkv, n, D)"""
    scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp()
    return top, weights.sum(-1, keepdim=True), weights @ v


def combine(a, b):
    """Two pieces as one"""
    top = torch.maximum(a[0], b[0])
    a_share, b_share = (a[0] - top).exp(), (b[0] - top).exp()
    return top, a[1] * a_share + b[1] * b_share, a[2] * a_share + b[2] * b_share


def block_by_block(q, k, v, table, length):
    """A query (H, D) over the first tokens of the blocks of a table"""
    P, q = k.shape[2], q.unflatten(0, (k.shape[1], -1))
    seen = [(block, min(P, length - i * P)) for i, block in enumerate(table)]
    pieces = [piece(q, k[block, :, :n], v[block, :, :n]) for block, n in seen]
    _, total, mixed = functools.reduce(combine, pieces)
    return (mixed / total).flatten(0, 1)


print("block by block as all at once:", end=" ")
print(torch.allclose(block_by_block(q, k, v, range(4), n), reference, atol=1e-5))

# %% [markdown]
# A loop over hundreds of blocks would start thousands of small operations. `teachkit.block_attention` turns it round. In a step of decode each sequence has one query, and a block belongs to one sequence. So every block of the pool is given its own sequence's query, and one batched product of
# $(N, H_{kv}, G, D)$ with $(N, H_{kv}, D, P)$ does them all where they lie; $G = H / H_{kv}$ query heads share a key. Then the pieces are summed by sequence.
#
# The product takes blocks as they lie in the pool, also those that nobody reads, and their pieces are dropped. If these are more than the others, the package copies the blocks that are read, and goes on with the copies.
#
# **Predict.** 48 requests of our trace, each at a random moment; one layer of SmolLM2-135M's shape ([config.json](https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json)), 9 query heads over 3 key/value heads of 64 numbers; $P = 16$, fp32. A server may gather the pasts as
# one padded batch, or row by row, or leave the blocks in place. How many times the bytes of all that is stored does each copy? Remember that a block lies as $(H_{kv}, P, D)$, and attention wants $(H_{kv}, S, D)$: all blocks of the first head, then all of the second.

# %% tags=["hide-input"]
small = shapes.shape("smollm2-135m").config
draw = random.Random(2)
stored = [first + draw.randrange(final - first + 1) for first, final in trace[:48]]


class Counted(TorchDispatchMode):
    """Counts operations, and the bytes that picking and putting in order write"""

    operations = copied = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        aten = torch.ops.aten
        self.operations += 1
        if function in (
            aten.index.Tensor,
            aten.index_select.out,
            aten.clone.default,
            aten.copy_.default,
        ):
            self.copied += out.nbytes
        return out


def counted(call):
    with Counted() as counter:
        call()
    return counter


# %%
def laid_out(P, lengths, spread=1):
    """Block tables, in a pool with so many times the blocks they need; queries, keys, values"""
    counts = [blocks.blocks_for(n, P) for n in lengths]
    n_blocks = spread * sum(counts)
    places = iter(random.Random(3).sample(range(n_blocks), sum(counts)))
    tables = [list(itertools.islice(places, n)) for n in counts]
    generator = torch.Generator().manual_seed(0)
    size = (n_blocks, small.n_kv_heads, P, small.head_dim)
    q = torch.randn(len(lengths), small.n_heads, small.head_dim, generator=generator)
    k, v = torch.randn(size, generator=generator), torch.randn(size, generator=generator)
    return tables, q, k, v


def in_place(tables, q, k, v, lengths):
    reads = BlockReads(tables, lengths, k.shape[2])
    return lambda: block_attention(q, reads.parts(k, q.dtype), reads.parts(v, q.dtype), reads)


def row_by_row(tables, q, k, v, lengths):
    tables = [torch.tensor(table) for table in tables]

    def past(x, i):
        return x[tables[i]].transpose(0, 1).flatten(1, 2)[:, : lengths[i]]

    return lambda: torch.stack(
        [attend(q[i], past(k, i), past(v, i)) for i in range(len(lengths))]
    )


def padded(tables, q, k, v, lengths, *, gathers=True):
    """Rows (B, Hkv, S, D), gathered in every call or there from the beginning"""
    width = max(map(len, tables))
    at = torch.tensor([table + [0] * (width - len(table)) for table in tables])
    seen = torch.arange(width * k.shape[2]) < torch.tensor(lengths)[:, None]
    # Memory for the copies is there: with fresh memory a gather would take longer.
    picked = [x[at] for x in (k, v)]  # (B, S / P, Hkv, P, D)
    rows = [x.transpose(1, 2).contiguous() for x in picked]

    def call():
        for pool, found, row in zip((k, v), picked, rows):
            if gathers:
                torch.index_select(pool, 0, at.flatten(), out=found.flatten(0, 1))
                row.copy_(found.transpose(1, 2))
        past = (row.flatten(2, 3) for row in rows)
        out = tk.attention.scaled_dot_product_attention(
            q[:, :, None], *past, mask=seen[:, None, None]
        )
        return out[:, :, 0]

    return call


contiguous = functools.partial(padded, gathers=False)


def one_by_one(tables, q, k, v, lengths):
    found = [block_by_block(q[i], k, v, tables[i], n) for i, n in enumerate(lengths)]
    return torch.stack(found)


equal_lengths = [sum(stored) // len(stored)] * len(stored)
dense, equal = laid_out(16, stored), laid_out(16, equal_lengths)
WAYS = {  # how; where the blocks are; how long the pasts are
    "in place": (in_place, dense, stored),
    "gather, padded": (padded, dense, stored),
    "gather, row by row": (row_by_row, dense, stored),
    "in place, half of the pool idle": (in_place, laid_out(16, stored, spread=2), stored),
    "block copies, 3/4 of it idle": (in_place, laid_out(16, stored, spread=4), stored),
    "contiguous rows": (contiguous, dense, stored),
    "equal lengths: in place": (in_place, equal, equal_lengths),
    "equal lengths: contiguous rows": (contiguous, equal, equal_lengths),
}
ways, copied = {}, {}
stored_bytes = sum(stored) * 2 * small.n_kv_heads * small.head_dim * 4
print(
    f"{len(stored)} sequences of {min(stored)} to {max(stored)} tokens, {sum(stored):,} in all"
)
print(f"{'as ours':>40}   copied, times what is stored")
for name, (make, layout, lengths) in WAYS.items():
    ways[name] = make(*layout, lengths)
    right = torch.allclose(ways[name](), one_by_one(*layout, lengths), atol=1e-5)
    copied[name] = counted(ways[name]).copied
    print(f"{name:32} {right!s:>7} {copied[name] / stored_bytes:14.1f}")

# %% [markdown]
# **Predict.** How many times as long as *in place* do the gathers take? And rows as a rectangular cache has them, contiguous and padded to the longest, which nobody needs to copy?

# %%
timings = tk.measure.time_calls(ways, repeats=15)  # in turn: A B C D A B C D
ways_s = {name: min(timing.times_s) for name, timing in timings.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
table = "\n".join(
    f"| {name} | {copied[name] / 1e6:.0f} | {ways_s[name] * 1e3:.2f} | {ways_s[name] / ways_s['in place']:.1f} |"
    for name in ways
)
rectangle = len(stored) * -(-max(stored) // 16) * 16
even = ways_s["equal lengths: in place"] / ways_s["equal lengths: contiguous rows"]
Markdown(f"""
| way | MB copied | ms | times *in place* |
| --- | ---: | ---: | ---: |
{table}

**Explain.** All read the same {stored_bytes / 1e6:.1f} MB of keys and values. The padded gather copies each past up to the length of the longest, and twice: out of the pool, and once more to put the heads in front. (The second copy is owed to the pool's layout, not to gathers as such.) Row by row nothing is padded, but {len(stored)} times as many operations are started. In place nothing is copied but a query and a piece for each block.

With half of the pool idle, half of the product is done for nothing. With more idle still, the package copies: into fresh memory, but once and without padding, since pieces need no order.

Contiguous rows copy nothing, but compute {rectangle:,} slots for {sum(stored):,} tokens. Where all pasts are equally long nothing is padded, and then blocks in place take {even:.1f} times as long as rows: pieces have their price. Blocks in place do not beat contiguous rows of the right length. They beat the copying and the padding.

{tk.measure.caption()}
""")

# %% [markdown]
# **When, then?** In place where one query reads each past and most of the pool is in use: decode, on a busy server. A gather where the copy serves many queries. 64 tokens of a *prompt* read the same past: a copy costs each of them a 64th, while in place each would need a piece of every block. `teachkit` gathers there, sequence by sequence.

# %% [markdown]
# ## 5. One block, several owners
#
# Two sequences with the same past can list the same blocks: keys and values depend on nothing else. That takes a count of owners for each block, which is free again when the last has left, and one rule: nobody writes into a block that another one owns. Only the last block of a past, if it is not full, is in question. Whoever is first to write into it takes a copy: *copy on write*.


# %%
class SharedPool(Pool):
    """A pool that counts the owners of its blocks"""

    def __init__(self, n_blocks, block_size):
        super().__init__(n_blocks, block_size)
        self.owners = [0] * n_blocks

    def take(self):
        block = super().take()
        self.owners[block] = 1
        return block

    def give_back(self, block):
        self.owners[block] -= 1
        if not self.owners[block]:
            super().give_back(block)


class SharedTable(Table):
    """A table that can be forked"""

    def fork(self):
        other = SharedTable(self.pool)
        other.blocks, other.length = list(self.blocks), self.length
        for block in self.blocks:
            self.pool.owners[block] += 1
        return other

    def reserve(self, n_new):
        """Room for n_new more tokens; a (source, target) if a block must be copied first"""
        inside = n_new and self.length % self.pool.block_size
        if not inside or self.pool.owners[self.blocks[-1]] == 1:
            return super().reserve(n_new)
        source = self.blocks.pop()  # now one block more is missing: the copy
        place = len(self.blocks)
        try:
            super().reserve(n_new)
        except ValueError:
            self.blocks.append(source)
            raise
        self.pool.give_back(source)
        return source, self.blocks[place]


# %% [markdown]
# A hundred thousand random calls, forks and refusals included, find no difference from the package's pool and tables.


# %% tags=["hide-input"]
def tried(table, n):
    """What is to be copied for n more tokens, as (source, target); or that they are refused"""
    try:
        found = table.reserve(n)
    except ValueError:
        return "refused"
    if isinstance(found, list):  # the package's Copy says how many tokens, too
        found = (found[0].source, found[0].target) if found else None
    return found or "granted"


ours, theirs = SharedPool(50, 4), blocks.BlockPool(50, 4)
pairs = [(SharedTable(ours), BlockTable(theirs)) for _ in range(12)]
draw, outcomes = random.Random(1), Counter()
for _ in range(100_000):
    i, what = draw.randrange(12), draw.random()
    mine, package = pairs[i]
    if what < 0.6:
        n = draw.randrange(20)
        outcome = tried(mine, n)
        assert tried(package, n) == outcome
        outcomes["copy" if isinstance(outcome, tuple) else outcome] += 1
    elif what < 0.9:
        length = draw.randint(0, mine.length)
        mine.truncate(length)
        package.truncate(length)
    elif mine.length:
        j = (i + draw.randrange(1, 12)) % 12
        for table in pairs[j]:
            table.truncate(0)
        pairs[j] = mine.fork(), package.fork()
        outcomes["fork"] += 1
    mine, package = pairs[i]
    assert (mine.blocks, mine.length) == (package.blocks, package.length)
    assert len(ours.free) == theirs.n_free
theirs.check()  # every block is free, or somebody's
print("the same blocks after every call;", dict(sorted(outcomes.items())))

# %% [markdown]
# ### Several answers to one prompt
#
# A prompt of 200 tokens is read once, and four answers are sampled from it, each with a first token of its own.
#
# **Predict.** With $P = 16$ the prompt fills 12 blocks and half of a 13th. How many blocks are owned after three forks, and how many when each of the four has written one token? How many copies are made?

# %%
prompt = ids[:200]
pool = SharedPool(64, 16)
mine = [SharedTable(pool)]
mine[0].reserve(200)
mine += [mine[0].fork() for _ in range(3)]
forked = 64 - len(pool.free)
copies = [table.reserve(1) for table in mine]
print("ours:      after the forks", forked, " after a token each", 64 - len(pool.free), copies)

cache = PagedCache(config, n_blocks=64, block_size=16, batch=4)
first_row = torch.zeros(4, 200, dtype=torch.int64)
first_row[0] = prompt
model(first_row, step=cache.plan([200, 0, 0, 0]))  # only row 0 reads and stores
for row in (1, 2, 3):
    cache.fork(0, row)
forked = cache.pool.n_used
first = torch.tensor([[5], [70], [900], [8]])
logits = model(first, cache=cache)
print("teachkit:  after the forks", forked, " after a token each", cache.pool.n_used)
print("the same tables:", [t.blocks for t in cache.tables] == [t.blocks for t in mine])
alone = [model(torch.cat((prompt, token))[None])[:, -1] for token in first]
print("logits as alone:", [same(logits[row], alone[row]) for row in range(4)])
print("without sharing:", 4 * 13, "blocks")

# %% [markdown]
# Three copies, not four: when the last one writes, nobody else is left.
#
# ### Found by content
#
# A fork knows its parent. Two strangers who begin with the same *system prompt* do not know of each other, so full blocks are looked up by what is in them: by a key made of tokens. Nor need the blocks of a finished request be forgotten. The full ones are *kept*: owned by nobody, but not free either. When nothing is free, the kept one that was left longest ago is given away.
#
# **Predict.** Is it enough to make the key of a block from the tokens in that block? The next cell takes two texts with different first blocks and the same second block. In how many of the bundled model's six layers are the second block's keys equal? And if one text borrows that block from the other, do its next logits suffer?

# %%
second, rest = ids[300:316], ids[316:348]
one, other = torch.cat((ids[:16], second)), torch.cat((ids[600:616], second))
cache = PagedCache(config, n_blocks=12, block_size=16, batch=2)
model(torch.stack((one, other)), cache=cache)
a, b = (table.blocks[1] for table in cache.tables)
close = [torch.allclose(k[a], k[b], atol=1e-4) for k in cache.memory.k]
print("layers in which the keys of the second block are equal:", sum(close), "of", L)

right = model(rest[None].expand(2, -1), cache=cache)[1]
cache.truncate(1, 32)
cache.tables[1].blocks[1] = a  # borrowed, as if its own tokens were all that counts
borrowed = model(rest[None].expand(2, -1), step=cache.plan([0, 32]))[1]
print(f"largest error of a logit when it is borrowed: {(borrowed - right).abs().max():.1f}")

# %% [markdown]
# **Explain.** In the first layer a key is made of its own token. From the second on it is made of what the token has read, and that began differently. So the key of a block must stand for *all* tokens up to its end. It need not be long: hash the block's tokens together with the key of the block before. In `teachkit` a table *publishes* the keys of its full blocks; the pool then says which blocks are *known* by a list of keys, and an empty table *adopts* them.


# %%
def chain(tokens, P):
    """A key for each full block: of its tokens, and of all before them"""
    keys, before = [], b""
    for start in range(0, len(tokens) - P + 1, P):
        inside = array("q", tokens[start : start + P]).tobytes()
        before = sha256(before + inside).digest()
        keys.append(before)
    return keys


keys = [chain(text.tolist(), 16) for text in (one, other)]
print("keys of the second blocks equal:", keys[0][1] == keys[1][1])
print("as teachkit's:", keys == [blocks.block_keys(text.tolist(), 16) for text in (one, other)])
pool = blocks.BlockPool(12, 16)
table = BlockTable(pool)
table.reserve(32)
table.publish(keys[0], 0, 32)  # its full blocks can be found from now on
table.truncate(0)
free = pool.n_free - pool.n_kept  # n_free counts what can be given: kept ones, too
print("owned", pool.n_used, "kept", pool.n_kept, "free", free)
longer = chain([*one.tolist(), *rest.tolist()], 16)
print("a longer text finds", len(pool.known(longer)), "of its", len(longer), "blocks", end="; ")
print("the other text finds", len(pool.known(keys[1])))

# %% [markdown]
# Why a cryptographic hash? If two texts could be made to share a key, one user's request would read another's past.
#
# ### Watch it
#
# A pool of eight blocks of four tokens, drawn from live objects. Step through it, and before each step say which blocks will change.

# %% tags=["nbval-ignore-output", "hide-input"]
pool = blocks.BlockPool(8, 4)
recorder = figures.Recorder(pool)
number = {}


class Person:
    """A sequence with its words, watched by the recorder"""

    def __init__(self, name, words, table=None):
        self.name, self.words = name, words.split()
        self.table = table or BlockTable(pool)
        recorder.add(name, self.table, self.words)

    def keys(self):
        return blocks.block_keys([number.setdefault(w, len(number)) for w in self.words], 4)

    def write(self, words=""):
        self.words += words.split()
        start = self.table.length
        self.table.reserve(len(self.words) - start)
        self.table.publish(self.keys(), start, len(self.words))

    def leave(self):
        self.table.truncate(0)
        recorder.remove(self.name)


a = Person("A", "to be or not to be")
a.write()
recorder.frame("A stores six tokens: two blocks, the second half full.")
b = Person("B", "all the world 's a")
b.write()
recorder.frame("B stores five.")
a.write("that is the")
recorder.frame("A goes on: its second block fills up, and its third lies behind B's.")
c = Person("C", " ".join(a.words), a.table.fork())
recorder.frame("C is to be a second answer to what A has read: it owns A's blocks.")
c.write("answer")
recorder.frame("C writes. Its last block is not full and A reads it: copy on write.")
a.write("question")
recorder.frame("A writes. Nobody else owns its last block any more: no copy.")
b.leave()
recorder.frame("B ends. Its full block is kept, known by its content; the other is free.")
d = Person("D", "all the world 's stage and all men")
d.table.adopt(d.keys()[:1])
d.write()
recorder.frame("D begins as B did: the kept block is found, and its tokens are not computed.")
a.leave()
c.leave()
recorder.frame("A and C end. The two full blocks that both owned are kept.")
e = Person("E", "a rose is a rose is a rose and so it goes on and on and on")
e.write()
recorder.frame(
    "E needs a block more than is free: the kept block left longest ago is given away."
)
figures.block_table(recorder.frames, frame=4)

# %% [markdown]
# ### What a shared system prompt saves
#
# Eight requests begin with the same 256 tokens and go on with 24 of their own; each gets 8 tokens of answer. An `Engine`, the next chapter's subject, serves them over one pool of blocks, at most `max_batch_tokens` in a step; `reuse` says whether it looks for known blocks. The first request is a step ahead: what has not been computed yet cannot be found.
#
# **Predict.** How many blocks of 16 do they own together, with and without sharing? How many prompt tokens are computed?

# %%
system = ids[:256].tolist()
questions = [ids[400 + 30 * i : 424 + 30 * i].tolist() for i in range(8)]
answered = {}
print("             blocks at most   MB   prompt tokens computed")
for reuse in (False, True):
    engine = Engine(model, n_blocks=160, block_size=16, max_batch_tokens=2400, reuse=reuse)
    requests = [engine.submit([*system, *questions[0]], max_new_tokens=8)]
    steps = [engine.step()]
    requests += [engine.submit([*system, *own], max_new_tokens=8) for own in questions[1:]]
    steps += engine.run()
    most = max(step.blocks_used for step in steps)
    computed = sum(step.prefill for step in steps)
    size = engine.memory.nbytes / engine.pool.n_blocks * most / 1e6
    print(f"{'shared' if reuse else 'not shared':12} {most:14} {size:4.0f} {computed:24,}")
    answered[reuse] = [request.tokens for request in requests]
print("the same answers:", answered[False] == answered[True])

# %% [markdown]
# What is not saved is traffic: in a step of decode each of the eight still reads all 256. `block_attention` reads a block in place for one of its readers, and the others read copies.
#
# **Predict.** A request of 640 tokens is alone on the machine, and the first half of its prompt is stored; then nine tenths. Which share of its time to first token (TTFT) is left: exactly a half and a tenth?


# %%
def first_token(share, n=640):
    """TTFT of n tokens, this share of them stored by an earlier request"""
    engine = Engine(model, n_blocks=96, block_size=16, max_batch_tokens=1024)
    if share:
        engine.submit([*ids[: round(n * share)].tolist(), 7], max_new_tokens=1)
        engine.run()
    request = engine.submit(ids[:n].tolist(), max_new_tokens=1)
    engine.run()
    assert request.sequence.reused == round(n * share)
    return request.ttft_s


first_token(0)  # not counted
runs = {share: [] for share in (0, 0.5, 0.9)}
for _ in range(3):
    for share, found in runs.items():
        found.append(first_token(share))
ttft = {share: min(found) for share, found in runs.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
table = "\n".join(
    f"| {share:.0%} | {round(640 * (1 - share))} | {s * 1e3:.0f} | {s / ttft[0]:.2f} |"
    for share, s in ttft.items()
)
Markdown(f"""
| stored | tokens computed | TTFT, ms | share of the whole |
| ---: | ---: | ---: | ---: |
{table}

**Explain.** Prefill waits for arithmetic. In the matrices it goes with the tokens computed. In attention too, though the second half of a prompt sees three quarters of all that is seen: masked scores are computed as well, 640 × 640 for the whole, 320 × 640 for the half.

At nine tenths more than a tenth is left: what does not depend on the number of tokens, such as starting operations, reading all weights once, gathering the stored past.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 6. How large should a block be?
#
# Small blocks waste less and share more: of a shared beginning only full blocks are found. Large blocks make short tables and larger products.
#
# **Predict.** Between $P = 4$ and $P = 128$, what happens to the time of attention in place?

# %%
sizes = (4, 8, 16, 32, 64, 128)
layouts = {P: laid_out(P, stored) for P in sizes}
attending = {("attention", P): in_place(*layout, stored) for P, layout in layouts.items()}
looking_up = {
    ("lookup", P): functools.partial(BlockReads, layout[0], stored, P)
    for P, layout in layouts.items()
}
timings = tk.measure.time_calls(attending | looking_up, repeats=15)
size_s = {key: min(timing.times_s) for key, timing in timings.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
slots = {P: P * sum(map(len, layout[0])) for P, layout in layouts.items()}
table = "\n".join(
    f"| {P} | {1 - sum(stored) / slots[P]:.1%} | {size_s['lookup', P] * 1e3:.2f} | {size_s['attention', P] * 1e3:.2f} |"
    for P in sizes
)
best = min(sizes, key=lambda P: size_s["attention", P])
layers = small.n_layers
share = size_s["lookup", 16] / (layers * size_s["attention", 16])
Markdown(f"""
| $P$ | empty slots | lookup, ms, once per step | attention, ms, per layer |
| ---: | ---: | ---: | ---: |
{table}

**Explain.** Attention in place is fastest here with $P = {best}$: small blocks make many small products and as many pieces to combine; of large ones a growing part is empty, and computed all the same. The lookup, who reads which block, is made once in a step and serves all {layers} layers: at $P = 16$ it takes {share:.1%} of their attention.

{tk.measure.caption()}
""")

# %% [markdown]
# ## 7. What is memory, and what is batching?
#
# Blocks serve seven times as many requests at a time (section 1). Is throughput seven times as high?
#
# **Predict.** The bundled model decodes for 1 request, for the 4 that fit as whole rows, and for the 28 that fit in blocks, each with 140 tokens stored. All three run in blocks, so that only the number differs. How many tokens per second does it write, compared with one request?


# %%
def decoder(batch, stored=140):
    """One step of decode for so many sequences, as a call that can be repeated"""
    cache = PagedCache(config, n_blocks=batch * 10, block_size=16, batch=batch)
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(config.vocab_size, (batch, stored), generator=generator)
    model(text, cache=cache, last_only=True)

    def step():
        model(text[:, :1], cache=cache, last_only=True)
        for row in range(batch):
            cache.truncate(row, stored)

    return step


FIT = {"one at a time": 1, "as whole rows": 4, "in blocks of 16": 28}
decoders = {name: decoder(n) for name, n in FIT.items()}
started_per_step = {name: counted(step).operations for name, step in decoders.items()}
timings = tk.measure.time_calls(decoders, repeats=12)
step_s = {name: min(timing.times_s) for name, timing in timings.items()}

# %% tags=["nbval-ignore-output", "hide-input"]
per_s = {name: n / step_s[name] for name, n in FIT.items()}
table = "\n".join(
    f"| {name} | {n} | {started_per_step[name]} | {step_s[name] * 1e3:.1f} | {per_s[name]:,.0f} | {per_s[name] / per_s['one at a time']:.1f} |"
    for name, n in FIT.items()
)
gain = per_s["in blocks of 16"] / per_s["as whole rows"]
whole = per_s["in blocks of 16"] / per_s["one at a time"]
weights_mb = sum(weight.nbytes for weight in model.parameters()) / 1e6
Markdown(f"""
| what fits | requests at a time | operations started | ms per step | tokens/s | times one at a time |
| --- | ---: | ---: | ---: | ---: | ---: |
{table}

**Explain.** A step has a fixed price: some {round(started_per_step["as whole rows"], -1)} operations are started and {weights_mb:.0f} MB of weights read, for one request as for 28. With one or four, that is nearly all of it; so four are nearly as quick as one. What each request adds, its own row in every product and its own past, shows with 28.

Seven times the requests give **{gain:.1f}** times the throughput of four, and **{whole:.1f}** times that of one. The same blocks are worth {gain:.1f} or {whole:.1f}, depending on what they are compared with; so it is with the published numbers at the end of this page. Paging computes nothing faster: it makes room for a larger batch, and the batch does the rest.

{tk.measure.caption()}
""")

# %% [markdown]
# **The puzzle.** Four requests, because four rows of 1,024 slots are 4,096. The other memory lies in those rows: reserved, and empty. An oracle would serve 21, blocks of 16 serve 28 or 29.

# %% [markdown]
# ## What real systems do
#
# - **vLLM** brought *PagedAttention* ([Kwon et al. 2023](https://arxiv.org/abs/2309.06180)). Where others had tokens in 20.4 % to 38.2 % of the cache's memory, it had them in 96.3 %. Its kernel took 20 % to 26 % longer than one over contiguous rows of the right length, and that was worth it. It now finds blocks by
#   [a chain of hashes](https://docs.vllm.ai/en/latest/design/prefix_caching/), as we do.
# - **SGLang** keeps all pasts in a tree by their tokens, so a shared beginning is a shared path ([Zheng et al. 2023](https://arxiv.org/abs/2312.07104), *RadixAttention*).
# - **TensorRT-LLM** has a pool of blocks whose size must be [a power of two](https://nvidia.github.io/TensorRT-LLM/features/kvcache.html), and enters a block in a search structure once it is full.
# - **llama.cpp**'s *unified* cache is one buffer for all sequences; attention runs over [the used range](https://github.com/ggml-org/llama.cpp/pull/13808) and masks what belongs to others.
# - **vAttention** leaves the table to the GPU's own virtual memory: addresses stay contiguous, and kernels need not know ([Prabhu et al. 2024](https://arxiv.org/abs/2405.04437)).

# %% [markdown]
# ## What the sources claim, checked

# %% tags=["hide-input"]
llama, llama13 = (shapes.shape(name).config for name in ("llama-7b", "llama-13b"))
lost = {P: (P - 1) * llama.kv_bytes_per_token(2) / 2**20 for P in (16, 32)}
full_row = sum(final > 0.9 * CONTEXT for _, final in trace)
half_row = sum(final > 0.5 * CONTEXT for _, final in trace)
slots = 12 * 2**30 / llama13.kv_bytes_per_token(2)  # OPT-13B has as many layers, as wide
enough = 7.5 * (1 - 0.04) / 0.04
paper = "[Kwon et al. 2023](https://arxiv.org/abs/2309.06180)"
talk = "T. Lacroix, [talk](https://www.youtube.com/watch?v=mYRqvB1_gRk), October 2023"
deck = "Li and Li, [*Quantifying Latency-Accuracy of LLMs*](https://bu9gy.github.io/)"
blog = "[vLLM's announcement](https://blog.vllm.ai/2023/06/20/vllm.html)"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| Perhaps 10 % of users need the whole row | {talk} | An illustration. Of our {len(trace)} requests, {half_row} takes more than half of a row of {CONTEXT:,} slots, and {full_row} take nine tenths. |
| Blocks of 16 or 32 tokens | same talk | Right. In LLaMA-7B a sequence then wastes at most {lost[16]:.1f} or {lost[32]:.1f} MiB, half of it on average. |
| Paged attention: 20 times the throughput of the standard implementation | same talk | Depends on what is standard: see the next two, and section 7. |
| vLLM: 14 to 24 times the throughput of Hugging Face Transformers | {deck}, after {blog} | A measurement of all that vLLM does, batching included, against a library that is no server. Against Hugging Face's server the same announcement says 2.2 to 2.5. |
| 2 to 4 times the throughput at equal latency | {paper}, abstract | A measurement against servers that batch: what memory is worth. The paper gives OPT-13B 12 GB of cache (GiB, by its own count of slots): {slots:,.0f} slots, or {slots // 2048:.0f} whole rows of 2,048. Its figure 13 shows 7.00 requests at a time, and 30.42 in blocks. |
| Waste under 4 % | {blog} | With blocks of 16, right for texts with more than {enough:.0f} tokens stored on average. Ours have {mean_stored:.0f}, and waste {wasted["blocks of 16"]:.1%}. |
""")

# %% [markdown]
# ## Exercises
#
# **1. One prompt, thirty-two answers.** A prompt of 1,000 tokens, 32 answers of 100 tokens each, $P = 16$. How many blocks with and without sharing? Count with `BlockTable`.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# pool = blocks.BlockPool(4000, 16)
# tables = [BlockTable(pool)]
# tables[0].reserve(1000)
# tables += [tables[0].fork() for _ in range(31)]
# for table in tables:
#     for _ in range(100):
#         table.reserve(1)
# print(pool.n_used, 32 * blocks.blocks_for(1100, 16))  # 286 2208
# assert (pool.n_used, 32 * blocks.blocks_for(1100, 16)) == (62 + 32 * 7, 2208)
# ```
#
# 62 full blocks are shared. The 63rd, with 8 tokens in it, is copied 31 times; from there on each answer has 7 of its own.
#
# </details>
#
# **2. Holes.** Reserve final lengths in *contiguous* memory: a request goes into the first hole that is long enough (*first fit*). Serve the trace in 4,096 slots with that rule. Which share of the memory is free, on average, while the next request does not fit? And which one if any place will do?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def first_fit(room):
#     waiting, running, idle, at_once = deque(trace), [], [], []  # running: [start, stored, final]
#     while waiting or running:
#         while waiting:
#             ends = sorted((r[0], r[0] + r[2]) for r in running)
#             starts = [0, *(end for _, end in ends)]
#             holes = zip(starts, [*(start for start, _ in ends), room])
#             at = next((s for s, e in holes if e - s >= waiting[0][1]), None)
#             if at is None:
#                 break
#             running.append([at, *waiting.popleft()])
#         if waiting:
#             idle.append(1 - sum(r[2] for r in running) / room)
#             at_once.append(len(running))
#         running = [[at, stored + 1, final] for at, stored, final in running if stored < final]
#     return statistics.mean(idle), statistics.mean(at_once)
#
#
# steps = serve(RULES["the final length"], 4096)
# free = statistics.mean(1 - held / 4096 for _, _, held, waiting in steps if waiting)
# print("{:.1%} free, {:.1f} at a time".format(*first_fit(4096)))  # 14.0% free, 18.7 at a time
# print(f"{free:.1%} free, {at_a_time['the final length']:.1f} at a time")  # 2.5% free, 21.2 at a time
# assert [round(x, 3) for x in (first_fit(4096)[0], free)] == [0.14, 0.025]
# ```
#
# Where any place will do, what is free is too little for the next request. What is free beyond that is external fragmentation, room that would do if it were in one piece. It comes on top of what is reserved for later, and blocks do away with both.
#
# </details>
#
# **3. Keep the end, lose the beginning.** `truncate` releases a table's blocks from the end. Why does it matter, when they are kept? Try it the other way round, with a pool that must give half of them away.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# found = {}
# for backwards in (True, False):
#     pool = blocks.BlockPool(8, 16)
#     table = BlockTable(pool)
#     table.reserve(128)
#     keys = blocks.block_keys(ids[:128].tolist(), 16)
#     table.publish(keys, 0, 128)
#     for block in reversed(table.blocks) if backwards else table.blocks:
#         pool.release(block)
#     for _ in range(4):
#         pool.allocate()  # takes what was left longest ago
#     found[backwards] = len(pool.known(keys))
# print(found)  # {True: 4, False: 0}
# assert found == {True: 4, False: 0}
# ```
#
# Four blocks of the beginning are found in the first case, none in the second: what is released first is given away first. A beginning without its end is of use; an end without its beginning is of none.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("paged_cache")

# %% [markdown]
# Then in your own words:
#
# **A.** A sequence of 33 tokens, $P = 16$. It forks, and the fork writes one token. How many blocks are owned, and how many were copied?
#
# <details>
# <summary>Answer</summary>
#
# Four: two full ones that both own, and a last one each. One was copied, or rather the single token in it.
#
# </details>
#
# **B.** Your colleague puts the date and time in front of the system prompt. What happens to prefix sharing?
#
# <details>
# <summary>Answer</summary>
#
# Nothing is found: the first block differs, and with it the keys of all that follow.
#
# </details>
#
# **C.** A server has room for twice as many whole rows as requests ever come at a time. What does paging bring it?
#
# <details>
# <summary>Answer</summary>
#
# No larger batch, so no throughput. Sharing still saves the prefill of stored beginnings.
#
# </details>
#
# ## Not covered here
#
# Who is let in when, and who must give blocks back, is the next chapter. Swapping blocks out to another memory, blocks on several GPUs, and GPU kernels for tables are left to the systems above.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
