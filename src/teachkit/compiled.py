"""A decoder whose decode steps are compiled: the same code, turned into a few loops per block."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

from teachkit import native
from teachkit.cache import ContiguousCache, LayerView
from teachkit.dot_linear import DotLinear, can_dot
from teachkit.linear import QuantizedLinear
from teachkit.model import Decoder, Rope
from teachkit.schemes import install

LONGEST_RUN = 6  # blocks


def fast(model: Decoder) -> Decoder:
    """A decoder over the same weights that is compiled for steps of one token of one row.

    Steps of more tokens or rows, such as prefill, are not compiled. Quantized matrices on the CPU are copied
    into the order of the project's own kernel (:mod:`teachkit.native`), which all steps then use. It takes
    a minute or less to compile, here and not in the first step; kept on disk, seconds the next time.

    Raises  RuntimeError: no C++ compiler, or a PyTorch too old for the options used; the message says which
    Why     a step is some 30 operations a block, most of them on a few thousand numbers: starting them costs
            more than doing them. Compiled, some blocks together are one call, and a product with one row
            reads its matrix as fast as memory allows (:mod:`teachkit.kernels`).
    """
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    # Parameters of its own over the same memory: moved to another dtype, one must not take the other along.
    shared |= {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    shared[id(model.tokenizer)] = model.tokenizer
    quick = copy.deepcopy(model, shared)
    quick.compiled = True
    _use_own_kernel(quick)
    for name in ("embed", "readout"):
        method = getattr(Decoder, name)
        setattr(quick, name, _one_token(types.MethodType(_compiled(method), quick), getattr(quick, name)))
    quick.run_blocks = _one_token(_in_runs(quick.blocks), quick.run_blocks)  # type: ignore[method-assign]
    _warm_up(quick)
    return quick


class Run(nn.Module):
    """A few neighbouring blocks, compiled as one function."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, rope: Rope | None, views: Sequence[LayerView]) -> Tensor:
        """As :meth:`teachkit.model.Decoder.run_blocks`."""
        for block, view in zip(self.blocks, views, strict=True):
            x = block(x, rope, view)
        return x


def _in_runs(blocks: nn.ModuleList) -> Callable[..., Tensor]:
    """All blocks, in runs of the same length: what is compiled for one run serves all.

    Why  calling compiled code takes as long as a third of a block; compiling takes as long as the run
    """
    size = max(n for n in range(1, LONGEST_RUN + 1) if len(blocks) % n == 0)
    starts = range(0, len(blocks), size)
    forward = _compiled(Run.forward)
    runs = [types.MethodType(forward, Run(list(blocks)[start : start + size])) for start in starts]

    def call(x: Tensor, rope: Rope | None, views: Sequence[LayerView]) -> Tensor:
        for run, start in zip(runs, starts, strict=True):
            x = run(x, rope, views[start : start + size])
        return x

    return call


def _use_own_kernel(quick: Decoder) -> None:
    """Quantized matrices in the order of the project's own kernel, on the CPU; see :mod:`teachkit.native`."""
    layers = {n: p for n, p in quick.named_modules() if isinstance(p, QuantizedLinear) and can_dot(p)}
    if layers:
        native.load()
        install(quick, {name: DotLinear(layer) for name, layer in layers.items()})


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled, as a copy of its own: all runs share one result, two models share none.

    Why  PyTorch keeps what it compiled with the code object, tries every kept variant in turn, and after
         eight of them runs the function uncompiled
    """
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, function.__name__)
    return torch.compile(own, dynamic=True, options=OPTIONS)


def _of_arguments(guards: Sequence[Any]) -> list[bool]:
    """Which guards to keep: those of what a call is given, not those of the model.

    Why  before every call a guard asks whether something is as it was. The model that fast() returns is its
         own and stays as it is; asking for each of its modules takes longer than a block's attention
    """
    return [not (guard.is_global or guard.name.startswith("L['self']")) for guard in guards]


# Calls between the compiled loops are C++, too, and repeat no checks of what the compiler itself made.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "guard_filter_fn": _of_arguments,
    "cpp_wrapper": True,
    "size_asserts": False,
}


def _one_token(compiled: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """``compiled`` for one token of one row, ``plain`` for all else: tokens (B, T), or x (B, T, C)."""

    def call(x: Tensor, *rest: object) -> Any:
        return (compiled if x.shape[0] * x.shape[1] == 1 else plain)(x, *rest)

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
