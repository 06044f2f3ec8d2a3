"""Blocks of a paged cache: which are free, who owns which, and what lies in them. Knows nothing of torch.

Memory for keys and values is cut into blocks of ``block_size`` tokens. A sequence owns as many as it has
filled so far, from anywhere in the pool; its *block table* lists them in order. So nothing is reserved for
tokens that may never come, and two sequences that begin alike can own the same blocks.

A block is in one of three states:

owned   by one or more sequences
kept    owned by nobody, but full, and known by its content. It can be found again, or given away: the one
        that was left longest ago goes first
free    nothing in it is of use

Source: Kwon et al. 2023 (vLLM), arXiv:2309.06180, section 4; sharing by content: vLLM's automatic prefix
caching.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

Key = bytes


class NoFreeBlocks(ValueError):
    """Every block has an owner; nothing was changed."""


class BlockPool:
    """Blocks 0 to n_blocks - 1, each free, kept or owned. Every operation takes the same time in any pool.

    Raises  ValueError: n_blocks or block_size below 1
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        if n_blocks < 1 or block_size < 1:
            raise ValueError(f"n_blocks, block_size: expected at least 1, got {n_blocks} and {block_size}")
        self.n_blocks, self.block_size = n_blocks, block_size
        self._free = list(range(n_blocks))[::-1]  # a stack: the last one left is the first one given
        self._owners = [0] * n_blocks
        self._kept: OrderedDict[int, None] = OrderedDict()  # the first was left longest ago
        self._key_of: list[Key | None] = [None] * n_blocks
        self._block_of: dict[Key, int] = {}

    @property
    def n_free(self) -> int:
        """Blocks that can be given: free ones and kept ones."""
        return len(self._free) + len(self._kept)

    @property
    def n_used(self) -> int:
        """Blocks that have an owner, each counted once."""
        return self.n_blocks - self.n_free

    @property
    def n_kept(self) -> int:
        """Blocks without an owner whose content can still be found."""
        return len(self._kept)

    def owners(self, block: int) -> int:
        """How many own a block. Raises ValueError: no such block."""
        self._require_here(block)
        return self._owners[block]

    def allocate(self) -> int:
        """A block for one owner: a free one, or the kept one left longest ago. Raises NoFreeBlocks."""
        if not self.n_free:
            raise NoFreeBlocks(f"all {self.n_blocks} blocks have an owner")
        block = self._free.pop() if self._free else self._kept.popitem(last=False)[0]
        self._owners[block] = 1
        self.withdraw(block)
        return block

    def share(self, block: int) -> None:
        """One more owner. Raises ValueError: a block without one."""
        self._require_owned(block)
        self._owners[block] += 1

    def release(self, block: int) -> None:
        """One owner fewer; after the last the block is kept, if its content is known, or free.

        Raises  ValueError: a block without an owner (released twice), no such block
        """
        self._require_owned(block)
        self._owners[block] -= 1
        if self._owners[block]:
            return
        if self._key_of[block] is None:
            self._free.append(block)
        else:
            self._kept[block] = None

    def publish(self, block: int, key: Key) -> None:
        """Make a full block known by its content. Of two with the same content the first stays known.

        Raises  ValueError: a block without an owner, or known by another key
        """
        self._require_owned(block)
        if self._key_of[block] not in (None, key):
            raise ValueError(f"block {block}: expected to be unknown, it is known by another content")
        if key not in self._block_of:
            self._block_of[key], self._key_of[block] = block, key

    def withdraw(self, block: int) -> None:
        """Make it unknown again: something else is going to be written into it.

        Raises  ValueError: a block without an owner, who alone may write, no such block
        """
        self._require_owned(block)
        key = self._key_of[block]
        if key is not None:
            del self._block_of[key]
            self._key_of[block] = None

    def known(self, keys: Sequence[Key]) -> list[int]:
        """The blocks that hold the beginning of what these keys stand for; they get no owner by this."""
        found = []
        for key in keys:
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def adopt(self, keys: Sequence[Key]) -> list[int]:
        """Own the blocks that :meth:`BlockPool.known` names, as one more owner of each."""
        blocks = self.known(keys)
        for block in blocks:
            self._kept.pop(block, None)
            self._owners[block] += 1
        return blocks

    def is_known(self, block: int) -> bool:
        """Whether its content can be found. Raises ValueError: no such block."""
        self._require_here(block)
        return self._key_of[block] is not None

    def check(self) -> None:
        """Every block is in exactly one state, and whatever is known is where it is said to be.

        For tests; takes time in proportion to the pool. Raises AssertionError.
        """
        owned = [block for block in range(self.n_blocks) if self._owners[block]]
        together = [*owned, *self._free, *self._kept]
        assert sorted(together) == list(range(self.n_blocks)), "a block was lost, or is in two states"
        assert min(self._owners) >= 0, "a block with fewer owners than none"
        assert all(self._key_of[block] == key for key, block in self._block_of.items())
        assert len(self._block_of) == sum(key is not None for key in self._key_of)
        assert all(self.is_known(block) for block in self._kept)
        assert not any(self.is_known(block) for block in self._free)

    def _require_here(self, block: int) -> None:
        if not 0 <= block < self.n_blocks:
            raise ValueError(f"block: expected 0 to {self.n_blocks - 1}, got {block}")

    def _require_owned(self, block: int) -> None:
        if not self.owners(block):
            raise ValueError(f"block {block}: expected a block that somebody owns; it has been released")


def blocks_for(n_tokens: int, block_size: int) -> int:
    """Blocks that hold so many tokens.

    >>> [blocks_for(n, 4) for n in (0, 1, 4, 5)]
    [0, 1, 1, 2]
    """
    return -(-n_tokens // block_size)


def block_keys(tokens: Sequence[int], block_size: int, known: Sequence[Key] = ()) -> list[Key]:
    """A key for each full block of ``tokens``: it stands for all tokens up to the end of that block.

    known  the keys of the first blocks, if they have been made already
    Cost   one SHA-256 of 8 bytes a token and 32 a block
    Why    a key that two contents could share would give one reader the other's past; Python's own hash of
           a tuple is neither made against that nor the same in every process

    >>> first, second = block_keys([1, 2, 3, 4, 5], 2)
    >>> block_keys([1, 2], 2) == [first], block_keys([9, 9, 3, 4], 2)[1] == second
    (True, False)
    """
    keys = list(known)
    before = keys[-1] if keys else b""
    for start in range(len(keys) * block_size, len(tokens) - block_size + 1, block_size):
        before = sha256(before + array("q", tokens[start : start + block_size]).tobytes()).digest()
        keys.append(before)
    return keys
