"""Linear layers with weights in few bits, each over a weight of :mod:`teachkit.quant`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from teachkit import kernels
from teachkit.quant import Int4Weight, Int8Weight, pack_nibbles, unpack_nibbles, w8a8_matmul


class QuantizedLinear(nn.Module):
    """x W^T + b. What the three kinds share: their shape, and that their weights stay as they are.

    scheme  "int8", "w8a8" or "int4"
    """

    scheme: str
    bias: Tensor | None

    def __init__(self, n_out: int, n_in: int, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = n_out, n_in
        self.register_buffer("bias", None if bias is None else bias.detach())

    @property
    def weight(self) -> Int8Weight | Int4Weight:
        """As stored; ``.dequantize()`` gives the matrix that it stands for."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes held of the matrix: codes, scales, zeros; no bias."""
        return sum(held.nbytes for name, held in self.named_buffers() if name != "bias")

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        """Its name: see :mod:`teachkit.kernels`."""
        return kernels.choose(rows=rows, device=device, compiled=compiled)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """What ``model.to()`` calls. Codes and scales move; only the bias takes another dtype.

        Why  a dtype is that of the activations; a scale rounded to it would be another matrix
        """
        for name, held in self._buffers.items():
            if held is not None:
                moved = fn(held)
                keep = name == "bias" or moved.dtype == held.dtype
                self._buffers[name] = moved if keep else held.to(moved.device)
        return self


class Int8Linear(QuantizedLinear):
    """A code per weight and a scale per output, which is applied after the sum."""

    scheme = "int8"
    q: Tensor
    scale: Tensor

    def __init__(self, weight: Int8Weight, bias: Tensor | None = None) -> None:
        n_out, n_in = weight.q.shape
        super().__init__(n_out, n_in, bias)
        self.register_buffer("q", weight.q)
        self.register_buffer("scale", weight.scale)

    @property
    def weight(self) -> Int8Weight:
        """The codes and scales that are held."""
        return Int8Weight(self.q, self.scale)

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        return kernels.product(x, self.q, self.scale, self.bias)

    def lookup(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any K"]:
        """Rows of the matrix in fp32: as an embedding that is tied to it, the vectors of tokens."""
        return self.q[tokens].float() * self.scale.expand(self.out_features)[tokens][..., None]


class W8A8Linear(Int8Linear):
    """Activations in int8, too, with a scale per token found as they come: integer sums."""

    scheme = "w8a8"

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        """The same for all: integers have no other product here."""
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
    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Int4Weight, bias: Tensor | None = None) -> None:
        super().__init__(len(weight.packed), weight.columns, bias)
        self.group_size = weight.group_size
        self._hold(weight)

    def _hold(self, weight: Int4Weight) -> None:
        device = weight.packed.device.type
        self.fused = kernels.has_int4(self.out_features, self.in_features, self.group_size, device)
        if self.fused:
            packed = kernels.pack_int4(unpack_nibbles(weight.packed, weight.columns))
            scales = torch.stack((weight.scale.T, weight.zero.T), -1)
        else:
            packed, scales = weight.packed, torch.stack((weight.scale, weight.zero), -1)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> Int4Weight:
        """In the plain order; cost of undoing that of a kernel: 2*K*K*N FLOPs."""
        packed, scales = self.packed, self.scales
        if self.fused:
            packed = pack_nibbles(kernels.unpack_int4(packed, self.in_features, self.group_size))
            scales = scales.transpose(0, 1)
        scale, zero = (t.contiguous() for t in scales.unbind(-1))
        return Int4Weight(packed, scale, zero, self.in_features, self.group_size)

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        """Decided when the weights were packed, by their shape and device."""
        return kernels.INT4 if self.fused else kernels.DEQUANTIZE

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        if self.fused:
            return kernels.int4_product(x, self.packed, self.scales, self.group_size, self.bias)
        return nn.functional.linear(x, self.weight.dequantize(x.dtype), self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        if fn(self.packed.new_empty(0)).device.type == self.packed.device.type:
            return super()._apply(fn, recurse)
        # Another kind of device reads another order: back to the plain one, across, and packed anew.
        weight, self.fused = self.weight, False
        self.packed, self.scales = weight.packed, torch.stack((weight.scale, weight.zero), -1)
        super()._apply(fn, recurse)
        self._hold(self.weight)
        return self


@runtime_checkable
class CanLookUp(Protocol):
    """A layer that gives rows of its matrix."""

    def lookup(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any K"]:
        """Vectors of tokens, in fp32."""


class Int8Embedding(nn.Module):
    """Vectors of tokens from the codes of a head in int8: tied weights, stored once."""

    def __init__(self, head: CanLookUp, dtype: torch.dtype) -> None:
        super().__init__()
        self._tied = (head,)  # in a tuple: the head is a part of the decoder, not of this
        self.dtype = dtype

    def forward(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any C"]:
        (head,) = self._tied
        return head.lookup(tokens).to(self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Int8Embedding:
        """``model.to()`` moves the codes where they are held; here it may change the dtype of the vectors."""
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self


@dataclass(frozen=True)
class KernelUse:
    """One line of ``model.kernels()``: a matrix, how it is held, and what multiplies it.

    name, shape      of the layer; outputs, then inputs
    scheme           "int8", "w8a8" or "int4"; of a matrix in floating point its dtype, as "bfloat16"
    bits_per_weight  as held: scales and zeros are included, a bias is not
    kernel           see :mod:`teachkit.kernels`
    """

    name: str
    shape: tuple[int, int]
    scheme: str
    bits_per_weight: float
    kernel: str

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix, all of which a decode step reads."""
        return round(self.bits_per_weight * self.shape[0] * self.shape[1] / 8)


def use_of(
    name: str, layer: Tensor | QuantizedLinear, *, rows: int, device: str, compiled: bool
) -> KernelUse:
    """What happens to a quantized layer, or to a matrix of floating-point weights."""
    if isinstance(layer, QuantizedLinear):
        shape, scheme = (layer.out_features, layer.in_features), layer.scheme
        kernel = layer.kernel(rows=rows, device=device, compiled=compiled)
    else:
        shape, scheme = (layer.shape[0], layer.shape[1]), str(layer.dtype).removeprefix("torch.")
        kernel = kernels.choose(rows=rows, device=device, compiled=compiled)
    return KernelUse(name, shape, scheme, 8 * layer.nbytes / (shape[0] * shape[1]), kernel)
