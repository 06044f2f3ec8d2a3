"""The number formats that the table compares: how weights, activations and the cache are held in each."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from teachkit.cache import Cache, ContiguousCache
from teachkit.model import Decoder
from teachkit.quant_cache import QuantizedCache
from teachkit.schemes import quantize

GROUP = 64


@dataclass(frozen=True)
class Scheme:
    """What stands on one row.

    dtype     of activations, and of all that is not quantized
    options   of :func:`teachkit.schemes.quantize`; None: no matrix is quantized
    kv_bits   of a quantized cache; None: keys and values in ``dtype``
    """

    name: str
    label: str
    dtype: torch.dtype = torch.float32
    options: Mapping[str, Any] | None = field(default=None, hash=False)
    kv_bits: Literal[8, 4] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether it looks at text."""
        return self.options is not None and self.options.get("method") == "gptq"

    def model(self, original: Decoder, calibration: Sequence[str] | Sequence[Tensor]) -> Decoder:
        """``original``, which is in fp32, in this scheme: itself, if only the cache differs."""
        if self.options is not None:
            return quantize(original, **self.options, calibration=calibration if self.calibrated else None)
        if self.dtype == original.dtype:
            return original
        return copy.deepcopy(original, {id(original.tokenizer): original.tokenizer}).to(self.dtype)

    def cache(self, model: Decoder, rows: int, tokens: int) -> Cache:
        """An empty cache as this scheme has it."""
        if self.kv_bits is not None:
            return QuantizedCache(model.config, rows, tokens, bits=self.kv_bits, device=model.device)
        return ContiguousCache(model.config, rows, tokens, dtype=self.dtype, device=model.device)

    def bits_of_cache(self, model: Decoder) -> float:
        """Of a stored number, with its share of scales and zeros: of a cache of one token as it is made."""
        config = model.config
        numbers = 2 * config.n_layers * config.n_kv_heads * config.head_dim
        return 8 * self.cache(model, 1, 1).nbytes / numbers


def _int4(method: str) -> Mapping[str, Any]:
    return MappingProxyType({"scheme": "int4", "group_size": GROUP, "symmetric": False, "method": method})


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme("fp32", "fp32"),
            Scheme("bf16", "bf16", torch.bfloat16),
            Scheme("int8", "int8, a scale per output", options=MappingProxyType({"scheme": "int8"})),
            Scheme("int4-rtn", f"int4, groups of {GROUP}, to nearest", options=_int4("rtn")),
            Scheme("int4-gptq", f"int4, groups of {GROUP}, GPTQ", options=_int4("gptq")),
            Scheme("w8a8", "W8A8, a scale per token", options=MappingProxyType({"scheme": "w8a8"})),
            Scheme("int8-kv", "fp32, keys and values int8", kv_bits=8),
            Scheme("int4-kv", "fp32, keys and values int4", kv_bits=4),
        )
    }
)


def choose(names: Iterable[str] | None) -> list[Scheme]:
    """Schemes by their names, in the order of the table; fp32 is always there, others are compared to it.

    Raises  ValueError: a name that no row has
    """
    wanted = set(SCHEMES if names is None else names)
    if unknown := sorted(wanted - set(SCHEMES)):
        raise ValueError(f"rows: expected some of {', '.join(SCHEMES)}; got {', '.join(unknown)}")
    return [scheme for name, scheme in SCHEMES.items() if name in wanted | {"fp32"}]
