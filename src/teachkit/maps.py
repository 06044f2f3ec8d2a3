"""Attention maps: what every head of every layer reads, recorded on the way through the model."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from teachkit.attention import attention_probs
from teachkit.cache import LayerView, UncachedStep
from teachkit.model import Decoder


class RecordingStep(UncachedStep):
    """An uncached step that keeps each layer's attention weights in ``maps``, a list of (B, H, T, T).

    Why  a step already stands between the model and its keys and values, so nothing in the model changes
    """

    def __init__(self, model: Decoder, tokens: Int[Tensor, "B T"]) -> None:
        super().__init__(model.config, tokens)
        self.maps: list[Float[Tensor, "B H T T"]] = []

    def layer(self, index: int) -> LayerView:
        return _RecordingLayer(super().layer(index), self.maps, self._windows[index])


class _RecordingLayer:
    def __init__(self, inner: LayerView, maps: list[Tensor], window: int | None) -> None:
        self._inner, self._maps, self._window = inner, maps, window

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        self._maps.append(attention_probs(q, k, causal=True, window=self._window, scale=scale))
        return self._inner.attend(q, k, v, scale=scale)


@torch.inference_mode()
def attention_maps(model: Decoder, tokens: Int[Tensor, "1 T"]) -> Float[Tensor, "L H T T"]:
    """Weights of every layer and head for one sequence: [l, h, i, j] is how much token i reads token j."""
    if len(tokens) != 1:
        raise ValueError(f"tokens: expected one row, got {len(tokens)}")
    step = RecordingStep(model, tokens)
    model(tokens, step=step)
    return torch.cat(step.maps)
