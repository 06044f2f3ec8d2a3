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
# table, reading through it, sharing with copy on write, and the keys by which a stored beginning is found again. At the end you
# watch your blocks fill.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. A block has P slots; token number p of a sequence lies in block number p // P of its table, in slot p % P.

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
import hashlib

import torch

# %% [markdown]
# ## q1. What a reservation wastes
#
# - `blocks_for(n_tokens, P)`: how many blocks of P slots hold so many tokens; an integer.
# - `waste(lengths, P)`: `lengths` is a list of tokens stored by each sequence. If each owns just the blocks it needs, which share of
#   their slots is empty? A float; 0.0 if nobody owns a block.
#
# <details><summary>Hint</summary>
# Sum slots and tokens over all sequences first, and divide once.
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
# Write the class `BlockPool`. It gives out numbers, nothing else.
#
# - `BlockPool(n_blocks)`: blocks 0 to n_blocks - 1, all free.
# - `allocate()` gives a free block; its one owner is whoever asked. The block that became free *last* is given first; of those never
#   given, the lowest number. When none is free: `ValueError`.
# - `share(block)`: one more owner.
# - `release(block)`: one owner fewer; after the last one the block is free.
# - `owners(block)`: how many own it, 0 if it is free.
# - `n_free`: the number of free blocks.
# - `share` and `release` raise `ValueError` for a block that nobody owns, or that there is not, and change nothing. So a block cannot
#   be given back twice.
#
# <details><summary>Hint</summary>
# A list as a stack, filled from the highest number down, and a list of counts.
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
# - `BlockTable(pool, P)`: an empty sequence. `blocks` is the list of its blocks, in order, `length` the number of its tokens.
# - `reserve(n_new)`: room for n_new more tokens; takes the blocks that are missing, and no more. If the pool has too few:
#   `ValueError`, and nothing has changed, neither the table nor the pool.
# - `truncate(length)`: forget all but the first tokens, and release the blocks that hold none of these, the last one first.
# - `place(p)`: block and slot of token p, as a pair. A token that is not there: `ValueError`.
#
# In q5, `reserve` will have something to return; here it may return what it likes.
#
# <details><summary>Hint</summary>
# Count what is missing before you take the first.
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
# The keys of a layer lie in a pool of shape (N, H, P, D): N blocks, H heads. Write `gather(pool, blocks, length)`: the keys of one
# sequence as attention wants them, (H, S, D) with S = `length`, in the order of its tokens. `blocks` is a list.
#
# - The last block may be full in part; what lies behind the last token must not be in the result.
#
# <details><summary>Hint</summary>
# `pool[blocks]` is (M, H, P, D). Heads go in front *before* blocks and slots are joined to one axis.
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
# it takes a block of its own and copies the beginning: *copy on write*. Extend your `BlockTable`.
#
# - `fork()`: another table with the same blocks and length; every block has one owner more.
# - `reserve(n_new)` now returns what must be copied before anything is written: `(source, target, n)`, the first n slots of one block
#   into another, or `None`. It is due when n_new is at least 1, the last block is full in part, and somebody else owns it, too. The
#   target takes its place in the table, before other blocks are taken; the source loses an owner.
# - The copy needs a free block, too. With too few free blocks: `ValueError`, and nothing has changed.
#
# <details><summary>Hint</summary>
# A full last block needs no copy: nobody writes into it. And the last owner of a block needs none: it is its own.
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
# - `block_keys(tokens, P)`: a list of one key for each *full* block of `tokens`, as strings: the key of a block is the SHA-256, in
#   hexadecimal, of the text `before + ":" + tokens`, in which `before` is the key of the block before (nothing for the first), and
#   `tokens` are those of the block, joined by commas. For tokens 1 and 2 in a first block of 2 it is that of `":1,2"`.
# - `shared_prefix(keys, known)`: how many of the first blocks can be taken over: `keys` is a list as above, `known` a set of the keys
#   of stored blocks. A block counts only if all before it do.
#
# <details><summary>Hint</summary>
# `hashlib.sha256(text.encode()).hexdigest()`
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
# tokens per second have not risen. In three or four sentences: why not, and what would have to change for paging to pay?
#
# *Your answer here.*

# %% [markdown]
# ## Watch your blocks
#
# Twelve sequences of lognormal length share a pool of 48 blocks of 8 slots, through your pool and tables; each row of the picture is a step, each
# column a block, each colour a sequence.

# %%
# teachgrade: show
import random

import matplotlib.pyplot as plt

draw = random.Random(0)
pool, steps = BlockPool(48), []
waiting = [max(4, min(100, round(draw.lognormvariate(3.2, 0.8)))) for _ in range(12)]
running = {}
for name in range(200):
    if waiting and pool.n_free >= 6:
        running[len(waiting)] = (BlockTable(pool, 8), waiting.pop())
    for key, (table, final) in list(running.items()):
        try:
            table.reserve(1)
        except ValueError:
            continue
        if table.length >= final:
            table.truncate(0)
            del running[key]
    row = [0] * 48
    for key, (table, _) in running.items():
        for block in table.blocks:
            row[block] = key
    steps.append(row)
    if not running and not waiting:
        break
lengths = [table.length for table, _ in running.values()]
plt.figure(figsize=(7, 6))
plt.imshow(torch.tensor(steps), aspect="auto", cmap="tab20", interpolation="nearest")
plt.xlabel("block")
plt.ylabel("step")
plt.show()
