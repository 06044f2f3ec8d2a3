"""Models in a folder, quantized or not, and back: the same bits, or an error that names the tensor.

Two files, and those of the tokenizer. ``teachkit.json`` says what the model is: its shape, its dtype, and for
each quantized matrix the scheme. ``model.safetensors`` holds the tensors: codes, scales and zeros as
:mod:`teachkit.quant` lays them out, not in the order in which a kernel of one device reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from teachkit.config import ModelConfig
from teachkit.linear import Int4Linear, Int8Linear, QuantizedLinear, W8A8Linear
from teachkit.model import Decoder
from teachkit.quant import GROUP_SIZES, Int4Weight, Int8Weight
from teachkit.schemes import install
from teachkit.stored import Shape, Stored, WeightsError
from teachkit.tokenizer import Tokenizer

DESCRIPTION, VERSION = "teachkit.json", 1
_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _KINDS if dtype.is_floating_point}
_FILES = (DESCRIPTION, "model.safetensors", "tokenizer.json", "tokenizer_config.json")

Scheme = dict[str, Any]  # of a quantized matrix: "scheme", and "per" (int8, w8a8) or "group_size" (int4)
Kinds = dict[str, tuple[Shape, str]]  # of each tensor its shape and the file's word for its dtype


def save(model: Decoder, folder: str | Path) -> None:
    """Write the model so that ``teachkit.load(folder)`` gives it back: the same bits, the same logits.

    folder  made if it is not there; a model that was saved there before is replaced
    Raises  FileExistsError: a folder with other things in it
            WeightsError: a model with parts that its config does not ask for, or of several dtypes
    """
    folder, tensors, layers = Path(folder), _tensors(model), _quantized(model)
    schemes = {name: _scheme(layer) for name, layer in layers.items()}
    description = {
        "version": VERSION,
        "dtype": str(model.dtype).removeprefix("torch."),
        "config": asdict(model.config),
        "quantized": schemes,
    }
    with torch.device("meta"):
        plain = Decoder(model.config)
    expected = _expected(plain, schemes, _KINDS[model.dtype])
    _compare({name: (tuple(t.shape), _KINDS[t.dtype]) for name, t in tensors.items()}, expected)
    _make_room(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if model.tokenizer is not None:
        model.tokenizer.save(folder)
    # Last: until it is there, what an interruption leaves is not taken for a model.
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def is_saved(folder: Path) -> bool:
    """Whether :func:`save` wrote the folder."""
    return (folder / DESCRIPTION).exists()


def restore(folder: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Decoder:
    """What :func:`save` wrote; ``teachkit.load`` calls this.

    dtype   of activations, norms, biases and matrices that are not quantized; None: as saved
    Raises  WeightsError: another version, an unknown scheme, a tensor that is missing, left over, or of
            another shape or type; ConfigError: fields or a shape that cannot be
    """
    description = _read(folder / DESCRIPTION)
    stored_dtype, schemes = _DTYPES[description["dtype"]], description["quantized"]
    tokenizer = Tokenizer(folder) if (folder / "tokenizer.json").exists() else None
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_saved(description), tokenizer).to(stored_dtype)
    stored = Stored(folder)
    _compare(
        {name: stored.shape_and_kind(name) for name in stored.names},
        _expected(model, schemes, _KINDS[stored_dtype]),
    )
    # Copied: a tensor in the file begins at any byte, and the sums of a product depend on where it begins.
    tensors = {name: stored.read(name).to(device, copy=True) for name in stored.names}
    columns = {use.name: use.shape[1] for use in model.kernels()}
    install(model, {name: _layer(name, scheme, columns[name], tensors) for name, scheme in schemes.items()})
    inside = tuple(f"{name}." for name in schemes)  # held already, in the order of the kernel
    model.load_state_dict(
        {n: t if n.startswith(inside) else tensors[n] for n, t in model.state_dict().items()}, assign=True
    )
    return model.to(dtype or stored_dtype).eval().requires_grad_(False)


# --- from layers to tensors, and back -------------------------------------------------------------------


def _quantized(model: Decoder) -> dict[str, QuantizedLinear]:
    return {name: part for name, part in model.named_modules() if isinstance(part, QuantizedLinear)}


def _tensors(model: Decoder) -> dict[str, Tensor]:
    """All that must be stored, by the names in the file."""
    layers = _quantized(model)
    inside = tuple(f"{name}." for name in layers)
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith(inside)}
    for name, layer in layers.items():
        parts = {**_parts(layer.weight), **({} if layer.bias is None else {"bias": layer.bias})}
        tensors |= {f"{name}.{part}": t for part, t in parts.items()}
    return {name: t.detach().contiguous() for name, t in tensors.items()}


def _parts(weight: Int8Weight | Int4Weight) -> dict[str, Tensor]:
    if isinstance(weight, Int8Weight):
        return {"q": weight.q, "scale": weight.scale}
    return {"packed": weight.packed, "scale": weight.scale, "zero": weight.zero}


def _scheme(layer: QuantizedLinear) -> Scheme:
    if isinstance(layer.weight, Int4Weight):
        return {"scheme": layer.scheme, "group_size": layer.weight.group_size}
    one = layer.weight.scale.numel() == 1 and layer.out_features > 1
    return {"scheme": layer.scheme, "per": "tensor" if one else "channel"}


def _layer(name: str, scheme: Scheme, columns: int, tensors: Mapping[str, Tensor]) -> QuantizedLinear:
    """The layer of a scheme that :func:`_expected_parts` has accepted."""
    bias, scale = tensors.get(f"{name}.bias"), tensors[f"{name}.scale"]
    if scheme["scheme"] == "int4":
        packed, zero = tensors[f"{name}.packed"], tensors[f"{name}.zero"]
        return Int4Linear(Int4Weight(packed, scale, zero, columns, scheme["group_size"]), bias)
    kind = Int8Linear if scheme["scheme"] == "int8" else W8A8Linear
    return kind(Int8Weight(tensors[f"{name}.q"], scale), bias)


# --- what must be there ---------------------------------------------------------------------------------


def _expected(plain: Decoder, schemes: Mapping[str, Scheme], kind: str) -> Kinds:
    """Every tensor of a model whose matrices are quantized by ``schemes``; ``plain`` has none that is."""
    matrices = {use.name: use.shape for use in plain.kernels()}
    expected = {name: (tuple(t.shape), kind) for name, t in plain.state_dict().items()}
    for name, scheme in schemes.items():
        if name not in matrices:
            raise WeightsError(f"{name}: expected the name of one of the model's matrices, in {DESCRIPTION}")
        tied = name == "head" and plain.head is None
        expected.pop("embedding.weight" if tied else f"{name}.weight")
        parts = _expected_parts(name, scheme, matrices[name], tied=tied)
        expected |= {f"{name}.{part}": what for part, what in parts.items()}
    return expected


def _expected_parts(name: str, scheme: Scheme, shape: tuple[int, int], *, tied: bool) -> Kinds:
    (N, K), kind = shape, scheme.get("scheme")
    offered = ("int8", "w8a8") if tied else ("int8", "w8a8", "int4")  # an embedding is looked up in int8
    if kind not in offered:
        raise WeightsError(f"{name}: expected a scheme of {', '.join(offered)}; got {kind!r}")
    if kind == "int4":
        size = scheme.get("group_size")
        if size not in GROUP_SIZES:
            raise WeightsError(
                f"{name}: expected a group_size of {', '.join(map(str, GROUP_SIZES))}; got {size}"
            )
        groups = ((N, -(-K // size)), "BF16")
        return {"packed": ((N, -(-K // 2)), "U8"), "scale": groups, "zero": groups}
    if (per := scheme.get("per")) not in ("channel", "tensor"):
        raise WeightsError(f"{name}: expected per 'channel' or 'tensor', got {per!r}")
    return {"q": ((N, K), "I8"), "scale": ((N if per == "channel" else 1,), "F32")}


def _compare(found: Kinds, expected: Kinds) -> None:
    for name, (shape, kind) in expected.items():
        if name not in found:
            raise WeightsError(f"{name}: expected {kind} of shape {list(shape)}, not found")
        if found[name] != (shape, kind):
            got_shape, got_kind = found[name]
            raise WeightsError(
                f"{name}: expected {kind} of shape {list(shape)}, got {got_kind} of shape {list(got_shape)}"
            )
    if extra := sorted(set(found) - set(expected)):
        raise WeightsError(f"{extra[0]}: not expected in this model ({len(extra)} such)")


# --- the description ------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """The description, with everything in it that is relied on."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON ({error})") from error
    if not isinstance(description, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(description).__name__}")
    if (version := description.get("version")) != VERSION:
        raise WeightsError(
            f"{path}: expected version {VERSION}, got {version!r}; a later teachkit may read it"
        )
    if (dtype := description.get("dtype")) not in _DTYPES:
        raise WeightsError(f"{path}: expected a dtype of {', '.join(_DTYPES)}; got {dtype!r}")
    schemes = description.get("quantized")
    if not isinstance(schemes, dict) or not all(isinstance(scheme, dict) for scheme in schemes.values()):
        raise WeightsError(f"{path}: expected 'quantized' to give a scheme by the name of a matrix")
    if not isinstance(description.get("config"), dict):
        raise WeightsError(f"{path}: expected 'config' with the fields of a ModelConfig")
    return description


def _make_room(folder: Path) -> None:
    """The folder, without what an earlier :func:`save` left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES or not is_saved(folder))
    if others:
        raise FileExistsError(f"{folder}: expected a new folder, or one that save wrote; found {others[0]}")
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
