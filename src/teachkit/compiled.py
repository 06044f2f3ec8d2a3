"""A decoder whose decode steps are compiled: the same code, turned into a few loops per block."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from teachkit.cache import ContiguousCache, ContiguousStep, LayerView, Step
from teachkit.dot_linear import DotLinear, can_dot
from teachkit.linear import Int8Embedding, QuantizedLinear
from teachkit.model import Decoder, Rope
from teachkit.schemes import install

LONGEST_RUN = 6  # blocks in a compiled function


def fast(model: Decoder) -> Decoder:
    """A decoder over the same weights that is compiled for steps of one token of one row.

    Steps of more tokens or rows, such as prefill, are not compiled. Quantized matrices on the CPU are copied
    into the order of the project's own kernel (:mod:`teachkit.native`), which all steps then use. It takes
    a minute or less to compile, here and not in the first step; kept on disk, seconds the next time.

    On CUDA PyTorch's own kernels multiply int4 and int8 weights. Nothing of that has been measured: there was
    no GPU. CUDA graphs are not used: the length of the cache is a size that changes with every step.

    Raises  RuntimeError: no C++ compiler, no folder for what it makes, or a PyTorch too old for the options
            used; the message says which
    Why     a step is some 30 operations a block, most of them on a few thousand numbers: starting them costs
            more than doing them. Compiled, some blocks together are one call, and a product with one row
            reads its matrix as fast as memory allows (:mod:`teachkit.kernels`).
    """
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    # Parameters of its own over the same memory: moved to another dtype, one must not take the other along.
    # They ask for no gradients, which compiled steps would leave out without a word.
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    shared[id(model.tokenizer)] = model.tokenizer
    quick = copy.deepcopy(model, shared)
    quick.compiled = True
    _use_own_kernel(quick)
    quick.readout = _one_token(  # type: ignore[method-assign]
        types.MethodType(_compiled(Decoder.readout), quick), quick.readout
    )
    quick.run_blocks = _one_token(_in_runs(quick.blocks), quick.run_blocks)  # type: ignore[method-assign]
    _warm_up(quick)
    return quick


class Run(nn.Module):
    """A few neighbouring blocks, compiled as one function."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, rope: Rope | None, views: Sequence[LayerView]) -> Tensor:
        """As :meth:`teachkit.model.Decoder.run_blocks`, with the views of these blocks."""
        for block, view in zip(self.blocks, views, strict=True):
            x = block(x, rope, view)
        return x


def _in_runs(blocks: nn.ModuleList) -> Callable[..., Tensor]:
    """All blocks, in runs of the same length: what is compiled for one serves all.

    Why  with the project's own kernel a block is some ten calls, and to enter compiled code costs as much as
         a few of them: so a run is several blocks long, and the calls in it are made in C++. Without that
         kernel a block is one loop after another in a single call, and longer runs only compile for longer.
    """
    longest = LONGEST_RUN if any(isinstance(part, DotLinear) for part in blocks.modules()) else 1
    size = max(n for n in range(1, longest + 1) if len(blocks) % n == 0)
    starts = range(0, len(blocks), size)
    forward = _compiled(Run.forward, cpp_wrapper=size > 1)
    runs = [types.MethodType(forward, Run(list(blocks)[start : start + size])) for start in starts]

    def call(x: Tensor, rope: Rope | None, step: Step) -> Tensor:
        for run, start in zip(runs, starts, strict=True):
            x = run(x, rope, [step.layer(index) for index in range(start, start + size)])
        return x

    return call


def _use_own_kernel(quick: Decoder) -> None:
    """Quantized matrices in the order of the project's own kernel, on the CPU; see :mod:`teachkit.native`."""
    layers = {n: p for n, p in quick.named_modules() if isinstance(p, QuantizedLinear) and can_dot(p)}
    dots = {name: DotLinear(layer) for name, layer in layers.items()}
    install(quick, dots)
    if "head" in dots and isinstance(quick.embedding, Int8Embedding):
        # Or the plain codes would be held, too.
        quick.embedding = Int8Embedding(dots["head"], quick.dtype)  # type: ignore[assignment]


def _compiled(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """The function compiled, as a copy of its own: all runs share one result, two models share none.

    Why  PyTorch keeps what it compiled with the code object, tries every kept variant in turn, and after
         eight of them runs the function uncompiled
    """
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, function.__name__)
    return torch.compile(own, dynamic=True, options={**OPTIONS, **options})


def _of_arguments(guards: Sequence[Any]) -> list[bool]:
    """Which guards to keep: those of what a call is given, not those of the model.

    Why  before every call a guard asks whether something is as it was. The model that fast() returns is its
         own and stays as it is; asking for each of its modules takes longer than a block's attention
    """
    return [not (guard.is_global or guard.name.startswith("L['self']")) for guard in guards]


# No checks of sizes that the compiler itself has set.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "guard_filter_fn": _of_arguments,
    "size_asserts": False,
}


def _one_token(compiled: Callable[..., Tensor], plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``compiled`` for an x (B, T, C) of one token of one row, ``plain`` for all else.

    Also for the first token of all and for steps of other caches: of these the compiler would make programs
    of their own.
    """

    def call(x: Tensor, *rest: Any) -> Tensor:
        return (compiled if x.shape[:-1].numel() == 1 and all(map(_known, rest[-1:])) else plain)(x, *rest)

    return call


def _known(step: Step) -> bool:
    """Whether a step is of the kind that was compiled."""
    return isinstance(step, ContiguousStep) and int(step.positions.max()) > 0


def _warm_up(model: Decoder) -> None:
    """Steps at two lengths in two caches: what differs between them must have been compiled as variable."""
    # Here, since to import the compiler takes as long as all of PyTorch, and few programs compile.
    from torch._dynamo import config as compiler

    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    config = model.config
    # The compiler takes sizes that are equal in the first call for the same size.
    others = {config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim, config.d_model}
    apart = [n for n in range(5, min(config.context, 20) + 1) if n not in others]
    with compiler.patch(fail_on_recompile_limit_hit=True):
        for capacity in apart[-2:]:
            # Made outside, as generate() makes it: a tensor made in inference mode is of another kind.
            cache = ContiguousCache(config, 1, capacity, dtype=model.dtype, device=model.device)
            with torch.inference_mode():
                for _ in range(4):
                    model(token, cache=cache)
