"""A decoder whose decode steps are compiled: the same code, turned into one loop or a few per block."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

from teachkit.cache import ContiguousCache
from teachkit.model import Block, Decoder


def fast(model: Decoder) -> Decoder:
    """A decoder over the same weights whose blocks and head are compiled for steps of one token of one row.

    Steps of more tokens or rows, such as prefill, run as before. Compiling takes some seconds, here and not
    in the first step; PyTorch keeps the result on disk.

    Raises  RuntimeError: no C++ compiler (PyTorch's own message says so)
    Why     a step is some 30 operations a block, most of them on a few thousand numbers: starting them costs
            more than doing them. Compiled, a block is one call, and a product with one row reads its matrix
            as fast as memory allows (:mod:`teachkit.kernels`).
    """
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    # Parameters of its own over the same memory: moved to another dtype, one must not take the other along.
    shared |= {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    shared[id(model.tokenizer)] = model.tokenizer
    quick = copy.deepcopy(model, shared)
    quick.compiled = True
    step = _compiled(Block.forward)
    for block in quick.blocks:
        block.forward = _when_one_row(types.MethodType(step, block), block.forward)
    head = types.MethodType(_compiled(Decoder.project), quick)
    quick.project = _when_one_row(head, quick.project)  # type: ignore[method-assign]
    _warm_up(quick)
    return quick


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function compiled, as a copy of its own: all blocks share one result, two models share none.

    Why  PyTorch keeps what it compiled with the code object, tries every kept variant in turn, and after
         eight of them runs the function uncompiled
    """
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, function.__name__)
    return torch.compile(own, dynamic=True, options={"guard_filter_fn": _of_arguments})


def _of_arguments(guards: Sequence[Any]) -> list[bool]:
    """Which guards to keep: those of what a call is given, not those of the model.

    Why  before every call a guard asks whether something is as it was. The model that fast() returns is its
         own and stays as it is; asking for each of its modules takes longer than a block's attention
    """
    return [not (guard.is_global or guard.name.startswith("L['self']")) for guard in guards]


def _when_one_row(compiled: Callable[..., Tensor], plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, *rest: object) -> Tensor:
        return (compiled if x.shape[:-1].numel() == 1 else plain)(x, *rest)

    return call


def _warm_up(model: Decoder) -> None:
    """Steps at several lengths of two caches: what differs between them is compiled as variable."""
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for capacity in (6, 5):
            # Made outside, as generate() makes it: a tensor made in inference mode is of another kind.
            cache = ContiguousCache(model.config, 1, capacity, dtype=model.dtype, device=model.device)
            with torch.inference_mode():
                for _ in range(4):
                    model(token, cache=cache)
