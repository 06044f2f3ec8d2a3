"""Which program multiplies which matrix: the one place where that is decided.

A decode step of one sequence multiplies every matrix with a single row, so what it waits for are the
matrix's bytes. A library's product is written for many rows and can leave half of the bandwidth unused.
Each kernel here gives the same product; :func:`choose` says which one runs, and never does so silently:
``model.kernels()`` prints it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor

# scheme: what the weights are; kernel: what multiplies them.
LIBRARY, ROW_SUM = "library product", "compiled row sum"


def choose(*, rows: int, device: str, compiled: bool) -> str:
    """The kernel for a matrix of floating-point or int8 weights and ``rows`` rows of activations.

    compiled   whether ``torch.compile`` is at work, see :func:`teachkit.fast.fast`; without it the row sum
               would write W * x to memory
    Why        on CUDA the compiler itself turns a product with one row into such a sum
    """
    return ROW_SUM if rows == 1 and compiled and device == "cpu" else LIBRARY


def product(
    x: Float[Tensor, "*any C"],
    weight: Float[Tensor, "N C"] | Int8[Tensor, "N C"],
    scale: Float[Tensor, N] | None = None,
    bias: Float[Tensor, N] | None = None,
) -> Float[Tensor, "*any N"]:
    """x W^T * scale + bias, by the kernel that :func:`choose` names. Cost: 2*rows*N*C FLOPs, N*C weights read."""
    rows = x.shape[:-1].numel()
    kernel = choose(rows=rows, device=x.device.type, compiled=torch.compiler.is_compiling())
    return (row_sum if kernel == ROW_SUM else library)(x, weight, scale, bias)


def library(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """PyTorch's own product; weights that are not in x's dtype are widened first, to as many bytes as x has."""
    if scale is None:
        return F.linear(x, weight.to(x.dtype), bias)
    out = F.linear(x, weight.to(x.dtype)) * scale.to(x.dtype)
    return out if bias is None else out + bias


def row_sum(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """One row: for every row of W the sum of W * x, in at least fp32.

    Written for ``torch.compile``, which makes one loop of it that reads W once and writes N numbers.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    row = x.reshape(-1).to(wide)
    # A no-op for the values. It has the compiler keep the row in memory: it would compute it anew, with the
    # norm or the activation function that made it, for every row of W.
    row = row.as_strided(row.shape, (1,))
    out = (weight.to(wide) * row).sum(-1)
    if scale is not None:
        out = out * scale
    out = out.to(x.dtype).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias
