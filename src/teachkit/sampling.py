"""From logits to the next token: greedy, temperature, top-k, top-p.

A sampler is a function ``(logits (B, V), generator) -> tokens (B,)``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Sampler(Protocol):
    """Chooses one token per row. ``generator`` makes the choice repeatable; greedy ignores it."""

    def __call__(
        self, logits: Float[Tensor, "B V"], generator: torch.Generator | None = None
    ) -> Int[Tensor, B]: ...


def greedy(logits: Float[Tensor, "B V"], generator: torch.Generator | None = None) -> Int[Tensor, B]:
    """The most likely token; of equals, the first."""
    return logits.argmax(-1)


def probabilities(
    logits: Float[Tensor, "*B V"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "*B V"]:
    """The distribution that is sampled from, in fp32: temperature first, then top-k, then top-p.

    temperature  divides the logits: below 1 sharper, above 1 flatter; 0 is greedy, all on one token
    top_k        keep the k most likely tokens, k at least 1 (Fan et al. 2018, arXiv:1805.04833)
    top_p        keep the smallest set of most likely tokens whose probability reaches p, at least one
                 (Holtzman et al. 2019, arXiv:1904.09751)
    Raises       ValueError: a value out of its range; logits that are NaN or +inf, a row of nothing but -inf
    """
    _require(temperature, top_k, top_p)
    logits = logits.float()
    if not torch.isfinite(logits.amax(-1)).all():  # the largest is NaN if any is
        raise ValueError("logits: expected finite numbers (or -inf, but not all), got NaN, +inf or only -inf")
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    if top_k is None and top_p in (None, 1):
        return (logits / temperature).softmax(-1)  # to sort a whole vocabulary takes several times as long
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probs = (logits.gather(-1, order) / temperature).softmax(-1)
    if top_k is not None:
        probs[..., top_k:] = 0
        probs = probs / probs.sum(-1, keepdim=True)
    if top_p is not None and top_p < 1:  # the running sum, rounded, may reach 1 before the last token
        before = probs.cumsum(-1) - probs  # what the more likely tokens hold together
        probs = probs.masked_fill(before >= top_p, 0)
        probs = probs / probs.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, order, probs)


def sampler(*, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Sampler:
    """A sampler with these settings, see :func:`probabilities`. Raises ValueError now, not at first use."""
    _require(temperature, top_k, top_p)

    def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        probs = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return torch.multinomial(probs, 1, generator=generator)[:, 0]

    return sample


def _require(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number of at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], got {top_p}")
