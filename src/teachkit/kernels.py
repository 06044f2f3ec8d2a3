"""Which program multiplies which matrix: the one place where that is decided.

A decode step of one sequence multiplies every matrix with a single row, so what it waits for are the
matrix's bytes. A library's product is written for many rows and can leave half of the bandwidth unused.
Each kernel here gives the same product; :func:`choose` says which one runs, and never does so silently:
``model.kernels()`` prints it. Within the library's product :func:`in_order` decides which factor comes first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Float, Int8, UInt8
from torch import Tensor

# scheme: what the weights are; kernel: what multiplies them.
LIBRARY, ROW_SUM = "library product", "compiled row sum"
# A running sum waits some four cycles for each addition: four neighbouring vectors are added first. Of
# narrower weights, which are widened on the way, the compiler makes no vectors in this form.
CHAINS, LANES = 4, 16
FEW_ROWS = 256  # of activations: up to so many the weights come first
INTEGER, INT4, DEQUANTIZE = "integer sums", "PyTorch's int4 product", "dequantized, library product"
DOT = "teachkit's integer dot product"  # cpp/dot.cpp, through teachkit.native


def choose(*, rows: int, device: str, compiled: bool) -> str:
    """The kernel for a matrix of floating-point or int8 weights and ``rows`` rows of activations.

    compiled   whether ``torch.compile`` is at work (:func:`teachkit.compiled.fast`); without it the row sum
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
    """x W^T * scale + bias, by the kernel that :func:`choose` names. Cost: 2*rows*N*C FLOPs."""
    rows = x.shape[:-1].numel()
    kernel = choose(rows=rows, device=x.device.type, compiled=torch.compiler.is_compiling())
    return (row_sum if kernel == ROW_SUM else library)(x, weight, scale, bias)


def scores(
    q: Float[Tensor, "B N R D"], k: Float[Tensor, "B N S D"], *, rows: int
) -> Float[Tensor, "B N R S"]:
    """q k^T. ``rows``: tokens that ask; R are those times the query heads that share a key/value head."""
    if choose(rows=rows, device=q.device.type, compiled=torch.compiler.is_compiling()) == LIBRARY:
        return q @ k.transpose(2, 3)
    wide = torch.promote_types(q.dtype, torch.float32)
    return (q[:, :, :, None].to(wide) * k[:, :, None].to(wide)).sum(-1)


def mix(
    probs: Float[Tensor, "B N R S"], v: Float[Tensor, "B N S D"], *, rows: int
) -> Float[Tensor, "B N R D"]:
    """probs v, the mean of the values as weighed. ``rows`` as above."""
    if choose(rows=rows, device=v.device.type, compiled=torch.compiler.is_compiling()) == LIBRARY:
        return probs.to(v.dtype) @ v
    wide = torch.promote_types(v.dtype, torch.float32)
    return (probs[..., None].to(wide) * v[:, :, None].to(wide)).sum(3).to(v.dtype)


def library(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """PyTorch's own product; weights in another dtype than x are widened to it first, all of them."""
    out = in_order(x, weight.to(x.dtype))
    if scale is not None:
        out = (out * scale).to(x.dtype)
    return out if bias is None else out + bias


def in_order(x: Float[Tensor, "*any C"], weight: Float[Tensor, "N C"]) -> Float[Tensor, "*any N"]:
    """x W^T, or for a few rows (W x^T)^T: the same sums; the result then lies in memory by columns.

    Why  the library splits the work along the first factor. With a few rows there is little to split in x
         and much in W; it prepares the second factor, too, which is then the small one. In float32 on a CPU
         alone; measured with MKL only, by ``benchmarks/serve.py --products``
    """
    rows = x.shape[:-1].numel()
    if not 1 < rows <= FEW_ROWS or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight)
    return (weight @ x.reshape(rows, -1).T).T.unflatten(0, x.shape[:-1])


def row_sum(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """One row: for every row of W the sum of W * x, in at least fp32.

    Written for ``torch.compile``, which makes one loop of it that reads W once and writes N numbers.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    row = x.reshape(-1).to(wide)
    # A no-op for the values. It has the compiler keep the row in memory: it would compute it anew, with the
    # norm or the activation function that made it, for every row of W.
    row = row.as_strided(row.shape, (1,))
    products = weight.to(wide) * row
    if weight.dtype == torch.float32 and len(row) % (CHAINS * LANES) == 0:
        products = products.unflatten(-1, (-1, CHAINS, LANES)).sum(-2).flatten(-2)
    out = products.sum(-1)
    if scale is not None:
        out = out * scale
    out = out.to(x.dtype).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def has_int4(n_out: int, n_in: int, group_size: int, device: str) -> bool:
    """Whether PyTorch has an int4 product for a matrix of this shape on this device."""
    if device == "cuda":
        return n_out % 8 == 0 and n_in % 128 == 0
    known = device == "cpu" and hasattr(torch, "_weight_int4pack_mm_for_cpu")
    return known and n_out % 16 == 0 and n_in % group_size == 0


def pack_int4(nibbles: UInt8[Tensor, "N K"]) -> Tensor:
    """The nibbles in the order in which PyTorch's int4 product reads them; devices differ in it."""
    if nibbles.device.type == "cuda":
        return torch._convert_weight_to_int4pack(nibbles[:, ::2] << 4 | nibbles[:, 1::2], 8)
    return torch._convert_weight_to_int4pack_for_cpu(nibbles.to(torch.int32), 1)


def unpack_int4(packed: Tensor, columns: int, group_size: int) -> UInt8[Tensor, "N K"]:
    """The nibbles again. PyTorch does not undo its packing; a product with the unit matrix does."""
    n_out = packed.shape[0] * (8 if packed.device.type == "cuda" else 1)
    one = torch.tensor([1.0, 0.0], dtype=torch.bfloat16, device=packed.device)
    scales = one.repeat(columns // group_size, n_out, 1)
    diagonal = torch.eye(columns, dtype=torch.bfloat16, device=packed.device)
    return (int4_product(diagonal, packed, scales, group_size, None).T + 8).to(torch.uint8)


def int4_product(
    x: Float[Tensor, "*any K"],
    packed: Tensor,
    scales: BFloat16[Tensor, "groups N 2"],
    group_size: int,
    bias: Float[Tensor, N] | None,
) -> Float[Tensor, "*any N"]:
    """x W^T + b by PyTorch's int4 product. It takes bfloat16 activations: others are rounded to it."""
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    if x.device.type == "cuda":
        out = torch._weight_int4pack_mm(rows, packed, group_size, scales)
    else:
        out = torch._weight_int4pack_mm_for_cpu(rows, packed, group_size, scales)
    out = out.to(x.dtype).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias
