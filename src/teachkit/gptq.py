"""GPTQ: choose the nibbles of a matrix by what they do to its outputs, not to its weights.

Rounding to nearest keeps every weight close to its own. What a layer passes on is x @ weight.T, and where
inputs go up and down together, the error of one column can be made good by the columns that are still to be
rounded. GPTQ goes through the columns from left to right, rounds one, and moves the others against its error.
The format is that of :func:`teachkit.quant.int4`: the same bytes, read by the same kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from teachkit.model import Decoder
from teachkit.quant import Int4Weight, fit_groups, int4, nearest_nibbles, pack_nibbles

_BLOCK = 128  # columns between two updates of all that follow; a multiple of every group size
_WINDOW = 512  # tokens of a text that see each other, at most


def hessian(inputs: Iterable[Float[Tensor, "*any K"]]) -> Float64[Tensor, "K K"]:
    """2/n XᵀX over n inputs of a layer: how the squared error of an output depends on that of the weights.

    Cost    2*n*K*K FLOPs, in float64
    Raises  ValueError: no inputs
    """
    products = _Products()
    for x in inputs:
        products.add(x)
    return products.hessian()


class _Products:
    """The running sum of XᵀX: the inputs themselves need not be kept."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._n_rows = 0

    def add(self, x: Float[Tensor, "*any K"]) -> None:
        rows = x.detach().reshape(-1, x.shape[-1]).double()
        product = rows.T @ rows
        self._total = product if self._total is None else self._total + product
        self._n_rows += len(rows)

    def hessian(self) -> Float64[Tensor, "K K"]:
        if self._total is None or not self._n_rows:
            raise ValueError("inputs: expected at least one row, got none")
        return self._total * (2 / self._n_rows)


def gptq(
    weight: Float[Tensor, "N K"],
    hessian: Float64[Tensor, "K K"],
    *,
    group_size: int = 64,
    symmetric: bool = False,
    damping: float = 0.01,
) -> Int4Weight:
    """The matrix in int4, its columns rounded one after the other with error feedback.

    hessian     of the inputs that this layer gets, see :func:`hessian`
    group_size, symmetric  as for :func:`teachkit.quant.int4`; scale and zero of a group are found when its
                first column is reached, from the weights as moved by then
    damping     this share of the mean of the diagonal is added to it, so that it can be inverted
    Cost        about N*K*K multiplications for the feedback, and K*K*K for the inverse
    Raises      ValueError: what int4 refuses; a hessian of another size, not finite or not positive definite
    Source      Frantar et al. 2022, arXiv:2210.17323, algorithm 1 (columns in their given order)
    Why         for a row w and an error d of its column j, the best answer of the columns after j is
                -d / U[j, j] * U[j, j+1:], with U the upper Cholesky factor of the inverse hessian: row j of U
                is what is left of the inverse once the columns before j are fixed, so it is computed once
    """
    whole = int4(weight, group_size=group_size, symmetric=symmetric)  # checks the arguments; has the shapes
    factor, dead = _inverse_factor(hessian, weight.shape[1], damping)
    left = weight.detach().double().masked_fill(dead, 0)  # never multiplied by anything but 0
    nibbles = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    scale, zero = torch.empty_like(whole.scale), torch.empty_like(whole.zero)
    for start in range(0, weight.shape[1], _BLOCK):
        here = slice(start, start + _BLOCK)
        block, errors = left[:, here], torch.zeros_like(left[:, here])  # a view: changed in place
        U = factor[here, here]
        for j in range(block.shape[1]):
            group = (start + j) // group_size
            if j % group_size == 0:
                scale[:, group], zero[:, group] = fit_groups(
                    block[:, j : j + group_size].float(), symmetric=symmetric
                )
            s, z = scale[:, group], zero[:, group]
            nibbles[:, start + j] = nearest_nibbles(block[:, j].float(), s, z)
            rounded = (nibbles[:, start + j].double() - 8) * s.double() + z.double()
            errors[:, j] = (block[:, j] - rounded) / U[j, j]
            block[:, j + 1 :] -= errors[:, j, None] * U[j, j + 1 :]
        left[:, start + _BLOCK :] -= errors @ factor[here, start + _BLOCK :]
    return Int4Weight(pack_nibbles(nibbles), scale, zero, weight.shape[1], group_size)


def _inverse_factor(hessian: Tensor, columns: int, damping: float) -> tuple[Tensor, Tensor]:
    """U with UᵀU the inverse of the damped hessian; and the columns whose input is always 0."""
    if hessian.shape != (columns, columns) or not hessian.isfinite().all():
        raise ValueError(
            f"hessian: expected finite numbers of shape {(columns, columns)}, got {tuple(hessian.shape)}"
        )
    damped = hessian.double().clone()
    diagonal = damped.diagonal()  # a view
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += damping * diagonal.mean()
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ValueError(
            f"hessian: expected positive definite, got one that is not at column {int(failed) - 1}; "
            "calibrate with more text or raise the damping"
        )
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True), dead


@torch.inference_mode()
def collect_inputs(
    model: Decoder, calibration: Iterable[str] | Iterable[Int[Tensor, "_ _"]]
) -> dict[str, Float64[Tensor, "_ _"]]:
    """The hessian of what each ``nn.Linear`` of the model receives, by the name of the module.

    calibration  texts, or batches of tokens without padding; some ten thousand tokens like those that the
                 model will meet, and none that it will be judged by
    Raises       ValueError: nothing to calibrate with, a text for a model without a tokenizer
    Why          from the model as it is, all layers in one pass. The paper goes layer by layer, and feeds
                 each with the outputs of those before it as quantized
    """
    products = {name: _Products() for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, inputs, p=p: p.add(inputs[0]))
        for name, p in products.items()
    ]
    try:
        for tokens in _batches(model, calibration):
            model(tokens.to(model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: p.hessian() for name, p in products.items()}


def _batches(model: Decoder, calibration: Iterable[str] | Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches as they are; texts in tokens, in pieces of at most the window, each a batch of one."""
    for item in calibration:
        if not isinstance(item, str):
            yield item
        elif model.tokenizer is None:
            raise ValueError(
                "calibration: expected batches of tokens for a model without a tokenizer, got text"
            )
        else:
            ids = torch.tensor([model.tokenizer.encode(item)], dtype=torch.long)
            yield from ids.split(min(_WINDOW, model.config.context), 1) if ids.numel() else ()
