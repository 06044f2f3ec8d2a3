"""Quantized layers for the project's own kernel: the same codes in another order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from teachkit import kernels, native
from teachkit.linear import Int4Linear, Int8Linear, QuantizedLinear, W8A8Linear
from teachkit.quant import Int4Weight, Int8Weight, pack_nibbles, unpack_nibbles


class DotLinear(QuantizedLinear):
    """x W^T + b by :func:`teachkit.native.dot`, from the codes and scales of a quantized layer.

    On the CPU only, for any number of rows; :func:`teachkit.compiled.fast` makes them. It computes in float32
    whatever the dtype of x, and gives no gradients.

    Raises  RuntimeError: the kernel cannot be compiled, see :func:`teachkit.native.load`
    """

    tiles: Tensor

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__(layer.out_features, layer.in_features, layer.bias)
        native.load()
        self.scheme, weight = layer.scheme, layer.weight
        self.digits = 1 if self.scheme == "w8a8" else 2
        if isinstance(weight, Int4Weight):
            self.bits, self.group_size = 4, weight.group_size
            codes, scales = unpack_nibbles(weight.packed, weight.columns), [weight.scale, weight.zero]
        else:
            self.bits, self.group_size = 8, layer.in_features
            codes = (weight.q.to(torch.int16) + 128).to(torch.uint8)
            scales = [weight.scale.expand(layer.out_features)[:, None]]
        self.register_buffer("tiles", native.to_tiles(codes, scales, self.bits))

    @property
    def weight(self) -> Int8Weight | Int4Weight:
        """In the plain order again. Of int8 a scale per output, also where one stood for all of them."""
        groups = self.in_features // self.group_size
        codes, scales = native.from_tiles(self.tiles, self.bits, groups)
        if self.bits == 8:
            return Int8Weight((codes.to(torch.int16) - 128).to(torch.int8), scales[0][:, 0])
        scale, zero = scales
        return Int4Weight(pack_nibbles(codes), scale, zero, self.in_features, self.group_size)

    def kernel(self, *, rows: int, device: str, compiled: bool) -> str:
        """The same for any number of rows."""
        return kernels.DOT

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any N"]:
        (out,) = together(x, self)
        return out

    def lookup(self, tokens: Int[Tensor, "*any"]) -> Float[Tensor, "*any K"]:
        """Rows of an int8 matrix in fp32, as vectors of tokens."""
        codes, scales = native.rows(self.tiles, tokens)
        return (codes.float() - 128) * scales[..., None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        device = fn(self.tiles.new_empty(0)).device
        if device.type != "cpu":
            raise RuntimeError(
                f"model: made fast for the CPU, not for {device}; move the original, then call fast() on it"
            )
        return super()._apply(fn, recurse)


def can_dot(layer: QuantizedLinear) -> bool:
    """Whether a layer can become a :class:`DotLinear`: its weights on the CPU and in whole tiles."""
    if not isinstance(layer, Int8Linear | W8A8Linear | Int4Linear):
        return False
    group_size = layer.group_size if isinstance(layer, Int4Linear) else layer.in_features
    on_cpu = next(layer.buffers()).device.type == "cpu"
    return on_cpu and native.fits(layer.out_features, layer.in_features, group_size)


def together(x: Float[Tensor, "*any K"], *layers: nn.Module) -> list[Float[Tensor, "*any _"]]:
    """The outputs of layers that read the same x: in one call of the kernel, where they are made for it.

    Why  q, k and v, or gate and up, are three and two matrices, some small: a call costs as much as one
    """
    first = layers[0]
    if not isinstance(first, DotLinear) or not all(_alike(first, layer) for layer in layers):
        return [layer(x) for layer in layers]
    dots = [layer for layer in layers if isinstance(layer, DotLinear)]
    out = native.dot(
        x,
        [layer.tiles for layer in dots],
        bits=first.bits,
        group_size=first.group_size,
        digits=first.digits,
    )
    parts = out.split([layer.out_features for layer in dots], -1)
    return [
        part if layer.bias is None else part + layer.bias for part, layer in zip(parts, dots, strict=True)
    ]


def _alike(first: DotLinear, layer: nn.Module) -> bool:
    held = (first.bits, first.group_size, first.digits)
    return isinstance(layer, DotLinear) and (layer.bits, layer.group_size, layer.digits) == held
