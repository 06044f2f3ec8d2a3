"""What was seen beside what should have been: equal, or in what they differ, without giving the answer
away.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from teachgrade.operations import CHANGED
from teachgrade.scenario import Look, tolerance
from teachgrade.values import Other, Raised

NUMBER = (int, float)
NOT_YET = "not implemented yet"


def difference(expected: Any, got: Any, look: Look) -> str | None:
    """None if equal; otherwise a sentence for the student. It tells kinds, shapes and dtypes, no values.

    expected  what the reference gave, trusted
    got       what came from a submission, rebuilt as plain data
    """
    if isinstance(got, Raised) and not isinstance(expected, Raised):
        return _raised(got)
    if isinstance(expected, Raised):
        return _should_raise(expected, got)
    if isinstance(expected, torch.Tensor):
        return _tensors(expected, got, look)
    if isinstance(expected, bool) or expected is None or isinstance(expected, str):
        return None if type(got) is type(expected) and got == expected else _other_value(expected, got)
    if isinstance(expected, NUMBER):
        return _numbers(expected, got, look)
    if isinstance(expected, (list, tuple)):
        return _lists(expected, got, look)
    if isinstance(expected, dict):
        return _dicts(expected, got, look)
    if isinstance(expected, (set, frozenset)):
        same = isinstance(got, (set, frozenset)) and got == expected
        return None if same else _other_value(expected, got)
    raise TypeError(f"a scenario looks at a {type(expected).__name__}, which is no plain data")


def _raised(got: Raised) -> str:
    where = f" at {got.line}" if got.line else ""
    if got.types == (CHANGED,):
        return f"it changes an argument that is not its own ({got.message})"
    if got.name == "NotImplementedError":
        return NOT_YET
    if got.name == "Withheld":
        return got.message + where
    return f"it raised {got.name}: {got.message}{where}" if got.message else f"it raised {got.name}{where}"


def _should_raise(expected: Raised, got: Any) -> str | None:
    # A subclass of what was asked for will do.
    wanted = expected.name
    if isinstance(got, Raised) and got.name == "NotImplementedError":
        return NOT_YET
    if isinstance(got, Raised):
        return None if wanted in got.types else f"expected {wanted}, and {_raised(got)}"
    return f"expected {wanted} to be raised, and it gave {kind(got)}"


def _tensors(expected: torch.Tensor, got: Any, look: Look) -> str | None:
    if not isinstance(got, torch.Tensor):
        return f"expected a tensor, got {kind(got)}"
    if got.shape != expected.shape:
        return f"expected the shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if got.dtype != expected.dtype:
        return f"expected {expected.dtype}, got {got.dtype}"
    rtol, atol = _tolerances(expected.dtype, look)
    wide = torch.float64 if expected.dtype.is_floating_point else torch.int64
    one, other = expected.to(wide), got.to(wide)
    if one.is_floating_point() and not torch.equal(one.isnan(), other.isnan()):
        return "there is NaN where there should be none" if other.isnan().any() else "there should be NaN"
    same = (
        torch.isclose(other, one, rtol=rtol, atol=atol, equal_nan=True)
        if rtol or atol
        else _equal(one, other)
    )
    if same.all():
        return None
    wrong = int((~same).sum())
    return f"{wrong} of {same.numel()} numbers differ" if same.numel() > 1 else "the number differs"


def _equal(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one == other) | one.isnan() & other.isnan()


def _numbers(expected: float, got: Any, look: Look) -> str | None:
    if type(got) not in NUMBER:
        return f"expected a number, got {kind(got)}"
    if isinstance(expected, int) and isinstance(got, int):
        return None if got == expected else "the number differs"
    rtol, atol = look.rtol, look.atol
    rtol = 1e-9 if rtol is None else rtol
    try:
        same = math.isclose(got, expected, rel_tol=rtol, abs_tol=atol or 0.0)
        same = same or (math.isnan(got) and math.isnan(expected))
    except OverflowError:  # an int that no float holds
        same = False
    return None if same else "the number differs"


def _lists(expected: Any, got: Any, look: Look) -> str | None:
    if not isinstance(got, (list, tuple)):
        return f"expected {kind(expected)}, got {kind(got)}"
    if len(got) != len(expected):
        return f"expected {len(expected)} items, got {len(got)}"
    for place, (one, other) in enumerate(zip(expected, got, strict=True)):
        found = difference(one, other, look)
        if found:
            return f"item {place}: {found}"
    return None


def _dicts(expected: dict[Any, Any], got: Any, look: Look) -> str | None:
    if not isinstance(got, dict):
        return f"expected a dict, got {kind(got)}"
    if got.keys() != expected.keys():
        return "the keys differ"
    for key, one in expected.items():
        found = difference(one, got[key], look)
        if found:
            return f"{key!r}: {found}"
    return None


def _other_value(expected: Any, got: Any) -> str:
    if type(got) is type(expected):
        return "the value differs"
    return f"expected {kind(expected)}, got {kind(got)}"


def _tolerances(dtype: torch.dtype, look: Look) -> tuple[float, float]:
    rtol, atol = tolerance(dtype)
    return (rtol if look.rtol is None else look.rtol), (atol if look.atol is None else look.atol)


def kind(value: Any) -> str:
    """What a value is, in words, without saying which."""
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Other):
        return f"an object of {value.type_name}"
    names = {bool: "a bool", int: "an int", float: "a float", str: "a string", list: "a list",
             tuple: "a tuple", dict: "a dict", set: "a set"}  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")
