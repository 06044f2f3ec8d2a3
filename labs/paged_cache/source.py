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
# # Lab: a cache in blocks
#
# Memory for keys and values is cut into blocks, and a sequence takes a block when it needs one. You write the allocator, the block
# table, reading through it, sharing with copy on write, and the keys by which a stored beginning is found again. At the end the
# bundled model writes several answers through your blocks, and you watch them fill.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. A block has P slots; token number p of a sequence lies in the block at place p // P of its table, in slot
# p % P; all numbers begin at 0. Use Python, its standard library and PyTorch. Each answer may build on those above it. `teachkit`, in
# which all this exists, is not there when your answers are graded; only the last cells use it.

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
import hashlib

import torch

# %% [markdown]
# ## q1. What a reservation wastes
#
# - `blocks_for(n_tokens, P)`: how many blocks of P slots hold n_tokens tokens; an integer. `n_tokens` is 0 or more, `P` 1 or more.
# - `waste(lengths, P)`: `lengths` is a list of integers, the tokens stored by each sequence. If each owns just the blocks it needs, which
#   share of all their slots is empty? A float from 0 to 1; 0.0 if nobody owns a block.
#
# <details><summary>Hint</summary>
# 17 tokens need two blocks of 16, and 16 need one: `//` rounds down, so something must be added before, or the sign turned twice.
# </details>
# <details><summary>A hint on the share</summary>
# Sum slots and tokens over all sequences first, and divide once. The mean of their shares is another number.
# </details>


# %%
def blocks_for(n_tokens, P):
    """Blocks of P slots that hold n_tokens."""
    ### BEGIN SOLUTION
    return -(-n_tokens // P)
    ### END SOLUTION


def waste(lengths, P):
    """Share of the slots in owned blocks that is empty."""
    ### BEGIN SOLUTION
    slots = sum(blocks_for(n, P) * P for n in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0
    ### END SOLUTION


# %%
# teachgrade: show
check("paged_cache.q1", blocks_for, waste)

# %% [markdown]
# ## q2. Blocks, given and taken back
#
# Write the class `BlockPool`. It gives out numbers of blocks, nothing else; the memory itself comes in q4.
#
# - `BlockPool(n_blocks)`: blocks 0 to n_blocks - 1, all free.
# - `allocate()` returns a free block, an integer; its one owner is whoever asked. The block that became free *last* is given first; of those
#   never given, the lowest number. When none is free: `ValueError`.
# - `share(block)`: one more owner. `release(block)`: one owner fewer; after the last one the block is free. Both return nothing.
# - `owners(block)`: how many own it; 0 if it is free, or if there is no such block.
# - `n_free`: an attribute or property, the number of free blocks.
# - `share` and `release` raise `ValueError` for a block that nobody owns, or that there is not (-1 is no block), and change nothing. So a
#   block cannot be given back twice.
#
# <details><summary>Hint</summary>
# "Last in, first out" is a stack: `append` and `pop` of a list. In which order must its first content be, so that `pop` gives 0?
# </details>
# <details><summary>A further hint</summary>
# Keep two lists: `free`, the stack, filled from the highest number down, and `counts`, the owners of each block. `release` appends to `free` only
# when a count has come to 0.
# </details>


# %%
class BlockPool:
    """Which blocks are free, and how many own each of the others."""

    def __init__(self, n_blocks):
        """All free."""
        ### BEGIN SOLUTION
        self.free = list(range(n_blocks))[::-1]
        self.counts = [0] * n_blocks
        ### END SOLUTION

    def allocate(self):
        """A free block, the last one released first."""
        ### BEGIN SOLUTION
        if not self.free:
            raise ValueError("no free block")
        block = self.free.pop()
        self.counts[block] = 1
        return block
        ### END SOLUTION

    def share(self, block):
        """One more owner."""
        ### BEGIN SOLUTION
        if not self.owners(block):
            raise ValueError(f"block {block} has no owner")
        self.counts[block] += 1
        ### END SOLUTION

    def release(self, block):
        """One owner fewer."""
        ### BEGIN SOLUTION
        if not self.owners(block):
            raise ValueError(f"block {block} has no owner")
        self.counts[block] -= 1
        if not self.counts[block]:
            self.free.append(block)
        ### END SOLUTION

    def owners(self, block):
        """How many own a block."""
        ### BEGIN SOLUTION
        return self.counts[block] if 0 <= block < len(self.counts) else 0
        ### END SOLUTION

    @property
    def n_free(self):
        """Free blocks."""
        ### BEGIN SOLUTION
        return len(self.free)
        ### END SOLUTION


# %%
# teachgrade: show
check("paged_cache.q2", BlockPool)

# %% [markdown]
# ## q3. A table for each sequence
#
# Write the class `BlockTable`; it takes blocks from a `BlockPool`. (Leave `fork` for q5.)
#
# - `BlockTable(pool, P)`: an empty sequence over a `BlockPool` whose blocks have P slots. `blocks` is the list of its blocks, in order,
#   `length` the number of its tokens: both attributes.
# - `reserve(n_new)`: room for n_new more tokens, 0 or more; takes the blocks that are missing, and no more. If the pool has too few:
#   `ValueError`, and nothing has changed, neither the table nor the pool.
# - `truncate(length)`: forget all but the first `length` tokens, from 0 to all of them, and release the blocks that hold none of these, the
#   last one first.
# - `place(p)`: block and slot of token p, as a pair. A token that is not there: `ValueError`.
#
# In q5, `reserve` will have something to return; here it may return what it likes.
#
# <details><summary>Hint</summary>
# Blocks that are missing: those for the new length, less those that it has. Count them, and look at `n_free`, before you take the first.
# </details>
# <details><summary>A further hint</summary>
# `truncate` keeps `blocks_for(length, P)` blocks: while there are more, release what `blocks.pop()` gives.
# </details>


# %%
class BlockTable:
    """The blocks of one sequence, in order."""

    def __init__(self, pool, P):
        """No tokens, no blocks."""
        ### BEGIN SOLUTION
        self.pool, self.P = pool, P
        self.blocks, self.length = [], 0
        ### END SOLUTION

    def reserve(self, n_new):
        """Room for n_new more tokens; (source, target, n) if a block must be copied first, else None."""
        ### BEGIN SOLUTION
        held = self.length % self.P
        copies = n_new > 0 and held > 0 and self.pool.owners(self.blocks[-1]) > 1
        missing = blocks_for(self.length + n_new, self.P) - len(self.blocks)
        if missing + copies > self.pool.n_free:
            raise ValueError("not enough free blocks")
        copy = None
        if copies:
            target = self.pool.allocate()
            copy = (self.blocks[-1], target, held)
            self.pool.release(self.blocks[-1])
            self.blocks[-1] = target
        self.blocks += [self.pool.allocate() for _ in range(missing)]
        self.length += n_new
        return copy
        ### END SOLUTION

    def truncate(self, length):
        """Forget all but the first tokens."""
        ### BEGIN SOLUTION
        while len(self.blocks) > blocks_for(length, self.P):
            self.pool.release(self.blocks.pop())
        self.length = length
        ### END SOLUTION

    def place(self, p):
        """(block, slot) of token p."""
        ### BEGIN SOLUTION
        if not 0 <= p < self.length:
            raise ValueError(f"token {p} is not there")
        return self.blocks[p // self.P], p % self.P
        ### END SOLUTION

    def fork(self):
        """Another table with the same past."""
        ### BEGIN SOLUTION
        other = BlockTable(self.pool, self.P)
        for block in self.blocks:
            self.pool.share(block)
        other.blocks, other.length = list(self.blocks), self.length
        return other
        ### END SOLUTION


# %%
# teachgrade: show
check("paged_cache.q3", BlockTable, BlockPool)

# %% [markdown]
# ## q4. Read through the table
#
# The keys of a layer lie in memory of shape (N, H, P, D): N blocks, H heads, P slots, D numbers in each. Write `gather(pool, blocks, length)`:
# the keys of one sequence as attention wants them, (H, length, D), in the order of its tokens.
#
# - `pool` is a float tensor (N, H, P, D), `blocks` a list of as many block numbers as `length` tokens need, `length` at least 1. The result has the dtype of
#   `pool`.
# - The last block may be full in part; what lies behind the last token must not be in the result. The inputs stay as they are.
#
# <details><summary>Hint</summary>
# `pool[blocks]` takes the blocks in the order of the list: M of them make (M, H, P, D).
# </details>
# <details><summary>A further hint</summary>
# Heads go in front *before* blocks and slots are joined to one axis: (M, H, P, D) to (H, M, P, D) to (H, M · P, D). Then cut.
# </details>


# %%
def gather(pool, blocks, length):
    """(N, H, P, D) -> (H, length, D): the tokens of one sequence, in order."""
    ### BEGIN SOLUTION
    return pool[blocks].transpose(0, 1).flatten(1, 2)[:, :length]
    ### END SOLUTION


# %%
# teachgrade: show
check("paged_cache.q4", gather)

# %% [markdown]
# ## q5. Two owners
#
# Two answers to the same prompt can own the same blocks, until one of them writes into the last block, if that is not full. Then
# it takes a block of its own and copies the beginning: *copy on write*. Extend your `BlockTable` above.
#
# - `fork()`: another `BlockTable` with the same blocks and length; every block has one owner more.
# - `reserve(n_new)` now returns what must be copied before anything is written: the tuple `(source, target, n)`, the first n slots of one block
#   into another, or `None`. A copy is due when n_new is at least 1, the last block is full in part, and somebody else owns it, too. The
#   target takes the source's place in the table, and is taken from the pool before other blocks are; the source loses an owner. n counts the
#   tokens that the block holds.
# - The copy needs a free block, too. With too few free blocks: `ValueError`, and nothing has changed.
#
# <details><summary>Hint</summary>
# A full last block needs no copy: nobody writes into it. And the last owner of a block needs none: it is its own.
# </details>
# <details><summary>A further hint</summary>
# Decide first: `copies = n_new > 0 and length % P > 0 and` more than one owns the last block. Then count `missing + copies` against `n_free`, and only then
# take: first the target, then the rest.
# </details>

# %%
# teachgrade: show
check("paged_cache.q5", BlockTable, BlockPool)

# %% [markdown]
# ## q6. Found by content
#
# Strangers who begin with the same words can share blocks, too, if stored blocks are found by what is in them. The keys and values of a
# block depend on *all* tokens up to its end, so the name of a block must stand for all of them.
#
# - `block_keys(tokens, P)`: `tokens` is a list of integers; the result is a list of one key, a string, for each *full* block. The key of a block is
#   the SHA-256, in hexadecimal, of the text `before + ":" + tokens`, in which `before` is the key of the block before (nothing for the first),
#   and `tokens` are those of the block, joined by commas. For tokens 1 and 2 in a first block of 2 it is that of `":1,2"`.
# - `shared_prefix(keys, known)`: how many of the first blocks can be taken over, an integer: `keys` is a list as above, `known` a set of the
#   keys of stored blocks. A block counts only if all before it do.
#
# <details><summary>Hint</summary>
# `hashlib.sha256(text.encode()).hexdigest()` is the key of a text. Keep the last key in a variable that is `""` at first.
# </details>


# %%
def block_keys(tokens, P):
    """A key for each full block, which stands for all tokens up to its end."""
    ### BEGIN SOLUTION
    keys, before = [], ""
    for start in range(0, len(tokens) - P + 1, P):
        text = before + ":" + ",".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys
    ### END SOLUTION


def shared_prefix(keys, known):
    """How many of the first blocks are known."""
    ### BEGIN SOLUTION
    n = 0
    while n < len(keys) and keys[n] in known:
        n += 1
    return n
    ### END SOLUTION


# %%
# teachgrade: show
check("paged_cache.q6", block_keys, shared_prefix)

# %% [markdown]
# ## q7. What it does not bring
#
# A colleague replaces a contiguous cache by a paged one, on a server that has memory for all its requests with room to spare, and finds that
# tokens per second have not risen. In three or four sentences: why not, and what would have to change for paging to pay? (A person reads your
# answer.)
#
# *Your answer here.*

# %% [markdown]
# ## Your blocks under a real model
#
# The cell below gives the bundled model a cache made of your parts: `reserve` says what is to be copied, `place` where a new key and value are
# written, `gather` what attention reads. First it writes one answer, beside that of the model's own contiguous cache.

# %%
# teachgrade: show
import matplotlib.pyplot as plt
import teachkit as tk
from teachkit.figures import plots

P, N = 8, 64
model = tk.load("bundled")
config = model.config
# for each layer, of keys and of values: (N, H, P, D)
memory = torch.zeros(config.n_layers, 2, N, config.n_kv_heads, P, config.head_dim)


class ThroughYourTable:
    """What the model asks of a cache in one forward pass, answered by a BlockTable."""

    def __init__(self, table, n):
        self.table, self.new = table, range(table.length - n, table.length)
        self.positions = torch.tensor([list(self.new)])
        self.valid = torch.ones(1, n, dtype=torch.bool)

    def layer(self, index):
        self.pools = memory[index]
        return self

    def attend(self, q, k, v, *, scale=None):
        read = []
        for pool, x in zip(self.pools, (k, v), strict=True):
            for i, p in enumerate(self.new):
                block, slot = self.table.place(p)
                pool[block, :, slot] = x[0, :, i]
            read.append(gather(pool, self.table.blocks, self.table.length)[None])
        return tk.attention.scaled_dot_product_attention(q, *read, causal=True, scale=scale)


@torch.inference_mode()
def logits_after(table, tokens):
    """Store the tokens of one sequence; the logits of what comes next."""
    copy = table.reserve(len(tokens))
    if copy is not None:
        source, target, n = copy
        memory[:, :, target, :, :n] = memory[:, :, source, :, :n]
    return model(torch.tensor([tokens]), step=ThroughYourTable(table, len(tokens)))[0, -1]


def one_answer(prompt, n):
    table, new = BlockTable(BlockPool(N), P), model.tokenizer.encode(prompt)
    written = []
    for _ in range(n):
        new = [int(logits_after(table, new).argmax())]
        written += new
    return model.tokenizer.decode(written)


prompt = (
    "import os\nimport sys\n\n\ndef read_lines(path, encoding='utf-8'):\n"
    '    """Return the lines of a text file as a list, without their newlines."""\n'
    "    with open(path, encoding=encoding) as file:"
)
try:
    mine = one_answer(prompt, 24)
    print(prompt + mine)
    same = mine == tk.generate(model, prompt, max_new_tokens=24).text
    print("the same as with a contiguous cache:", same)
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q1 to q4.")

# %% [markdown]
# Now six answers to the same prompt, drawn at random and of different length, each in a fork of the prompt's table. In the picture each row is a step in
# which every answer that is not done stores one token, each column a block. Look for three things: the blocks that all read, the copies that the
# first step makes (five for six answers: why?), and blocks that come back and are given again.


# %%
# teachgrade: show
def six_answers(prompt, lengths):
    """Of each step, who owns each block: 0 nobody, 1 several, 2 and more one of the answers."""
    pool, generator = BlockPool(N), torch.Generator().manual_seed(0)
    first = BlockTable(pool, P)
    logits = logits_after(first, model.tokenizer.encode(prompt))
    answers = {}
    for name, length in enumerate(lengths):
        answers[name] = (first.fork(), length, logits)
    n_prompt = first.length
    first.truncate(0)
    steps, apart = [], []
    while answers:
        for name, (table, length, logits) in list(answers.items()):
            token = int(torch.multinomial((logits / 0.8).softmax(-1), 1, generator=generator))
            answers[name] = (table, length, logits_after(table, [token]))
        owner = torch.zeros(N, dtype=torch.int64)
        for name, (table, _, _) in answers.items():
            for block in table.blocks:
                owner[block] = 1 if pool.owners(block) > 1 else 2 + name
        steps.append(owner)
        apart.append(sum(blocks_for(table.length, P) for table, _, _ in answers.values()))
        for name, (table, length, _) in list(answers.items()):
            if table.length == n_prompt + length:
                table.truncate(0)
                del answers[name]
    return torch.stack(steps), apart, pool.n_free


try:
    steps, apart, n_free = six_answers(prompt, (40, 12, 28, 60, 20, 34))
    owned = (steps > 0).sum(1)
    at = int(owned.argmax())
    print(f"most blocks owned at a time: {owned[at]}; without sharing it would be {max(apart)}")
    print(f"a row of 1,024 slots for each answer would take {6 * 1024 // P} blocks")
    print(f"free blocks at the end: {n_free} of {N}")
    with plots.style():
        used = int((steps > 0).any(0).nonzero().max()) + 1
        colours = ["white", "0.35", *plt.get_cmap("tab10").colors[:6]]
        cmap = plt.matplotlib.colors.ListedColormap(colours)
        plt.figure(figsize=(7, 5))
        plt.imshow(steps[:, :used], aspect="auto", cmap=cmap, vmin=-0.5, vmax=7.5)
        bar = plt.colorbar(ticks=range(8))
        bar.ax.set_yticklabels(["free", "shared", *(f"answer {i}" for i in range(1, 7))])
        plt.grid(False)
        plt.xlabel("block")
        plt.ylabel("step")
        plt.title("Who owns which block")
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q1 to q5.")
