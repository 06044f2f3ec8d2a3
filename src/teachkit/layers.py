"""The parts around attention: norms, rotary positions, feed-forward networks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from teachkit import kernels
from teachkit.config import Activation, ModelConfig, RopeScaling
from teachkit.dot_linear import together


class Linear(nn.Linear):
    """x W^T + b. :mod:`teachkit.kernels` says which program multiplies."""

    def forward(self, x: Float[Tensor, "*any C"]) -> Float[Tensor, "*any N"]:
        return kernels.product(x, self.weight, bias=self.bias)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis.

    Source  Zhang & Sennrich 2019, arXiv:1910.07467
    Why     in at least fp32 whatever comes in: a mean of squares overflows fp16 at |x| > 256
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*any C"]) -> Float[Tensor, "*any C"]:
        wide = x if x.dtype == torch.float64 else x.float()
        return self.weight * F.rms_norm(wide, x.shape[-1:], eps=self.eps).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias. Source: Ba et al. 2016, arXiv:1607.06450."""


def make_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """The norm of width d_model that the config names."""
    kind = RMSNorm if config.norm == "rms" else LayerNorm
    return kind(config.d_model, eps=config.norm_eps)


def rope_frequencies(
    head_dim: int, theta: float = 10_000.0, scaling: RopeScaling | None = None
) -> Float[Tensor, pairs]:
    """Radians per token of each of the D/2 pairs, from fast to slow: theta^(-2i/D).

    Source  Su et al. 2021, arXiv:2104.09864; scaling: see :class:`teachkit.config.RopeScaling`

    >>> rope_frequencies(4, theta=100.0).tolist()
    [1.0, 0.10000000149011612]
    """
    # On the CPU whatever the default device: models are built on "meta", which holds no values.
    frequency = 1.0 / theta ** (torch.arange(0, head_dim, 2, device="cpu").float() / head_dim)
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    wavelength = 2 * math.pi / frequency
    turns = scaling.original_context / wavelength  # full turns within the context of pre-training
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1: fast, unchanged; 0: slow, stretched
    return frequency * (keep + (1 - keep) / scaling.factor)


def rope_angles(
    positions: Int[Tensor, "B T"], frequencies: Float[Tensor, pairs], dtype: torch.dtype
) -> tuple[Float[Tensor, "B 1 T D"], Float[Tensor, "B 1 T D"]]:
    """Cosine and sine of position times frequency, for both halves of a head; computed in fp32."""
    angle = positions[:, None, :, None].float() * frequencies
    angle = torch.cat((angle, angle), -1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def apply_rope(
    x: Float[Tensor, "B H T D"], cos: Float[Tensor, "B 1 T D"], sin: Float[Tensor, "B 1 T D"]
) -> Float[Tensor, "B H T D"]:
    """Turn each pair (x[i], x[i + D/2]) by its angle.

    Why  pairs lie D/2 apart, as in Hugging Face checkpoints; the paper pairs neighbours. The two differ
         by a fixed permutation of the rows of W_q and W_k, which conversion has already applied.
    """
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def activate(x: Float[Tensor, "*any F"], name: Activation) -> Float[Tensor, "*any F"]:
    """Apply the named non-linearity. Source: GELU, its tanh form and SiLU, arXiv:1606.08415."""
    if name == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class SwiGLU(nn.Module):
    """down(act(gate(x)) * up(x)). Source: Shazeer 2020, arXiv:2002.05202. Cost: 6*T*C*F FLOPs."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.up = Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.mlp_bias)
        self.activation = config.activation

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        gate, up = together(x, self.gate, self.up)
        return self.down(activate(gate, self.activation) * up)


class MLP(nn.Module):
    """down(act(up(x))): the two-matrix feed-forward network of GPT-2 and Falcon. Cost: 4*T*C*F FLOPs."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.mlp_bias)
        self.activation = config.activation

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.down(activate(self.up(x), self.activation))
