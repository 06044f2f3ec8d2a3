"""A decoder whose decode steps are compiled: the same code, turned into a few loops per block."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from teachkit.cache import ContiguousCache
from teachkit.model import Decoder


def fast(model: Decoder) -> Decoder:
    """A decoder over the same weights whose blocks and head are compiled for steps of one token of one row.

    Steps of more tokens or rows, such as prefill, run as before. Compiling takes some seconds, here and not
    in the first step; PyTorch keeps the result on disk.

    Raises  RuntimeError: no C++ compiler (PyTorch's own message says so)
    Why     a step is some 30 operations a block, most of them on a few thousand numbers: starting them costs
            more than doing them. Compiled, a block is one call, and a product with one row reads its matrix
            as fast as memory allows (:mod:`teachkit.kernels`).
    """
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    shared[id(model.tokenizer)] = model.tokenizer
    quick = copy.deepcopy(model, shared)
    for block in quick.blocks:
        block.forward = _when_one_row(block.forward)
    quick.project = _when_one_row(quick.project)  # type: ignore[method-assign]
    _warm_up(quick)
    return quick


def _when_one_row(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    compiled = torch.compile(method)

    def call(x: Tensor, *rest: object) -> Tensor:
        return (compiled if x.shape[:-1].numel() == 1 else method)(x, *rest)

    return call


@torch.inference_mode()
def _warm_up(model: Decoder) -> None:
    """Steps at two lengths of two caches: what differs between them is compiled as variable."""
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    for capacity in (6, 5):
        cache = ContiguousCache(model.config, 1, capacity, dtype=model.dtype, device=model.device)
        for _ in range(4):
            model(token, cache=cache)
