"""Linear layers with weights in few bits, each over a weight of :mod:`teachkit.quant`."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from teachkit import kernels
from teachkit.quant import Int4Weight, Int8Weight, pack_nibbles, unpack_nibbles, w8a8_matmul


class QuantizedLinear(nn.Module):
    """x W^T + b. What the three kinds share: their shape, their bytes, and what multiplies them.

    scheme  "int8", "w8a8" or "int4"
    """

    scheme: str

    def __init__(self, shape: tuple[int, int], bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.register_buffer("bias", None if bias is None else bias.detach())

    @property
    def weight(self) -> Int8Weight | Int4Weight:
        """As stored; ``.dequantize()`` gives the matrix that it stands for."""
        raise NotImplementedError

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        """Its name: see :mod:`teachkit.kernels`."""
        return kernels.choose(rows=rows, device=device, compiled=compiled)


class Int8Linear(QuantizedLinear):
    """A code per weight and a scale per output, which is applied after the sum."""

    scheme = "int8"

    def __init__(self, weight: Int8Weight, bias: Tensor | None = None) -> None:
        super().__init__(tuple(weight.q.shape), bias)
        self.register_buffer("q", weight.q)
        self.register_buffer("scale", weight.scale)

    @property
    def weight(self) -> Int8Weight:
        return Int8Weight(self.q, self.scale)

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        return kernels.product(x, self.q, self.scale, self.bias)


class W8A8Linear(Int8Linear):
    """Activations in int8, too, with a scale per token found as they come: integer sums."""

    scheme = "w8a8"

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        return kernels.INTEGER

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        out = w8a8_matmul(x, self.weight)
        return out if self.bias is None else out + self.bias


class Int4Linear(QuantizedLinear):
    """Two codes to a byte, a scale and a zero per group.

    Held in the order in which the kernel reads it, where there is one for the shape: the bytes that are held
    are those that are read and those that are counted.
    """

    scheme = "int4"

    def __init__(self, weight: Int4Weight, bias: Tensor | None = None) -> None:
        super().__init__((len(weight.packed), weight.columns), bias)
        self.group_size = weight.group_size
        device = weight.packed.device.type
        self.fused = kernels.has_int4(self.out_features, self.in_features, self.group_size, device)
        if self.fused:
            nibbles = unpack_nibbles(weight.packed, weight.columns)
            self.register_buffer("packed", kernels.pack_int4(nibbles))
            self.register_buffer("scales", torch.stack((weight.scale.T, weight.zero.T), -1).contiguous())
        else:
            self.register_buffer("packed", weight.packed)
            self.register_buffer("scales", torch.stack((weight.scale, weight.zero), -1))

    @property
    def weight(self) -> Int4Weight:
        if not self.fused:
            scale, zero = self.scales.unbind(-1)
            return Int4Weight(self.packed, scale, zero, self.in_features, self.group_size)
        scale, zero = (t.T.contiguous() for t in self.scales.unbind(-1))
        nibbles = kernels.unpack_int4(self.packed, self.in_features, self.group_size)
        return Int4Weight(pack_nibbles(nibbles), scale, zero, self.in_features, self.group_size)

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        return kernels.INT4 if self.fused else kernels.DEQUANTIZE

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        if self.fused:
            return kernels.int4_product(x, self.packed, self.scales, self.group_size, self.bias)
        return nn.functional.linear(x, self.weight.dequantize(x.dtype), self.bias)


class Int8Embedding(nn.Module):
    """Vectors of tokens from the codes of an :class:`Int8Linear`: tied weights, stored once."""

    def __init__(self, head: Int8Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("q", head.q, persistent=False)
        self.register_buffer("scale", head.scale, persistent=False)
        self.dtype = dtype

    def forward(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any C"]:
        scale = self.scale.expand(len(self.q))[tokens]
        return (self.q[tokens].float() * scale[..., None]).to(self.dtype)
