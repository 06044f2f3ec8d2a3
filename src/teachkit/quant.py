"""Int8 and int4: how a weight, an activation, a key or a value becomes a small integer, and back.

Every scheme here is affine: a stored integer ``code`` stands for ``code * scale + zero``, with one scale (and
zero) for a row, or for a group of neighbours in a row. The schemes differ in how many codes there are and in
how many values share a scale; nothing else. Pure functions; the layers that run on these are elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import BFloat16, Float, Float32, Int8, Int32, Integer, UInt8
from torch import Tensor

GROUP_SIZES = (32, 64, 128)
_LARGEST, _TINY = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny


# --- int8: one scale per row, codes -127 to 127 --------------------------------------------------------


@dataclass(frozen=True)
class Int8Weight:
    """A matrix in int8: value = q * scale.

    q      codes from -127 to 127
    scale  of each row, or one for the whole matrix
    """

    q: Int8[Tensor, "N K"]
    scale: Float32[Tensor, " N_or_1"]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "N K"]:
        """The matrix that the codes stand for, computed in float32, then rounded to ``dtype``."""
        return (self.q.float() * self.scale[:, None]).to(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes stored, scales included."""
        return self.q.nbytes + self.scale.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits stored per element of the matrix: 8, and 32 / K for the scales of the rows."""
        return 8 * self.nbytes / self.q.numel()

    def error_bound(self) -> Float32[Tensor, "N K"]:
        """No element of ``weight - dequantize()`` is larger; see :func:`error_bound`."""
        return error_bound(self.scale)[:, None].expand(self.q.shape)


def int8(weight: Float[Tensor, "N K"], *, per: Literal["channel", "tensor"] = "channel") -> Int8Weight:
    """Round to the nearest of 255 evenly spaced values: scale = absmax / 127.

    per     "channel": a scale for each output, a row of the matrix; "tensor": one for all of it, which the
            largest element of any row then decides
    Raises  ValueError: not a matrix, not floating point, empty, NaN or infinite; unknown ``per``
    Why     symmetric, so that zero stays zero and the scale can be applied after the sum; -128 is not used,
            so that the codes are symmetric too
    """
    if per not in ("channel", "tensor"):
        raise ValueError(f"per: expected 'channel' or 'tensor', got {per!r}")
    weight = _matrix(weight)
    scale = _absmax_scale(weight if per == "channel" else weight.flatten()[None])
    return Int8Weight(_nearest_int8(weight, scale), scale[:, 0])


def quantize_tokens(
    x: Float[Tensor, "*any K"],
) -> tuple[Int8[Tensor, "*any K"], Float32[Tensor, "*any 1"]]:
    """Activations in int8, a scale for each token, found when they come: codes and scales.

    Why  nothing is looked for in x: this runs at every step. A token with NaN or infinity in it comes back
         as NaN.
    """
    x = x.float()
    scale = _absmax_scale(x)
    return _nearest_int8(x, scale), scale


def w8a8_matmul(x: Float[Tensor, "*any K"], weight: Int8Weight) -> Float[Tensor, "*any N"]:
    """x @ weight.T with both sides in int8: products and sums are integers and exact, then both scales.

    Source  Dettmers et al. 2022, arXiv:2208.07339: what one outlier channel does to a token's scale
    """
    codes, scale = quantize_tokens(x)
    sums = int_matmul(codes.reshape(-1, x.shape[-1]), weight.q).view(*x.shape[:-1], len(weight.q))
    return (sums * scale * weight.scale).to(x.dtype)


def int_matmul(a: Int8[Tensor, "M K"], b: Int8[Tensor, "N K"]) -> Int32[Tensor, "M N"]:
    """a @ b.T, exact: CUDA's integer product where it takes the shape, sums in float32 everywhere else.

    Raises  ValueError: so many columns that a sum may leave int32
    Why     not ``torch._int_mm`` on the CPU: without VNNI instructions it adds pairs of products in 16 bits,
            and saturates. A sum of 1024 products of int8 is at most 2**24, which float32 holds exactly.
    """
    K = a.shape[1]
    if K * 128 * 128 >= 2**31:
        raise ValueError(f"a: expected fewer than {2**31 // 128**2} columns, got {K}")
    if a.device.type == "cuda" and a.shape[0] > 16 and K % 8 == 0 and b.shape[0] % 8 == 0:
        return torch._int_mm(a, b.T)
    out = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for some_a, some_b in zip(a.split(1024, 1), b.split(1024, 1), strict=True):
        out += (some_a.float() @ some_b.float().T).to(torch.int32)
    return out


def _absmax_scale(x: Float32[Tensor, "*any K"]) -> Float32[Tensor, "*any 1"]:
    """absmax / 127, never 0."""
    absmax = x.abs().amax(-1, keepdim=True)
    scale = (absmax / 127).clamp_min(_TINY)
    # Of the largest float32, 127 times the rounded scale would be infinite.
    return torch.where(absmax < _LARGEST, scale, scale * (1 - 2**-22))


def _nearest_int8(x: Float32[Tensor, "*any"], scale: Float32[Tensor, "*#any"]) -> Int8[Tensor, "*any"]:
    return (x / scale).round().to(torch.int8)  # within 127: the scale reaches the largest x


# --- int4: a scale and a zero per group, codes 0 to 15, two to a byte ----------------------------------


@dataclass(frozen=True)
class Int4Weight:
    """A matrix in int4: value = (nibble - 8) * scale + zero, as PyTorch's int4 kernels compute it.

    packed      two nibbles to a byte, see :func:`pack_nibbles`
    scale, zero of each group of ``group_size`` neighbours in a row; the last group may be shorter
    columns     K: an odd one leaves a nibble unused
    """

    packed: UInt8[Tensor, "N half_K"]
    scale: BFloat16[Tensor, "N groups"]
    zero: BFloat16[Tensor, "N groups"]
    columns: int
    group_size: int

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "N K"]:
        """The matrix that the nibbles stand for, computed in float32, then rounded to ``dtype``."""
        codes = unpack_nibbles(self.packed, self.columns).to(torch.int8) - 8
        return _affine(codes, self.scale, self.zero, self.group_size).to(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes stored, scales and zeros included."""
        return self.packed.nbytes + self.scale.nbytes + self.zero.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits stored per element of the matrix: 4, and 32 / group_size for scale and zero."""
        return 8 * self.nbytes / (len(self.packed) * self.columns)

    def error_bound(self) -> Float32[Tensor, "N K"]:
        """No element of ``weight - dequantize()`` is larger, see :func:`error_bound`.

        Of :func:`int4`: GPTQ moves the error of one weight to others, and keeps to no bound for each.
        """
        return _per_column(error_bound(self.scale, self.zero), self.columns, self.group_size)


def int4(weight: Float[Tensor, "N K"], *, group_size: int = 64, symmetric: bool = False) -> Int4Weight:
    """Round to the nearest of 16 evenly spaced values per group.

    group_size  neighbours in a row that share scale and zero: 32, 64 or 128
    symmetric   the values are centred on 0 (zero = 0), not on the middle of the group's range
    Raises      ValueError: not a matrix, not floating point, empty, NaN or infinite; another group size
    """
    _require_group_size(group_size)
    weight = _matrix(weight)
    scale, zero = fit_groups(_groups(weight, group_size), symmetric=symmetric)
    nibbles = nearest_nibbles(weight, *(_per_column(t, weight.shape[1], group_size) for t in (scale, zero)))
    return Int4Weight(pack_nibbles(nibbles), scale, zero, weight.shape[1], group_size)


def fit_groups(
    groups: Float32[Tensor, "*any n"], *, symmetric: bool = False
) -> tuple[BFloat16[Tensor, "*any"], BFloat16[Tensor, "*any"]]:
    """Scale and zero such that zero - 8 * scale to zero + 7 * scale holds every value of a group.

    Why  the zero is rounded to bfloat16 first, and the scale chosen for that zero and rounded up: no value
         is then out of reach, and none is further than half a step from one of the sixteen
    """
    # Halves: the difference of two finite floats may not be finite, that of their halves is.
    low, high = groups.amin(-1) / 2, groups.amax(-1) / 2
    zero = torch.zeros_like(low) if symmetric else low + (high - low) / 15 * 8
    rounded = zero.bfloat16()
    too_far = rounded.float().abs() > zero.abs()  # rounded away from 0, beyond the largest bfloat16 perhaps
    stored = torch.where(too_far, torch.nextafter(rounded, torch.zeros_like(rounded)), rounded)
    zero = stored.float()
    step = torch.maximum((high - zero) / 7, (zero - low) / 8).clamp_min(_TINY)
    return 2 * _up_to_bfloat16(step), 2 * stored


def nearest_nibbles(
    x: Float32[Tensor, "*any"], scale: BFloat16[Tensor, "*any"], zero: BFloat16[Tensor, "*any"]
) -> UInt8[Tensor, "*any"]:
    """The nibble, 0 to 15, whose value is nearest to each x."""
    steps = (x / 2 - zero.float() / 2) / (scale.float() / 2)  # halves: see fit_groups
    return (steps.round() + 8).clamp(0, 15).to(torch.uint8)


def pack_nibbles(nibbles: UInt8[Tensor, "*any K"]) -> UInt8[Tensor, "*any half_K"]:
    """Two to a byte: column 2j in the low four bits of byte j, column 2j + 1 in the high four.

    With an odd number of columns the high half of the last byte is 0.
    Raises  ValueError: a number above 15

    >>> pack_nibbles(torch.tensor([[1, 2, 15]], dtype=torch.uint8)).tolist()  # 0x21, 0x0f
    [[33, 15]]
    """
    if nibbles.numel() and (largest := int(nibbles.max())) > 15:
        raise ValueError(f"nibbles: expected numbers from 0 to 15, got {largest}")
    return _pack(nibbles)


def unpack_nibbles(packed: UInt8[Tensor, "*any half_K"], columns: int) -> UInt8[Tensor, "*any K"]:
    """The nibbles that :func:`pack_nibbles` packed.

    Raises  ValueError: ``columns`` does not fit the number of bytes

    >>> unpack_nibbles(torch.tensor([[33, 15]], dtype=torch.uint8), 3).tolist()
    [[1, 2, 15]]
    """
    if (columns + 1) // 2 != packed.shape[-1]:
        n = packed.shape[-1]
        raise ValueError(f"columns: expected {2 * n - 1} or {2 * n} in rows of {n} bytes, got {columns}")
    return torch.stack((packed & 15, packed >> 4), -1).flatten(-2)[..., :columns]


def _pack(nibbles: UInt8[Tensor, "*any K"]) -> UInt8[Tensor, "*any half_K"]:
    padded = torch.nn.functional.pad(nibbles, (0, nibbles.shape[-1] % 2))
    return padded[..., ::2] | padded[..., 1::2] << 4


# --- keys and values: rows of a cache ------------------------------------------------------------------


def quantize_rows(
    x: Float[Tensor, "*any D"], bits: int, group_size: int | None = None
) -> tuple[
    Integer[Tensor, "*any bytes"], BFloat16[Tensor, "*any groups"], BFloat16[Tensor, "*any groups"] | None
]:
    """Keys or values, quantized along their last axis as they come: codes, scale, zero.

    bits        8: int8 codes from -127 to 127, symmetric, zero is None; 4: nibbles, two to a byte (uint8)
    group_size  32, 64 or 128 neighbours share a scale; None: a whole row does, one token's one head
    Raises      ValueError: other bits, another group size
    Source      Liu et al. 2024 (KIVI), arXiv:2402.02750, keeps keys per channel; per token, as here, a new
                token changes nothing that is stored
    Why         nothing is looked for in x: this runs at every step. A group with NaN or infinity comes back
                as NaN.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, got {bits}")
    if group_size is not None:
        _require_group_size(group_size)
    x, size = x.float(), group_size or x.shape[-1]
    groups = _groups(x, size)
    if bits == 8:
        # Halves again, so that a scale rounded up stays within what is finite.
        scale = 2 * _up_to_bfloat16((groups.abs().amax(-1) / 2 / 127).clamp_min(_TINY))
        return _nearest_int8(x, _per_column(scale.float(), x.shape[-1], size)), scale, None
    scale, zero = fit_groups(groups)
    return _pack(nearest_nibbles(x, *(_per_column(t, x.shape[-1], size) for t in (scale, zero)))), scale, zero


def dequantize_rows(
    codes: Integer[Tensor, "*any bytes"],
    scale: BFloat16[Tensor, "*any groups"],
    zero: BFloat16[Tensor, "*any groups"] | None,
    *,
    columns: int,
    group_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*any D"]:
    """What :func:`quantize_rows` stored, off by at most :func:`error_bound` of its scale and zero.

    columns     D: an odd one leaves a nibble unused
    group_size  as it was given to quantize_rows
    """
    if zero is not None:
        codes = unpack_nibbles(codes, columns).to(torch.int8) - 8
    return _affine(codes, scale, zero, group_size or columns).to(dtype)


# --- shared --------------------------------------------------------------------------------------------


def error_bound(
    scale: Float[Tensor, "*any"], zero: Float[Tensor, "*any"] | None = None
) -> Float32[Tensor, "*any"]:
    """How far a value may lie from what its code stands for, both in float32.

    Half a step, since every value is within reach of the codes; a ten-thousandth of a step for what float32
    rounds on the way; and two units in the last place of the zero, to which the product is added.
    """
    bound = (0.5 + 1e-4) * scale.float()
    return bound if zero is None else bound + 2**-22 * zero.float().abs()


def _affine(
    codes: Int8[Tensor, "*any K"],
    scale: BFloat16[Tensor, "*any groups"],
    zero: BFloat16[Tensor, "*any groups"] | None,
    group_size: int,
) -> Float32[Tensor, "*any K"]:
    """codes * scale + zero; what rounding puts beyond float32 is float32's largest."""
    half = codes.float() * _per_column(scale.float() / 2, codes.shape[-1], group_size)
    if zero is not None:
        half += _per_column(zero.float() / 2, codes.shape[-1], group_size)
    return half.clamp_(-_LARGEST / 2, _LARGEST / 2).mul_(2)


def _groups(x: Float32[Tensor, "*any K"], size: int) -> Float32[Tensor, "*any groups size"]:
    """Rows cut into groups; a short last one is filled up with its last value, which changes no range."""
    missing = -x.shape[-1] % size
    filled = torch.cat((x, x[..., -1:].expand(*x.shape[:-1], missing)), -1) if missing else x
    return filled.unflatten(-1, (-1, size))


def _per_column(
    per_group: Float[Tensor, "*any groups"], columns: int, size: int
) -> Float[Tensor, "*any columns"]:
    return per_group.repeat_interleave(size, -1)[..., :columns]


def _up_to_bfloat16(x: Float32[Tensor, "*any"]) -> BFloat16[Tensor, "*any"]:
    """The smallest bfloat16 that is not below x."""
    near = x.bfloat16()
    return torch.where(near.float() < x, torch.nextafter(near, torch.full_like(near, float("inf"))), near)


def _matrix(weight: Tensor) -> Float32[Tensor, "N K"]:
    """The weight in float32, if it is one that can be quantized."""
    if weight.ndim != 2 or not weight.numel() or not weight.is_floating_point():
        raise ValueError(
            f"weight: expected a floating-point matrix, got {weight.dtype} of shape {tuple(weight.shape)}"
        )
    wide = weight.detach().float()
    if not (finite := wide.isfinite()).all():
        row, column = (~finite).nonzero()[0].tolist()
        raise ValueError(
            "weight: expected finite numbers (in float32), "
            f"got {wide[row, column].item()} in row {row}, column {column}"
        )
    return wide


def _require_group_size(group_size: int) -> None:
    if group_size not in GROUP_SIZES:
        raise ValueError(f"group_size: expected {', '.join(map(str, GROUP_SIZES))}; got {group_size}")
