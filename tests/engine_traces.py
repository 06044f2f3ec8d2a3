"""Random traces for the engine with tiny models, and what must come of each: what the request alone gives.

A trace is played in steps of the engine, not in seconds. Meanwhile all that nobody may read is NaN.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache

import torch

from conftest import tiny_config, tiny_model, unchecked
from teachkit.decode import generate
from teachkit.engine import Engine
from teachkit.tokenizer import Tokenizer
from tolerance import LOGITS

FP64 = torch.float64
VOCAB, LONGEST, MOST_NEW = 61, 24, 19

KINDS = {
    "windows": {"windows": (None, 5)},
    "learned": {"position": "learned"},
    "one head, parallel": {"n_heads": 5, "n_kv_heads": 1, "parallel_residual": True, "norm": "layer"},
}


class Letters(Tokenizer):
    """A tokenizer whose token i is a character of its own: what a stream shows tells the tokens."""

    def __init__(self):
        self.bos = self.eos = None

    def decode(self, ids):
        return "".join(chr(ord("A") + i) for i in ids)

    def encode(self, text, *, special=True):
        return [ord(c) - ord("A") for c in text]


@cache
def model_of(kind):
    model = tiny_model(tiny_config(**KINDS[kind]), dtype=FP64)
    model.tokenizer = Letters()
    return model


@dataclass(frozen=True)
class Arrival:
    """A prompt that is submitted before a step, and cancelled some steps later, or not."""

    step: int
    prompt: tuple[int, ...]
    max_new_tokens: int
    cancel_after: int | None = None


@dataclass(frozen=True)
class Trace:
    kind: str
    options: dict[str, int | bool | None]
    arrivals: list[Arrival] = field(repr=False)


def random_trace(seed):
    """Prompts that begin alike, are equal, or share only their ends; pools of the least size and larger."""
    draw = random.Random(seed)
    size = draw.choice([1, 2, 3, 4, 4, 7])
    texts = [[draw.randrange(VOCAB) for _ in range(LONGEST)] for _ in range(3)]
    arrivals, step = [], 0
    for _ in range(draw.randint(2, 11)):
        length = draw.choice([1, size, max(1, size - 1), size + 1, 2 * size, draw.randint(1, LONGEST)])
        text = list(draw.choice(texts))
        if draw.random() < 0.5:  # the end of one text after the beginning of another
            at = draw.choice([size, 2 * size, draw.randrange(LONGEST)])
            text[at:] = draw.choice(texts)[at:]
        cancel = draw.choice([None, None, None, draw.randrange(20)])
        prompt = tuple(text[: min(length, LONGEST)])
        arrivals.append(Arrival(step, prompt, draw.randint(1, MOST_NEW), cancel))
        step += draw.choice([0, 0, 0, 1, 11])
    least = max(-(-(len(a.prompt) + a.max_new_tokens - 1) // size) for a in arrivals)
    options = {
        "n_blocks": least + draw.choice([0, 1, least // 2, least // 2, least, 4 * least]),
        "block_size": size,
        "max_batch_tokens": draw.choice([1, 2, 3, 5, 8, 17, 64]),
        "max_batch": draw.choice([None, None, None, 1, 2]),
        "reuse": draw.random() < 0.8,
    }
    return Trace(draw.choice(list(KINDS)), options, arrivals)


class Recorder:
    """A greedy sampler that keeps the logits from which it chose."""

    def __init__(self):
        self.rows = []

    def __call__(self, logits, generator=None):
        self.rows.append(logits[0].clone())
        return logits.argmax(-1)


def poison(engine):
    """NaN in every block that nobody owns and whose content cannot be found."""
    pool, memory = engine.pool, engine.memory
    idle = [b for b in range(pool.n_blocks) if not pool.owners(b) and not pool.is_known(b)]
    memory.k[:, idle] = memory.v[:, idle] = float("nan")


@dataclass
class Played:
    """What became of a trace. ``recorded``: of every other request the sampler that kept the logits."""

    requests: list = field(default_factory=list)
    recorded: dict[int, Recorder] = field(default_factory=dict)
    steps: list = field(default_factory=list)


def play(trace):
    """Submit, step and cancel as the trace says, until all is done; blocks are accounted for throughout."""
    engine, played = Engine(model_of(trace.kind), **trace.options), Played()
    poison(engine)
    cancels, step = {}, 0
    limit = 100 + sum(2 * (len(a.prompt) + a.max_new_tokens) for a in trace.arrivals)
    while step < limit:
        for arrival in trace.arrivals:
            if arrival.step == step:
                _submit(engine, arrival, played)
                if arrival.cancel_after is not None:
                    cancels.setdefault(step + arrival.cancel_after, []).append(played.requests[-1])
        for request in cancels.get(step, []):
            was_done = request.done
            assert engine.cancel(request) != was_done
        metrics = engine.step()
        played.steps += [] if metrics is None else [metrics]
        engine.pool.check()
        poison(engine)
        assert (metrics is None) <= engine.idle, "requests are left, and no step is made for them"
        step += 1
        if engine.idle and step > trace.arrivals[-1].step:
            break
    assert engine.idle, f"not done after {limit} steps"
    assert engine.pool.n_used == 0
    return played


def _submit(engine, arrival, played):
    index, sampler = len(played.requests), Recorder()
    options = {} if index % 2 else {"sampler": sampler}
    played.requests.append(engine.submit(arrival.prompt, arrival.max_new_tokens, **options))
    if options:
        played.recorded[index] = sampler


@cache
def alone(kind, prompt):
    """The tokens of the request alone, and the logits of each, by recomputation of the whole text."""
    model = model_of(kind)
    tokens = generate(model, prompt, MOST_NEW).tokens
    logits = model(torch.tensor([[*prompt, *tokens[:-1]]]))[0, len(prompt) - 1 :]
    assert tokens == logits.argmax(-1).tolist()
    return tokens, logits


def check(trace):
    """Each request has had its own tokens, from its own logits, all of them unless it was cancelled."""
    with unchecked():  # shapes are checked elsewhere; here it is the number of steps that counts
        played = play(trace)
    for index, (arrival, request) in enumerate(zip(trace.arrivals, played.requests, strict=True)):
        with unchecked():
            tokens, logits = alone(trace.kind, arrival.prompt)
        assert request.error is None, repr(request.error)
        assert request.finish in (("length",) if arrival.cancel_after is None else ("length", "cancelled"))
        n = len(request.tokens)
        assert n == arrival.max_new_tokens or (request.finish == "cancelled" and n < arrival.max_new_tokens)
        assert request.tokens == tokens[:n]
        assert request.prompt_tokens == list(arrival.prompt)
        for row, expected in zip(played.recorded.get(index, Recorder()).rows, logits, strict=False):
            torch.testing.assert_close(row, expected, **LOGITS[FP64])
    return played
