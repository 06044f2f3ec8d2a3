"""The quantized cache: keys and values as small integers, so that a step reads fewer bytes of the past.

The contiguous cache over another memory. A token's key or value in one head becomes a row of codes and one
scale, found when it is stored and never changed: what came before stays as it is when a token is added,
taken back or overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from teachkit.cache import ContiguousStep
from teachkit.config import ModelConfig
from teachkit.quant import dequantize_rows, quantize_rows
from teachkit.rows import Rows

Bits = Literal[8, 4]


class QuantizedRows:
    """A tensor (..., D) that is written and read as numbers, and kept as codes.

    parts  the codes, (..., D) in int8 or (..., D / 2 rounded up) with two 4-bit codes to a byte, and their
           scale (..., 1) in bfloat16: a number is code * scale. For 4 bits also the zero (..., 1): a number
           is (code - 8) * scale + zero
    """

    dtype = torch.float32  # in which numbers are written

    def __init__(self, parts: tuple[Tensor, ...], columns: int, bits: Bits) -> None:
        self.parts, self.columns, self.bits = parts, columns, bits

    @classmethod
    def zeros(cls, shape: Sequence[int], bits: Bits, device: torch.device | str = "cpu") -> QuantizedRows:
        """Room for numbers of this shape. Raises ValueError: bits other than 8 and 4."""
        *outer, columns = shape
        row = _parts(torch.zeros(1, columns, device=device), bits)  # says how rows are stored
        return cls(tuple(part.new_zeros(*outer, part.shape[-1]) for part in row), columns, bits)

    @property
    def shape(self) -> torch.Size:
        """Of the numbers."""
        return torch.Size((*self.parts[0].shape[:-1], self.columns))

    @property
    def nbytes(self) -> int:
        """Of codes, scales and zeros."""
        return sum(part.nbytes for part in self.parts)

    def __getitem__(self, index: Any) -> QuantizedRows:
        return QuantizedRows(tuple(part[index] for part in self.parts), self.columns, self.bits)

    def __setitem__(self, index: Any, rows: Tensor | QuantizedRows) -> None:
        # Rows that are codes already are copied as they are: to round them again could change them.
        new = rows.parts if isinstance(rows, QuantizedRows) else _parts(rows, self.bits)
        for part, values in zip(self.parts, new, strict=True):
            part[index] = values

    def to(self, dtype: torch.dtype) -> Tensor:
        """The numbers that the codes stand for."""
        codes, scale, *zero = self.parts
        return dequantize_rows(codes, scale, zero[0] if zero else None, columns=self.columns, dtype=dtype)


def _parts(rows: Tensor, bits: Bits) -> tuple[Tensor, ...]:
    codes, scale, zero = quantize_rows(rows, bits)
    return (codes, scale) if zero is None else (codes, scale, zero)


class QuantizedCache(Rows):
    """Keys and values of each layer as codes, with one scale per token and head.

    capacity  tokens per row; all of it is allocated now, whether used or not
    bits      8: codes from -127 to 127; 4: codes from 0 to 15 and a zero, two codes to a byte
    Cost      2 * L * B * Hkv * capacity * (D + 2) bytes for 8 bits, (D / 2 + 4) for 4
    Raises    ValueError: other bits, batch or capacity below 1, capacity beyond the context of the model
    Note      attention here reads numbers, not codes: a step turns the past of one layer back, in the dtype
              of q, and lets it go again. A kernel that reads codes would save that time as well as memory
    Source    Liu et al. 2024 (KIVI), arXiv:2402.02750, compares this with scales per channel
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        bits: Bits = 8,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, batch, capacity, device)
        shape = (config.n_layers, batch, config.n_kv_heads, capacity, config.head_dim)
        self.k = QuantizedRows.zeros(shape, bits, device)
        self.v = QuantizedRows.zeros(shape, bits, device)
        self._windows = config.windows

    @property
    def nbytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def plan(self, n_new: Sequence[int] | Int[Tensor, B]) -> ContiguousStep:
        """Reserve the next n_new positions of each row. Raises CacheFull (nothing changes), ValueError."""
        return ContiguousStep(self.k, self.v, self._windows, self.reserve(n_new))
