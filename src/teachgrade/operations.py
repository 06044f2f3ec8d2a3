"""What is asked of a solution, as a list of operations on plain data; and who carries it out.

The list is made once, by a scenario that knows only names. It is played on the reference and on wrong
solutions here, and on a submission inside its sandbox: all see the same inputs, and nobody sees what the
others gave. This module and :mod:`teachgrade.values` are all of teachgrade that lies in the sandbox.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from teachgrade.values import Raised, Ref

Op = dict[str, Any]
# {"do": "value", "value": x}                       a value with a name, which calls may change
# {"do": "call", "name": f, "args": [], "kwargs": {}}
# {"do": "method", "of": Ref, "name": m, "args": [], "kwargs": {}}
# {"do": "get", "of": Ref, "name": attribute}
# {"do": "see", "of": Ref, "label": text}           to be compared
CHANGED = "changed"


class Missing(NameError):
    """The submission does not define what was asked for."""


def play(ops: Sequence[Op], names: Mapping[str, Any], files: Sequence[str] = ()) -> list[Any]:
    """What was seen, one value for each "see": a snapshot, or the exception that stood in its way.

    names  what the solution defines
    files  under which its code was compiled: an exception's line is looked for in these
    """
    given: list[Any] = []
    seen = []
    for op in ops:
        found: Any
        try:
            found = _do(op, names, given)
            if op["do"] == "see":
                found = snapshot(found)
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too, are the solution's
            found = _plain(error, files)
        if op["do"] == "see":
            seen.append(found)
        given.append(found)
    return seen


def _do(op: Op, names: Mapping[str, Any], given: list[Any]) -> Any:
    what = op["do"]
    if what == "value":
        return snapshot(op["value"])
    if what == "see":
        return given[op["of"].op]
    if what == "call":
        if op["name"] not in names:
            raise Missing(f"{op['name']} is not defined")
        target = names[op["name"]]
    else:
        owner = given[op["of"].op]
        if isinstance(owner, Raised):
            return owner
        target = getattr(owner, op["name"])
    if what == "get":
        return target
    inputs = [op["args"], op["kwargs"]]
    before = _fill(inputs, given)
    failed = _first_raised(before)
    if failed is not None:
        return failed
    kept = snapshot(before)
    found = target(*before[0], **before[1])
    changed = _changed(inputs, before, kept)
    return Raised((CHANGED,), changed) if changed else found


def _fill(value: Any, given: list[Any]) -> Any:
    """The value with what earlier operations gave in place of references; other parts are copies."""
    if isinstance(value, Ref):
        return given[value.op]
    if isinstance(value, (list, tuple)):
        return type(value)(_fill(item, given) for item in value)
    if isinstance(value, dict):
        return {key: _fill(item, given) for key, item in value.items()}
    return snapshot(value)


def _first_raised(value: Any) -> Raised | None:
    if isinstance(value, Raised):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((found for found in map(_first_raised, parts) if found is not None), None)


def _changed(inputs: Any, after: Any, before: Any) -> str:
    """Which tensor or list that the scenario did not name as changeable is not what it was."""
    if isinstance(inputs, Ref):
        return ""
    if isinstance(inputs, torch.Tensor):
        same = after.shape == before.shape and torch.equal(_bits(after), _bits(before))
        return "" if same else f"a tensor of shape {tuple(before.shape)}"
    if isinstance(inputs, (list, tuple)):
        if len(after) != len(before):
            return "a list"
        return next(filter(None, map(_changed, inputs, after, before)), "")
    if isinstance(inputs, dict):
        if after.keys() != before.keys():
            return "a dict"
        return next(filter(None, (_changed(inputs[k], after[k], before[k]) for k in inputs)), "")
    return ""


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def snapshot(value: Any) -> Any:
    """A copy of tensors and containers as they are now; other objects as they are."""
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return value.detach().clone()
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(snapshot(item) for item in value)
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    return value


def _plain(error: BaseException, files: Sequence[str]) -> Raised:
    types = tuple(kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException))
    try:
        message = str(error)
    except BaseException:
        message = ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    line = f"{frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line or ''}" if frames else ""
    return Raised(types, message, line)
