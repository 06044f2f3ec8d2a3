"""Scenarios: what is asked of a solution, written as ordinary code that calls it, and recorded as operations.

    @hidden("q2", times=20)
    def one_token_at_a_time(s, draw):
        cache = s.KVCache(2, 16)
        for _ in range(draw.integer(1, 5)):
            s.see("what is held", cache.append(draw.normal(2, 4, 1, 8)))

``s`` stands for the solution: ``s.KVCache(...)`` does not call anything, it notes that it shall be called,
and gives a name for the result, which later calls can take and whose methods can be called. What a scenario
decides, it decides by ``draw``, which is seeded, never by what a solution gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch

from teachgrade.operations import Op
from teachgrade.values import Ref


class Draw:
    """Seeded inputs: the same on every machine for the same words."""

    def __init__(self, *words: object) -> None:
        digest = sha256("\0".join(map(str, words)).encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
        """A tensor of normal numbers."""
        return (torch.randn(*shape, generator=self.generator, dtype=torch.float64) * scale).to(dtype)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def choice(self, values: Any) -> Any:
        return values[self.integer(0, len(values) - 1)]

    def shuffled(self, values: Any) -> list[Any]:
        return [values[i] for i in torch.randperm(len(values), generator=self.generator).tolist()]

    def primes(self, n: int, most: int = 13) -> list[int]:
        """Sizes that differ from one another, so that no two axes can be mistaken for each other."""
        found = [p for p in (2, 3, 5, 7, 11, 13, 17, 19, 23) if p <= most]
        return self.shuffled(found)[:n]


@dataclass(frozen=True)
class Look:
    """How a thing that was seen is compared. Tolerances are for tensors and floats; None: by dtype."""

    label: str
    rtol: float | None = None
    atol: float | None = None


class Name:
    """The result of an operation that has not been carried out."""

    def __init__(self, recorder: Recorder, op: int) -> None:
        self._recorder, self._op = recorder, op

    def __getattr__(self, name: str) -> Callable[..., Name]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._recorder._add(
            {"do": "method", "of": Ref(self._op), "name": name, "args": args, "kwargs": kwargs}
        )


class Recorder:
    """Stands for the solution while a scenario is recorded."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._looks: list[Look] = []

    def __getattr__(self, name: str) -> Callable[..., Name]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._add({"do": "call", "name": name, "args": args, "kwargs": kwargs})

    def see(self, label: str, what: Name, *, rtol: float | None = None, atol: float | None = None) -> None:
        """Compare this with what the reference gives; ``label`` tells the student what was looked at."""
        self._add({"do": "see", "of": what, "label": label})
        self._looks.append(Look(label, rtol, atol))

    def value(self, value: object) -> Name:
        """A value that calls may change, and that can be seen afterwards."""
        return self._add({"do": "value", "value": value})

    def get(self, owner: Name, attribute: str) -> Name:
        """An attribute of an object that the solution has made."""
        return self._add({"do": "get", "of": owner, "name": attribute})

    def _add(self, op: Op) -> Name:
        self._ops.append({key: _refer(value) for key, value in op.items()})
        return Name(self, len(self._ops) - 1)


def _refer(value: Any) -> Any:
    if isinstance(value, Name):
        return Ref(value._op)
    if isinstance(value, (list, tuple)):
        return type(value)(_refer(item) for item in value)
    if isinstance(value, dict):
        return {key: _refer(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Recorded:
    """A scenario with its inputs: operations to play, and how to compare what is seen."""

    question: str
    name: str
    hidden: bool
    ops: list[Op] = field(repr=False)
    looks: list[Look] = field(repr=False)


@dataclass(frozen=True)
class Scenario:
    """A function that asks something of a solution, and how many times it is recorded, each with other
    inputs.
    """

    question: str
    name: str
    hidden: bool
    times: int
    ask: Callable[[Recorder, Draw], object]

    def record(self, seed: str) -> list[Recorded]:
        """Its recordings. seed: of an instructor's own, so that inputs cannot be known beforehand."""
        return [self._once(Draw(seed, self.question, self.name, turn)) for turn in range(self.times)]

    def _once(self, draw: Draw) -> Recorded:
        recorder = Recorder()
        self.ask(recorder, draw)
        if not recorder._looks:
            raise ValueError(f"scenario {self.name}: expected to see something")
        return Recorded(self.question, self.name, self.hidden, recorder._ops, recorder._looks)


_MADE = "teachgrade_scenario"


def visible(question: str, times: int = 1) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A scenario that students have, with its results, and can run themselves."""
    return _marked(question, times, hidden=False)


def hidden(question: str, times: int = 8) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A scenario for marks alone."""
    return _marked(question, times, hidden=True)


def _marked(
    question: str, times: int, *, hidden: bool
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    def mark(ask: Callable[..., object]) -> Callable[..., object]:
        setattr(ask, _MADE, Scenario(question, getattr(ask, "__name__", "scenario"), hidden, times, ask))
        return ask

    return mark


def scenarios_of(names: dict[str, Any]) -> list[Scenario]:
    """Those that a module defines, in order."""
    return [getattr(value, _MADE) for value in names.values() if hasattr(value, _MADE)]


def tolerance(dtype: torch.dtype) -> tuple[float, float]:
    """rtol, atol: a few roundings of sums of some hundred terms, in whatever order a solution adds them."""
    if not dtype.is_floating_point:
        return 0.0, 0.0
    eps = torch.finfo(dtype).eps
    return (math.sqrt(eps) / 10, math.sqrt(eps) / 10) if eps < 1e-6 else (20 * eps, 20 * eps)
