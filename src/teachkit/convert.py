"""From many key/value heads to few: the conversion that makes a multi-head model a grouped one.

Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.1. The converted model is worse than the one that it
came from; a short training ("uptraining", 5 % of the original) brings most of it back. How much it was in a
small model of the package, which was trained for this, is in checkpoints/multi_head/README.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from teachkit.model import Decoder

Method = Literal["mean", "first", "random"]
_PROJECTIONS = ("attention.k.weight", "attention.k.bias", "attention.v.weight", "attention.v.bias")


def group_heads(model: Decoder, n_kv_heads: int, method: Method = "mean", seed: int = 0) -> Decoder:
    """A copy of ``model`` with ``n_kv_heads`` key/value heads: the cache shrinks by as much.

    Query head i read key/value head i // G before, and reads i // G' after, with G = H / Hkv: so each new
    head stands for Hkv / n_kv_heads old ones that are neighbours.

    method  "mean": of the old heads' projections, weights and biases, which the paper found best after
            uptraining; "first": the first old head of each group, before uptraining the better one in
            checkpoints/multi_head; "random": normal weights with the projection's root mean square, so
            that nothing learnt is left of it but its scale
    seed    of the random weights
    Raises  ValueError: more heads than there are, a number that does not divide them, below 1, an unknown
            method, projections that are not plain (quantize after this, not before)
    Note    only the projections to keys and values change, norms of keys are shared by all heads as before;
            nothing is shared in memory, so either model may be trained on
    """
    _require_count(n_kv_heads, model.config.n_kv_heads)
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {', '.join(get_args(Method))}; got {method!r}")
    _require_plain(model)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(_PROJECTIONS):
            state[name] = _pool(tensor, model.config.head_dim, n_kv_heads, method, generator)
        else:
            state[name] = tensor.clone()
    with torch.device("meta"):  # shapes without memory: every weight comes from the old model
        grouped = Decoder(replace(model.config, n_kv_heads=n_kv_heads), model.tokenizer)
    grouped.load_state_dict(state, assign=True)
    for name, weight in model.named_parameters():
        grouped.get_parameter(name).requires_grad_(weight.requires_grad)
    return grouped.train(model.training)


def _pool(
    rows: Float[Tensor, "rows ..."],
    head_dim: int,
    n_kv_heads: int,
    method: Method,
    generator: torch.Generator,
) -> Float[Tensor, "fewer ..."]:
    """The rows of a projection, or its bias, for fewer heads."""
    heads = rows.unflatten(0, (n_kv_heads, -1, head_dim))
    if method == "first":
        return heads[:, 0].flatten(0, 1).clone()
    if method == "mean":
        return heads.mean(1).flatten(0, 1)  # of bf16 weights: PyTorch sums in fp32 and rounds once
    noise = torch.randn(n_kv_heads * head_dim, *rows.shape[1:], generator=generator).to(rows.device)
    return (noise * rows.float().square().mean().sqrt()).to(rows.dtype)


def _require_count(n_kv_heads: int, there: int) -> None:
    if n_kv_heads < 1:
        raise ValueError(f"n_kv_heads: expected at least 1, got {n_kv_heads}")
    if n_kv_heads > there:
        raise ValueError(f"n_kv_heads: expected at most the {there} key/value heads there, got {n_kv_heads}")
    if there % n_kv_heads:
        raise ValueError(f"n_kv_heads: expected a divisor of the {there} heads there, got {n_kv_heads}")


def _require_plain(model: Decoder) -> None:
    for index, block in enumerate(model.blocks):
        for letter in "kv":
            layer = getattr(block.attention, letter, None)
            if not isinstance(layer, nn.Linear):
                raise ValueError(
                    f"blocks.{index}.attention.{letter}: expected an nn.Linear (convert first, then "
                    f"quantize or fuse), got {type(layer).__name__}"
                )
