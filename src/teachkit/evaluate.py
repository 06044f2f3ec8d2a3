"""How well a model predicts text: bits per byte and perplexity, the same windows for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from teachkit.cache import Cache
from teachkit.model import Decoder

WINDOW = 512

CacheOf = Callable[[int, int], Cache]  # an empty cache for so many rows of so many tokens


def bits_per_byte(
    model: Decoder,
    texts: Sequence[str],
    *,
    window: int = WINDOW,
    batch: int = 8,
    cache: CacheOf | None = None,
) -> float:
    """Bits that the model needs per byte of UTF-8: comparable across tokenizers, and to xz.

    Each text stands alone, a separator before it, and is cut into windows of ``window`` tokens that do
    not overlap; every token of it is predicted once, from the earlier tokens of its window.

    cache   through which each window goes: its quality counts then, too. What a token leaves there depends
            on no later one, so a window in one pass is the same as one token at a time
    Raises  ValueError: no tokenizer, no separator token, no bytes
    """
    n_bytes = sum(len(text.encode()) for text in texts)
    if not n_bytes:
        raise ValueError("texts: expected at least one byte, got none")
    nats = window_nats(model, texts, window=window, batch=batch, cache=cache)
    return float(nats.sum()) / math.log(2) / n_bytes


def perplexity(model: Decoder, texts: Sequence[str], *, window: int = WINDOW, batch: int = 8) -> float:
    """exp of the mean negative log-likelihood per token; windows and errors as in bits_per_byte."""
    n_tokens = sum(len(row) - 1 for text in texts for row in _windows(model, text, window))
    nats = window_nats(model, texts, window=window, batch=batch)
    if not n_tokens:
        raise ValueError("texts: expected at least one token, got none")
    return math.exp(float(nats.sum()) / n_tokens)


@torch.inference_mode()
def window_nats(
    model: Decoder,
    texts: Sequence[str],
    *,
    window: int = WINDOW,
    batch: int = 8,
    cache: CacheOf | None = None,
) -> Float64[Tensor, W]:
    """Negative log-likelihood of each window, cut as in bits_per_byte: models can be compared in pairs.

    Raises  as bits_per_byte; of no text there are no windows
    """
    if window < 1 or batch < 1:
        raise ValueError(f"window, batch: expected at least 1, got {window} and {batch}")
    rows = [row for text in texts for row in _windows(model, text, window)]
    nats = [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        inputs, targets = _pad(some, model.device)
        if cache is None:
            logits = model(inputs)
        else:
            step = cache(*inputs.shape).plan([len(row) - 1 for row in some])
            logits = model(inputs, step=step)
        losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        nats.append(losses.sum(1, dtype=torch.float64).cpu())
    return torch.cat(nats)


def _windows(model: Decoder, text: str, window: int) -> list[list[int]]:
    """Token ids in pieces of up to window + 1, the last of one being the first of the next."""
    if model.tokenizer is None:
        raise ValueError("model: expected one with a tokenizer, got none")
    separator = model.tokenizer.bos if model.tokenizer.bos is not None else model.tokenizer.eos
    if separator is None:
        raise ValueError("tokenizer: expected a beginning- or end-of-text token to put first, got none")
    ids = [separator, *model.tokenizer.encode(text, special=False)]
    return [ids[i : i + window + 1] for i in range(0, len(ids) - 1, window)]


def _pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs (0 where padded) and targets (-100 there, which cross_entropy leaves out), both (B, T)."""
    T = max(map(len, rows)) - 1
    inputs = torch.tensor([row[:-1] + [0] * (T - len(row) + 1) for row in rows], device=device)
    targets = torch.tensor([row[1:] + [-100] * (T - len(row) + 1) for row in rows], device=device)
    return inputs, targets
