"""Which tokens the rows of a cache hold: the account that every cache keeps, wherever its memory lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from teachkit.config import ModelConfig


class CacheFull(ValueError):
    """The new tokens do not fit; the cache is as it was."""


class Rows:
    """The length of each row, and how far it may grow.

    Raises  ValueError: batch or capacity below 1, capacity beyond the context of the model
    """

    def __init__(
        self, config: ModelConfig, batch: int, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"batch, capacity: expected at least 1, got {batch} and {capacity}")
        if capacity > config.context:
            raise ValueError(
                f"capacity: expected at most the model's context of {config.context} tokens, got {capacity}"
            )
        self._capacity, self._context, self._device = capacity, config.context, torch.device(device)
        self._lengths = [0] * batch  # plain integers: planning must not wait for a device

    @property
    def lengths(self) -> Int[Tensor, B]:
        return torch.tensor(self._lengths, device=self._device)

    @property
    def capacity(self) -> int:
        return self._capacity

    def reserve(self, n_new: Sequence[int] | Int[Tensor, B]) -> NewTokens:
        """Lengthen each row by n_new tokens. Raises CacheFull (nothing changes), ValueError."""
        counts = [int(n) for n in n_new]
        if len(counts) != len(self._lengths) or min(counts) < 0 or max(counts) < 1:
            raise ValueError(
                f"n_new: expected {len(self._lengths)} counts, none negative and not all 0; got {counts}"
            )
        for row, (held, n) in enumerate(zip(self._lengths, counts, strict=True)):
            if held + n > self._capacity:
                raise CacheFull(f"row {row}: {held} tokens held and {n} new exceed {self._limit()}")
        new = NewTokens(self._lengths, counts, self._capacity, self._device)
        self._lengths = list(new.ends)
        return new

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of ``row``. Raises ValueError, IndexError."""
        if not 0 <= length <= self._lengths[row]:
            raise ValueError(f"length: expected 0 to {self._lengths[row]} (held by row {row}), got {length}")
        self._lengths[row] = length

    def _limit(self) -> str:
        if self._capacity == self._context:
            return f"the capacity of {self._capacity}, the model's whole context; truncate the row"
        return f"the capacity of {self._capacity}; make the cache larger or truncate the row"


class NewTokens:
    """The tokens of one pass: where each row starts and ends, and the position of every token.

    starts, ends  length of each row before and after the pass
    positions     (B, T) of each token in its sequence
    valid         (B, T) False where a row has fewer than T tokens: padding
    aligned       every row holds as many tokens and adds as many: no row needs a mask of its own
    """

    def __init__(self, starts: list[int], counts: list[int], capacity: int, device: torch.device) -> None:
        self.starts, self.counts = starts, counts
        self.ends = [start + n for start, n in zip(starts, counts, strict=True)]
        offsets, last = range(max(counts)), capacity - 1
        # As lists first: of a decode step each operation on tensors takes longer than the whole list.
        # Padding may run past the end; its position is never used but must be one that exists.
        places = [[min(start + i, last) for i in offsets] for start in starts]
        self.positions = torch.tensor(places, device=device)
        self.valid = torch.tensor([[i < n for i in offsets] for n in counts], device=device)
        self.aligned = len(set(starts)) == 1 and len(set(counts)) == 1
