"""What a question withholds: names of torch that raise while it is asked, and operations that are noticed.

A lab on softmax is not answered by ``torch.softmax``. Modules can be absent from the sandbox; a function of
torch cannot, so it is stood in for by one that raises while the question is asked, and the operations that
reach torch's dispatcher are watched, by whatever name they were called. A submission that takes the
sandbox's Python apart can get around both: this keeps honest students honest, and its docs say so. Lies in
the sandbox.

    "torch.nn.functional.softmax"    a name: raises when called
    "aten::_softmax"                 an operation: raises when it reaches the dispatcher
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_active: set[str] = set()
_OPERATION = "aten::"


class Withheld(RuntimeError):
    """What the question asks for was to be taken from a library."""


def stand_in(names: Iterable[str]) -> None:
    """Put a stand-in in place of each name, before any cell runs: it asks, at each call, whether it is
    withheld.

    Raises  AttributeError: torch has no such name
    """
    for name in set(names):
        if name.startswith(_OPERATION):
            continue
        owner_name, _, attribute = name.rpartition(".")
        owner = _resolve(owner_name)
        setattr(owner, attribute, _asking(name, getattr(owner, attribute)))


@contextmanager
def lent(names: Iterable[str]) -> Iterator[None]:
    """The same for a while, in a process that goes on: a student's notebook."""
    owners = [
        (_resolve(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names if "::" not in name
    ]
    originals = [(owner, attribute, getattr(owner, attribute)) for owner, attribute in owners]
    stand_in(names)
    try:
        with withheld(names):
            yield
    finally:
        for owner, attribute, original in originals:
            setattr(owner, attribute, original)


def _resolve(name: str) -> Any:
    first, *rest = name.split(".")
    if first != "torch":
        raise AttributeError(f"{name}: expected a name of torch")
    return functools.reduce(getattr, rest, torch)


def _asking(name: str, original: Any) -> Any:
    if isinstance(original, type):

        class StandIn(original):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                _refuse(name)
                super().__init__(*args, **kwargs)

        StandIn.__name__ = StandIn.__qualname__ = original.__name__
        return StandIn

    @functools.wraps(original)
    def ask(*args: Any, **kwargs: Any) -> Any:
        _refuse(name)
        return original(*args, **kwargs)

    return ask


def _refuse(name: str) -> None:
    if name in _active:
        raise Withheld(f"{name} is withheld in this question")


class _Watch(TorchDispatchMode):
    """Raises when a withheld operation is carried out."""

    def __init__(self, operations: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = operations

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here; by default the first use imports the compiler, which takes a second.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if name in self.operations:
            raise Withheld(f"{name} is withheld in this question")
        return func(*args, **(kwargs or {}))


@contextmanager
def withheld(names: Iterable[str]) -> Iterator[None]:
    """While this lasts, these names and operations raise."""
    operations = frozenset(name for name in names if name.startswith(_OPERATION))
    before = set(_active)
    _active.clear()
    _active.update(name for name in names if not name.startswith(_OPERATION))
    try:
        if operations:
            with _Watch(operations):
                yield
        else:
            yield
    finally:
        _active.clear()
        _active.update(before)
