"""The key/value cache: the protocol that the model sees, and the contiguous cache.

The rolling cache, of :mod:`teachkit.rolling`, goes by its name here too.

Three roles, kept apart. The *cache* owns memory and knows how long each row is. Its *step* is the plan
of one forward pass: which positions the new tokens take. The step's *layer view* is all that an
attention layer sees: it stores the new keys and values and returns what attention reads from them. So
storage can change (contiguous, rolling, quantized, paged) without a change in the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from teachkit.attention import scaled_dot_product_attention
from teachkit.config import ModelConfig
from teachkit.rolling import RollingCache
from teachkit.rows import CacheFull, NewTokens, Rows

__all__ = [
    "Cache",
    "CacheFull",
    "ContiguousCache",
    "ContiguousStep",
    "LayerView",
    "RollingCache",
    "Step",
    "Store",
    "UncachedStep",
]


@runtime_checkable
class LayerView(Protocol):
    """One layer's access to the cache, within one step."""

    def attend(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B Hkv T D"],
        v: Float[Tensor, "B Hkv T D"],
        *,
        scale: float | None = None,
    ) -> Float[Tensor, "B H T D"]:
        """Store k and v (positions already applied), then attend from q to all that is stored."""
        ...


@runtime_checkable
class Step(Protocol):
    """The plan of one forward pass over (B, T) tokens, right-padded where rows have fewer than T."""

    @property
    def positions(self) -> Int[Tensor, "B T"]:
        """Position of each token in its sequence, from 0."""
        ...

    @property
    def valid(self) -> Bool[Tensor, "B T"]:
        """False where the token is padding: its output means nothing and nothing of it is stored."""
        ...

    def layer(self, index: int) -> LayerView:
        """What layer ``index`` may see."""
        ...


@runtime_checkable
class Cache(Protocol):
    """Memory of keys and values for a fixed number of rows."""

    @property
    def lengths(self) -> Int[Tensor, B]:
        """Tokens held, per row."""
        ...

    @property
    def capacity(self) -> int:
        """Tokens that one row can hold."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        ...

    def plan(self, n_new: Sequence[int] | Int[Tensor, B]) -> Step:
        """Reserve room for n_new tokens per row. Raises CacheFull, and then changes nothing."""
        ...

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a row."""
        ...


class UncachedStep:
    """A step that remembers nothing: every token attends within the tokens of this very call."""

    def __init__(self, config: ModelConfig, tokens: Int[Tensor, "B T"]) -> None:
        B, T = tokens.shape
        self._windows = config.windows
        self.positions = torch.arange(T, device=tokens.device).expand(B, T)
        self.valid = torch.ones(B, T, dtype=torch.bool, device=tokens.device)

    def layer(self, index: int) -> LayerView:
        return _UncachedLayer(self._windows[index])


class _UncachedLayer:
    def __init__(self, window: int | None) -> None:
        self._window = window

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        return scaled_dot_product_attention(q, k, v, causal=True, window=self._window, scale=scale)


@runtime_checkable
class Store(Protocol):
    """What a step needs of the memory (..., D) that it writes and reads: a tensor is one.

    Any other that is indexed by its leading axes will do, for instance one that keeps codes and scales.
    """

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In which it is written."""
        ...

    def __getitem__(self, index: Any, /) -> Store:
        """The part that the index names, sharing its memory."""
        ...

    def __setitem__(self, index: Any, rows: Any, /) -> None: ...

    def to(self, dtype: torch.dtype, /) -> Tensor:
        """All of it, as numbers."""
        ...


class ContiguousCache(Rows):
    """Keys and values of each layer in two preallocated tensors (B, Hkv, capacity, D).

    capacity  tokens per row; all of it is allocated now, whether used or not
    dtype     of the stored keys and values; what is attended is converted to the dtype of q
    Cost      2 * L * B * Hkv * capacity * D * itemsize bytes
    Raises    ValueError: batch or capacity below 1, capacity beyond the context of the model
    Why       preallocated and written in place: ``torch.cat`` would copy the whole past at each step
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, batch, capacity, device)
        shape = (config.n_layers, batch, config.n_kv_heads, capacity, config.head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)
        self._layers = self.k.unbind(), self.v.unbind()  # once: a step would cut them out anew
        self._windows = config.windows

    @property
    def nbytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def plan(self, n_new: Sequence[int] | Int[Tensor, B]) -> ContiguousStep:
        """Reserve the next n_new positions of each row. Raises CacheFull (nothing changes), ValueError."""
        return ContiguousStep(*self._layers, self._windows, self.reserve(n_new))


class ContiguousStep:
    """Where the new tokens go, and which stored ones each may see; shared by all layers."""

    def __init__(
        self,
        k: Store | Sequence[Store],
        v: Store | Sequence[Store],
        windows: Sequence[int | None],
        new: NewTokens,
    ) -> None:
        self._k, self._v, self._windows = k, v, windows
        self.positions, self.valid, self.aligned = new.positions, new.valid, new.aligned
        self.start, self.n_keys = new.starts[0], max(new.ends)
        if not self.aligned:
            self.rows, self.columns = self.valid.nonzero(as_tuple=True)

    def layer(self, index: int) -> LayerView:
        return _ContiguousLayer(self, self._k[index], self._v[index], self._windows[index])

    def mask(self, window: int | None) -> Bool[Tensor, "B 1 T S"]:
        """Key j is visible to the query at position p iff p - window < j <= p; rows may start anywhere."""
        key = torch.arange(self.n_keys, device=self.positions.device)
        query = self.positions[:, None, :, None]
        seen = key <= query
        return seen if window is None else seen & (key > query - window)


class _ContiguousLayer:
    def __init__(self, step: ContiguousStep, k: Store, v: Store, window: int | None) -> None:
        self._step, self._k, self._v, self._window = step, k, v, window

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        step = self._step
        self._write(k, v)
        past_k = self._k[:, :, : step.n_keys].to(q.dtype)
        past_v = self._v[:, :, : step.n_keys].to(q.dtype)
        if step.aligned:  # bottom-right alignment says it all, and a decode step needs no mask
            return scaled_dot_product_attention(
                q, past_k, past_v, causal=True, window=self._window, scale=scale
            )
        mask = step.mask(self._window)
        return scaled_dot_product_attention(q, past_k, past_v, mask=mask, scale=scale)

    def _write(self, k: Tensor, v: Tensor) -> None:
        step = self._step
        for stored, new in ((self._k, k), (self._v, v)):
            if step.aligned:
                stored[:, :, step.start : step.n_keys] = new
            else:
                rows, columns = step.rows, step.columns
                slots = step.positions[rows, columns]
                stored[rows, :, slots] = new[rows, :, columns].to(stored.dtype)
