"""Scaled dot-product attention: each query reads a weighted mean of the values it may see.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; grouped heads: Ainslie et al. 2023,
arXiv:2305.13245.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from teachkit import kernels


def visible(
    n_queries: int, n_keys: int, *, window: int | None = None, device: torch.device | str = "cpu"
) -> Bool[Tensor, "T S"]:
    """The causal mask, aligned to the bottom right: the last query sees the last key.

    Query i stands at position S - T + i and sees key j iff j <= S - T + i; with ``window`` W also only
    if j > S - T + i - W, so that it sees W keys, itself included.

    >>> visible(2, 4).int().tolist()
    [[1, 1, 1, 0], [1, 1, 1, 1]]
    >>> visible(2, 4, window=2).int().tolist()
    [[0, 1, 1, 0], [0, 0, 1, 1]]
    """
    _require_window(window)
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)[None, :]
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def scaled_dot_product_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    mask: Bool[Tensor, ...] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """softmax(q k^T * scale) v, for H query heads over Hkv key/value heads.

    mask    True = attend; broadcast to (B, H, T, S). Combined with ``causal`` and ``window`` by "and"
    causal  aligned to the bottom right, see :func:`visible`; ``window`` needs it
    scale   default 1 / sqrt(D)
    Cost    4*B*H*T*S*D FLOPs when Dv = D; reads K and V once per group, not once per head
    Raises  ValueError: shapes that do not fit, a window without causal
    Note    a row whose mask is all False gives zeros, where a plain softmax gives NaN
    """
    if v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ValueError(f"v: expected {tuple(k.shape[:3])} as k has, and Dv; got {tuple(v.shape)}")
    probs = attention_probs(q, k, mask=mask, causal=causal, window=window, scale=scale)
    (B, H, T, S), Hkv = probs.shape, v.shape[1]
    stacked = probs.view(B, Hkv, H // Hkv * T, S)
    return kernels.mix(stacked, v, rows=B * T).view(B, H, T, v.shape[3])


def attention_probs(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    *,
    mask: Bool[Tensor, ...] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H T S"]:
    """The weights alone, (B, H, T, S), in at least fp32: what an attention map shows. Arguments as above."""
    _require_shapes(q, k)
    _require_window(window)
    if window is not None and not causal:
        raise ValueError("window: expected together with causal=True")
    (B, H, T, D), (_, Hkv, S, _) = q.shape, k.shape
    _require_mask(mask, (B, H, T, S))
    scale = D**-0.5 if scale is None else scale
    # The G query heads that share a key head are stacked along T: one matrix product then reads each
    # key once for all of them, which is what grouped-query attention is for.
    stacked = (q * scale).reshape(B, Hkv, H // Hkv * T, D)
    scores = kernels.scores(stacked, k, rows=B * T).view(B, H, T, S)
    # One query that is the last token sees every key, so a decode step needs no mask.
    if causal and (T > 1 or window is not None):
        ahead = visible(T, S, window=window, device=q.device)
        mask = ahead if mask is None else mask & ahead
    return _softmax(scores, mask)


def _softmax(scores: Float[Tensor, "B H T S"], mask: Bool[Tensor, ...] | None) -> Float[Tensor, "B H T S"]:
    """Softmax over the keys in at least fp32; zeros where nothing may be seen."""
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if mask is None:
        return scores.softmax(-1)
    probs = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return probs.masked_fill(~mask, 0.0)  # a row without any key is NaN until here


def _require_shapes(q: Tensor, k: Tensor) -> None:
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError(
            f"q, k: expected (batch, heads, tokens, head_dim); got {tuple(q.shape)} and {tuple(k.shape)}"
        )
    if (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(
            f"k: expected batch {q.shape[0]} and head_dim {q.shape[3]}, as q has; "
            f"got {k.shape[0]} and {k.shape[3]}"
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(
            f"q: expected a multiple of the {k.shape[1]} key/value heads, got {q.shape[1]} heads"
        )


def _require_mask(mask: Tensor | None, shape: tuple[int, int, int, int]) -> None:
    if mask is None:
        return
    from_the_right = zip(mask.shape[::-1], shape[::-1], strict=False)
    fits = mask.ndim <= len(shape) and all(m in (1, n) for m, n in from_the_right)
    if mask.dtype != torch.bool or not fits:
        raise ValueError(f"mask: expected bool, broadcast to {shape}; got {mask.dtype} {tuple(mask.shape)}")


def _require_window(window: int | None) -> None:
    if window is not None and window < 1:
        raise ValueError(f"window: expected at least 1 (the token itself), got {window}")
