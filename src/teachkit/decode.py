"""Generation: one prefill over the prompt, then one token per step from the cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from teachkit.cache import Cache, ContiguousCache
from teachkit.measure import synchronise
from teachkit.model import Decoder
from teachkit.output import Finish, Output
from teachkit.sampling import Sampler, greedy


@dataclass(frozen=True)
class Generation:
    """What was generated, and how long it took.

    text      of the new tokens; ends before the stop string or the end-of-text token
    tokens    the new ids, the one that ended the text included
    finish    why it ended: max_new_tokens ("length"), the model's context, end of text, a stop string
    times_s   seconds from the call until each token was known
    """

    text: str
    tokens: list[int]
    finish: Finish
    times_s: list[float] = field(repr=False)

    @property
    def ttft_s(self) -> float:
        """Time to first token: tokenizing, prefill and the first choice."""
        return self.times_s[0]

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first: their mean; NaN when there is only one token."""
        n = len(self.times_s) - 1
        return (self.times_s[-1] - self.times_s[0]) / n if n else float("nan")


def prefill(model: Decoder, cache: Cache, tokens: Sequence[int], *, chunk: int | None = None) -> Tensor:
    """Put a prompt into an empty or filled cache of one row; logits (1, V) after its last token.

    chunk   at most so many tokens per pass: bounds the memory of the scores, (H, chunk, S) per layer
    Raises  ValueError: no tokens, a chunk below 1, a token outside the vocabulary; CacheFull
    """
    size = len(tokens) if chunk is None else chunk
    if not len(tokens) or size < 1:
        raise ValueError(f"tokens, chunk: expected at least 1 of each, got {len(tokens)} and {chunk}")
    pieces = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    for piece in pieces[:-1]:
        model(torch.tensor([piece], device=model.device), cache=cache, last_only=True)
    return model(torch.tensor([pieces[-1]], device=model.device), cache=cache, last_only=True)[:, -1]


def generate(
    model: Decoder,
    prompt: str | Sequence[int],
    max_new_tokens: int = 64,
    sampler: Sampler = greedy,
    seed: int | None = None,
    stop: str | Sequence[str] = (),
    stream: Callable[[str], object] | None = None,
    *,
    cache: Cache | None = None,
    prefill_chunk: int | None = None,
) -> Generation:
    """Continue a prompt.

    prompt   text, or token ids; an empty text starts from the beginning-of-text token
    sampler  see :mod:`teachkit.sampling`; ``seed`` makes its choices repeatable
    stop     text ends before the first of these strings
    stream   called with each new piece of text; the pieces join to ``Generation.text``
    cache    an empty cache of one row to use; by default a contiguous one of just the right size
    Raises   ValueError: an empty prompt without such a token, a prompt longer than the context, no
             tokenizer for a text, max_new_tokens below 1, an empty stop string, a cache that is not
             empty, non-finite logits; CacheFull, when the cache given is too small
    """
    started = time.perf_counter()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
    if "" in stops:
        raise ValueError("stop: expected non-empty strings, got ''")
    ids = prompt_ids(model, prompt, needs_text=bool(stops) or stream is not None)
    budget = min(max_new_tokens, model.config.context - len(ids))
    if cache is None:
        cache = ContiguousCache(model.config, 1, len(ids) + budget, dtype=model.dtype, device=model.device)
    elif (held := cache.lengths.tolist()) != [0]:
        raise ValueError(f"cache: expected one row of length 0, got lengths {held}")
    generator = torch.Generator(model.device).manual_seed(seed) if seed is not None else None

    output = Output(
        model.tokenizer,
        ("length", budget) if budget == max_new_tokens else ("context", budget),
        eos=model.config.eos_token_ids,
        stops=stops,
        stream=stream,
    )
    times_s: list[float] = []
    for token in _steps(model, cache, ids, budget, sampler, generator, prefill_chunk):
        times_s.append(time.perf_counter() - started)
        output.add(token)
        if output.finish:
            break
    assert output.finish  # the last of the budget, at the latest
    return Generation(output.text, output.tokens, output.finish, times_s)


def _steps(
    model: Decoder,
    cache: Cache,
    ids: list[int],
    budget: int,
    sampler: Sampler,
    generator: torch.Generator | None,
    chunk: int | None,
) -> Iterator[int]:
    """The loop itself: prefill, then feed each chosen token back."""
    # Entered anew for each step: held across a yield, the mode would leak into the caller.
    with torch.inference_mode():
        logits = prefill(model, cache, ids, chunk=chunk)
    for n in range(budget):
        require_finite(logits)
        token = sampler(logits, generator)
        synchronise(token.device)
        yield int(token)
        if n + 1 < budget:
            with torch.inference_mode():
                logits = model(token[:, None], cache=cache)[:, -1]


def prompt_ids(model: Decoder, prompt: str | Sequence[int], *, needs_text: bool = False) -> list[int]:
    """The ids of a prompt, and room for at least one more token.

    needs_text  whether the output must be read as text
    Raises      ValueError: an empty prompt, one as long as the context, no tokenizer for a text
    """
    if model.tokenizer is None and (needs_text or isinstance(prompt, str)):
        raise ValueError("prompt, stop, stream: expected token ids and neither stop nor stream: no tokenizer")
    if not isinstance(prompt, str):
        ids = [int(i) for i in prompt]
    else:
        assert model.tokenizer is not None
        ids = model.tokenizer.encode(prompt)
        if not ids and model.tokenizer.bos is not None:
            ids = [model.tokenizer.bos]
    if not ids:
        raise ValueError("prompt: expected at least one token, got none")
    if len(ids) >= model.config.context:
        raise ValueError(
            f"prompt: expected fewer than {model.config.context} tokens (the model's context), got {len(ids)}"
        )
    return ids


def require_finite(logits: Tensor) -> None:
    """Raises ValueError: NaN or infinity among them."""
    low, high = torch.aminmax(logits)  # NaN comes through both; one reading of the logits
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            "logits: expected finite numbers, got NaN or infinity; damaged weights, or fp16 too narrow?"
        )
