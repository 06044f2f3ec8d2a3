"""The rolling cache: a model that looks back ``window`` tokens need not keep more of them.

Each row is a ring. The token at position p takes the slot of the one at p - window, which no later query
may see. So memory does not grow with the text, and nothing is ever moved.

Slots repeat, positions do not. Keys are stored already turned by their position (RoPE), and the score of a
query and a key depends on how far apart they are: a key serves from any slot, as long as positions go on
counting. That is also why the order of the slots means nothing to attention; only the mask needs to know
which position lies where.

Source: Jiang et al. 2023 (Mistral 7B), arXiv:2310.06825, section 2; sinks: Xiao et al. 2023,
arXiv:2309.17453.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from teachkit.attention import scaled_dot_product_attention
from teachkit.config import ModelConfig
from teachkit.rows import NewTokens, Rows


@dataclass(frozen=True)
class Ring:
    """Which slot holds which position: the first ``sinks`` stay where they are, the others go round.

    >>> ring = Ring(window=3, sinks=1)
    >>> [ring.slot(position) for position in range(7)]
    [0, 1, 2, 3, 1, 2, 3]
    >>> ring.positions(torch.tensor([7]), 4).tolist()  # after seven tokens
    [[0, 4, 5, 6]]
    """

    window: int
    sinks: int

    def slot(self, position: int) -> int:
        """Where the token at this position is stored."""
        if position < self.sinks:
            return position
        return self.sinks + (position - self.sinks) % self.window

    def positions(self, lengths: Int[Tensor, B], n_slots: int) -> Int[Tensor, "B n_slots"]:
        """What each slot holds in a row of so many tokens: its position, -1 where there is none yet."""
        slot = torch.arange(n_slots, device=lengths.device)
        last = lengths[:, None] - 1
        newest = last - (last - slot) % self.window  # the last position that takes this slot
        held = torch.where(slot < self.sinks, slot, newest)
        return torch.where((held <= last) & (held >= slot.clamp_max(self.sinks)), held, -1)

    def visible(self, query: Int[Tensor, "B T"], key: Int[Tensor, "B S"]) -> Bool[Tensor, "B 1 T S"]:
        """Position p sees key j >= 0 iff p - window < j <= p, and the sinks iff j <= p."""
        p, j = query[:, None, :, None], key[:, None, None, :]
        return (j >= 0) & (j <= p) & ((j > p - self.window) | (j < self.sinks))


class RollingCache(Rows):
    """Keys and values of the last ``window`` tokens of each row, and of its first ``sinks``.

    capacity  tokens that may pass through a row, by default the model's context. It costs memory only in
              layers without a window, which keep all of them
    window    tokens that a query sees, itself included; by default the model's own. A model without one
              gets it in every layer: it then computes what ``windows=(window,) * n_layers`` says
    sinks     so many first tokens stay visible to all: models put attention on them that has to go
              somewhere, and fall apart when they leave the window
    dtype     of the stored keys and values; what is attended is converted to the dtype of q
    Cost      2 * B * Hkv * D * itemsize bytes for each of sinks + window tokens, in each layer
    Raises    ValueError: batch or capacity below 1, capacity or window beyond the context, window below 1,
              another than the model's own or none at all, sinks below 0
    Note      ``lengths`` counts all tokens of the text, those that fell out too
    Note      sinks keep their positions in the text. Xiao et al. number keys by their place in the cache,
              which needs keys before rotation and a rotation of all of them at each step, and lets the
              text outgrow the context; here the context is the limit, as for every other cache
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int | None = None,
        *,
        window: int | None = None,
        sinks: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        capacity = config.context if capacity is None else capacity
        super().__init__(config, batch, capacity, device)
        if sinks < 0:
            raise ValueError(f"sinks: expected 0 or more first tokens to keep, got {sinks}")
        # A window of the whole capacity never closes: a layer without one is the same ring, only larger.
        self.rings = [Ring(w or capacity, sinks) for w in _windows(config, window)]
        sizes = [min(sinks + ring.window, capacity) for ring in self.rings]
        shapes = [(batch, config.n_kv_heads, size, config.head_dim) for size in sizes]
        self.k = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.v = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self._reached = [0] * batch  # the longest that each row has been: what lies there now

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (*self.k, *self.v))

    def plan(self, n_new: Sequence[int] | Int[Tensor, B]) -> RollingStep:
        """Reserve the next n_new positions of each row. Raises CacheFull (nothing changes), ValueError."""
        new = self.reserve(n_new)
        self._reached = [max(pair) for pair in zip(self._reached, new.ends, strict=True)]
        return RollingStep(self, new)

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of ``row``, if what the next token sees is still there.

        It is there before the ring has gone round, at the sinks or 0, and one token back: each token that
        was written has overwritten one that an earlier query would need.
        Raises  ValueError, also where tokens are needed that fell out; IndexError
        """
        reached, ring = self._reached[row], min(self.rings, key=lambda ring: ring.window)
        if reached > ring.sinks + ring.window and ring.sinks < length < reached - 1:
            raise ValueError(
                f"length: expected at least {reached - 1} or at most {ring.sinks}, got {length}: row {row} "
                f"has reached {reached} tokens, and those before {reached - ring.window} left the window"
            )
        super().truncate(row, length)
        if length <= ring.sinks:
            self._reached[row] = length


def _windows(config: ModelConfig, window: int | None) -> tuple[int | None, ...]:
    """The window of each layer: as the config says, or the one given where it says nothing."""
    own = sorted({w for w in config.windows if w is not None})
    if window is None:
        if not own:
            raise ValueError("window: expected a number of tokens, since the model has none of its own")
        return config.windows
    if window < 1:
        raise ValueError(f"window: expected at least 1 (the token itself), got {window}")
    if own and own != [window]:
        raise ValueError(f"window: expected {own} as the model's config says, got {window}")
    if window > config.context:
        raise ValueError(
            f"window: expected at most the model's context of {config.context} tokens, got {window}"
        )
    return config.windows if own else (window,) * config.n_layers


class RollingStep:
    """The positions of the new tokens, and one turn of each kind of ring; shared by all layers."""

    def __init__(self, cache: RollingCache, new: NewTokens) -> None:
        self.positions, self.valid = new.positions, new.valid
        self._cache = cache
        sizes = {ring: k.shape[2] for ring, k in zip(cache.rings, cache.k, strict=True)}
        self._turns = {ring: _Turn(ring, size, new) for ring, size in sizes.items()}

    def layer(self, index: int) -> _RollingLayer:
        cache = self._cache
        return _RollingLayer(self._turns[cache.rings[index]], cache.k[index], cache.v[index])


class _Turn:
    """What the new tokens of one pass overwrite in a ring, and what each of them sees before and after.

    One token per row overwrites what it does not see itself: it is written first, and the ring is attended
    in place. Of several, the last overwrite what the first must see: they attend to the ring as it was and
    to each other, and are written after.
    """

    def __init__(self, ring: Ring, size: int, new: NewTokens) -> None:
        device, T = new.positions.device, new.valid.shape[1]
        starts, ends = (torch.tensor(n, device=device) for n in (new.starts, new.ends))
        self.in_place = T == 1 or max(new.ends) <= size
        self.n_slots = min(max(new.ends if self.in_place else new.starts), size)
        if self.in_place:
            keys = ring.positions(ends, self.n_slots)
        else:
            own = torch.where(new.valid, new.positions, -1)
            keys = torch.cat((ring.positions(starts, self.n_slots), own), 1)
        # A single token sees all that its ring holds; rows of other lengths hold other numbers of them.
        alone = T == 1 and new.aligned
        self.mask = None if alone else ring.visible(new.positions, keys)
        # Made of plain integers, so that no device is waited for: (row, column, slot) of what is kept.
        kept = [
            (row, t, ring.slot(start + t))
            for row, (start, n) in enumerate(zip(new.starts, new.counts, strict=True))
            for t in range(n)
            if t >= n - ring.window or start + t < ring.sinks
        ]
        self.rows, self.columns, self.slots = torch.tensor(kept, device=device).unbind(1)


class _RollingLayer:
    def __init__(self, turn: _Turn, k: Tensor, v: Tensor) -> None:
        self._turn, self._k, self._v = turn, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        keys, values = self._pass(self._k, k), self._pass(self._v, v)
        return scaled_dot_product_attention(
            q, keys.to(q.dtype), values.to(q.dtype), mask=self._turn.mask, scale=scale
        )

    def _pass(self, stored: Tensor, new: Tensor) -> Tensor:
        """Write the new tokens into the ring; return what they attend to."""
        turn, new = self._turn, new.to(stored.dtype)
        before = None if turn.in_place else torch.cat((stored[:, :, : turn.n_slots], new), 2)
        stored[turn.rows, :, turn.slots] = new[turn.rows, :, turn.columns]
        return stored[:, :, : turn.n_slots] if before is None else before
