"""A model in few bits: which matrices are quantized, how, and what comes out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor, nn

from teachkit.dot_linear import DotLinear
from teachkit.gptq import collect_inputs, gptq
from teachkit.linear import Int4Linear, Int8Embedding, Int8Linear, QuantizedLinear, W8A8Linear
from teachkit.model import Decoder
from teachkit.quant import int4, int8

Scheme = Literal["int8", "int4", "w8a8"]
SCHEMES, METHODS = ("int8", "int4", "w8a8"), ("rtn", "gptq")


def quantize(
    model: Decoder,
    scheme: Scheme,
    *,
    group_size: int = 64,
    symmetric: bool = False,
    per: Literal["channel", "tensor"] = "channel",
    method: Literal["rtn", "gptq"] = "rtn",
    calibration: Iterable[str] | Iterable[Tensor] | None = None,
    head: Literal["int8", "keep"] = "int8",
) -> Decoder:
    """A new model with the matrices of the blocks in few bits; the given one is untouched.

    scheme       "int8": weights, a scale per output; "int4": weights, a scale and a zero per group;
                 "w8a8": weights as int8, and activations, with a scale per token found as they come
    group_size, symmetric   of int4, see :func:`teachkit.quant.int4`; ``per`` of int8 and w8a8
    method       "rtn" rounds to nearest; "gptq", for int4, needs ``calibration``: texts, or batches of tokens
    head         the last matrix, and the embedding if it is tied to it: "int8", or "keep" as it is
    Raises       ValueError: an unknown scheme, method or head, a group size that is not offered, a model that
                 is quantized or compiled already, gptq for another scheme or without calibration
    """
    _require(scheme, method, head, calibration, model)
    hessians = {} if calibration is None or method == "rtn" else collect_inputs(model, calibration)

    def quantized(name: str, layer: nn.Linear) -> QuantizedLinear:
        if scheme != "int4":
            kind = Int8Linear if scheme == "int8" else W8A8Linear
            return kind(int8(layer.weight, per=per), layer.bias)
        if method == "rtn":
            weight = int4(layer.weight, group_size=group_size, symmetric=symmetric)
        else:
            weight = gptq(layer.weight, hessians[name], group_size=group_size, symmetric=symmetric)
        return Int4Linear(weight, layer.bias)

    linears = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("blocks.")
    }
    layers = {name: quantized(name, layer) for name, layer in linears.items()}
    if head == "int8":
        matrix = model.embedding.weight if model.head is None else model.head.weight
        layers["head"] = Int8Linear(int8(matrix))
    return install(_sharing(model, without=linears.values()), layers)


def install(model: Decoder, layers: Mapping[str, QuantizedLinear]) -> Decoder:
    """``model`` with quantized layers in the places of its own, by the names of these.

    A "head" of a model that has none takes the place of the embedding that is tied to it, and is looked up.
    """
    head, dtype = layers.get("head"), model.dtype
    if model.head is None and isinstance(head, Int8Linear | DotLinear):
        _put(model, "embedding", Int8Embedding(head, dtype))
    for name, layer in layers.items():
        _put(model, name, layer)
    return model


def _put(model: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, part)


def _sharing(model: Decoder, *, without: Iterable[nn.Linear]) -> Decoder:
    """A copy over the same memory; of the layers named only the place is copied, not the weights."""
    memo: dict[int, object] = {id(t): t for t in model.buffers()}
    # Parameters of its own: copy.to(dtype) would otherwise change those of the model, in place.
    memo |= {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    memo |= {id(layer): nn.Identity() for layer in without}
    memo[id(model.tokenizer)] = model.tokenizer
    return copy.deepcopy(model, memo)


def _require(scheme: str, method: str, head: str, calibration: object, model: Decoder) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: expected one of {', '.join(SCHEMES)}; got {scheme!r}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}; got {method!r}")
    if head not in ("int8", "keep"):
        raise ValueError(f"head: expected 'int8' or 'keep', got {head!r}")
    if method == "gptq" and scheme != "int4":
        raise ValueError(f"method: expected 'rtn' for {scheme}, got 'gptq', which is for int4")
    if method == "gptq" and calibration is None:
        raise ValueError("calibration: expected texts or batches of tokens for gptq, got None")
    if isinstance(calibration, str):
        raise ValueError(f"calibration: expected a list of texts, got {calibration!r:.40}")
    if model.compiled:
        raise ValueError("model: expected one that is not compiled; quantize the original, then compile")
    done = next((name for name, m in model.named_modules() if isinstance(m, QuantizedLinear)), None)
    if done is not None:
        raise ValueError(f"model: expected one that is not quantized, but {done} is; quantize the original")
