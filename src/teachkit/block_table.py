"""The block table: which blocks of the pool hold the tokens of one sequence. Knows nothing of torch.

Source: Kwon et al. 2023 (vLLM), arXiv:2309.06180, sections 4.2 and 4.4 (sharing and copy on write).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teachkit.blocks import BlockPool, Key, NoFreeBlocks, blocks_for


@dataclass(frozen=True)
class Copy:
    """What must be copied before the next tokens are stored: the first ``n_tokens`` of a block."""

    source: int
    target: int
    n_tokens: int


class BlockTable:
    """The blocks of one sequence, in order: token p lies in ``blocks[p // block_size]``.

    length  tokens stored, or about to be
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.blocks: list[int] = []
        self.length = 0

    def missing(self, n_new: int) -> int:
        """Blocks that :meth:`BlockTable.reserve` would ask of the pool."""
        return (
            blocks_for(self.length + n_new, self.pool.block_size) - len(self.blocks) + self._is_shared(n_new)
        )

    def reserve(self, n_new: int) -> list[Copy]:
        """Lengthen by n_new tokens; what must be copied before they are stored.

        A last block that is full in part and has another owner is exchanged for a copy (*copy on write*).
        Raises  NoFreeBlocks (nothing is changed), ValueError: n_new below 0
        """
        if n_new < 0:
            raise ValueError(f"n_new: expected 0 or more tokens, got {n_new}")
        pool, missing = self.pool, self.missing(n_new)
        if missing > pool.n_free:
            raise NoFreeBlocks(f"{missing} more blocks needed, {pool.n_free} of {pool.n_blocks} free")
        copies = []
        held = self.length % pool.block_size
        if self._is_shared(n_new):
            target = pool.allocate()
            copies.append(Copy(self.blocks[-1], target, held))
            pool.release(self.blocks[-1])
            self.blocks[-1] = target
        elif held and n_new:
            pool.withdraw(self.blocks[-1])  # it was full once, was cut short, and now gets another end
        self.length += n_new
        while len(self.blocks) < blocks_for(self.length, pool.block_size):
            self.blocks.append(pool.allocate())
        return copies

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens. Raises ValueError."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length: expected 0 to {self.length} tokens held, got {length}")
        keep = blocks_for(length, self.pool.block_size)
        # From the end: of what is kept the end is given away first, and a beginning without an end is of use.
        while len(self.blocks) > keep:
            self.pool.release(self.blocks.pop())
        self.length = length

    def fork(self) -> BlockTable:
        """Another sequence with the same past: it owns the same blocks."""
        other = BlockTable(self.pool)
        for block in self.blocks:
            self.pool.share(block)
        other.blocks, other.length = list(self.blocks), self.length
        return other

    def adopt(self, keys: Sequence[Key]) -> int:
        """Begin with the blocks of these keys that are known; the tokens that need not be computed.

        Raises  ValueError: a table that is not empty
        """
        if self.blocks:
            raise ValueError(f"table: expected an empty one, it holds {self.length} tokens")
        self.blocks = self.pool.adopt(keys)
        self.length = len(self.blocks) * self.pool.block_size
        return self.length

    def publish(self, keys: Sequence[Key], start: int, end: int) -> None:
        """Make those of the full blocks known that tokens ``start`` to ``end`` have filled; keys of all."""
        size = self.pool.block_size
        for index in range(start // size, end // size):
            self.pool.publish(self.blocks[index], keys[index])

    def withdraw(self) -> None:
        """Make all of its blocks unknown: nobody else shall begin with them."""
        for block in self.blocks:
            self.pool.withdraw(block)

    def _is_shared(self, n_new: int) -> bool:
        """Whether the next token goes into a block that another sequence reads."""
        inside = n_new > 0 and self.length % self.pool.block_size > 0
        return inside and self.pool.owners(self.blocks[-1]) > 1
