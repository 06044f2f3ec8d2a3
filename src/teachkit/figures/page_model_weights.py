"""A model as files that a page can add to itself: scripts with base64, and what says how to read them.

A page that was opened from disk may not read the file beside it, but it may run the script that lies there.
So ``int8.js`` sets ``window.teachkitWeights["int8"]`` to a header (shapes, offsets, kinds), ``int8.0.js`` and
those after it set ``window.teachkitWeights["int8.0"]`` to pieces of the bytes; ``vocabulary.js`` holds the
tokenizer. The scripts of ``page_model/`` read them. The same model gives the same bytes.

Codes, scales and zeros are those of the given layers, bit by bit; what is not quantized is bfloat16.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import tokenizers
import torch
from torch import Tensor

PART_BYTES = 768 * 1024  # a mebibyte of base64: small enough for a bar that moves, divisible by 3
ALIGNMENT = 8  # a typed array begins at a multiple of the size of its numbers
UNROLLED = 8  # columns that a loop of weights.js takes at once
# The one pattern that tokenizer.js cuts words by.
PATTERN = r"[^\s\p{L}\p{N}_]*\n+ *|[^\s\p{L}\p{N}_]?[\p{L}_]+ ?|\p{N} ?|[^\s\p{L}\p{N}_]+ ?|\s+"
PAGE = 256  # code points asked for at once; the library is slow on long texts
CLASSES = {"letter": r"\p{L}", "digit": r"\p{N}", "space": r"\s"}
SIZES = ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context")
HONOURED = {  # what engine.js computes, and nothing else
    "norm": "rms",
    "activation": "silu",
    "gated_mlp": True,
    "position": "rotary",
    "rope_scaling": None,
    "qkv_bias": False,
    "o_bias": False,
    "mlp_bias": False,
    "qk_norm": False,
    "parallel_residual": False,
    "tied": True,
}


@dataclass(frozen=True)
class Offer:
    """A set of weights that a page offers to load.

    name    "int8", "int4" or "bf16": of its files, too
    nbytes  of all its files, as a server sends them uncompressed
    stamp   changes with the content; stands behind ``?`` in addresses, so that no stale file is taken
    """

    name: str
    nbytes: int
    stamp: str


def export(models: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of some models that share a tokenizer: contents by name.

    models     decoders by the names of their weights, such as {"int8": tk.quantize(model, "int8")}
    tokenizer  the content of ``tokenizer.json``
    Raises     ValueError: an architecture, a layer or a tokenizer that the page's scripts cannot honour
    """
    files = {"vocabulary.js": _script("vocabulary", vocabulary(tokenizer))}
    for name, model in models.items():
        header, data = pack(model)
        pieces = [data[i : i + PART_BYTES] for i in range(0, len(data), PART_BYTES)]
        files[f"{name}.js"] = _script(name, header | {"parts": len(pieces)})
        for i, piece in enumerate(pieces):
            files[f"{name}.{i}.js"] = _script(f"{name}.{i}", base64.b64encode(piece).decode())
    return files


def offer(files: Mapping[str, bytes], name: str) -> Offer:
    """What a page must know of one set of :func:`export` before it loads it; also of "vocabulary"."""
    nbytes = sum(len(content) for file, content in files.items() if file.split(".")[0] == name)
    return Offer(name, nbytes, f"{zlib.crc32(files[f'{name}.js']):08x}")


def offers(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """All sets of weights of :func:`export`, in its order, as plain data."""
    names = [file.removesuffix(".js") for file in files if file.count(".") == 1]
    return [asdict(offer(files, name)) for name in names if name != "vocabulary"]


def pack(model: Any) -> tuple[dict[str, Any], bytes]:
    """Header and bytes of one decoder.

    The header's ``tensors`` name each matrix and norm: ``kind``, ``shape``, ``at`` (offsets of codes, scale
    and zero, in bytes) and, of int4, ``group``; ``crc`` is the CRC-32 of the bytes. Little-endian.
    Raises  ValueError: see :func:`export`
    """
    for field, wanted in HONOURED.items():
        if getattr(model.config, field) != wanted:
            raise ValueError(f"{field}: expected {wanted!r}, got {getattr(model.config, field)!r}")
    if any(model.config.windows):
        raise ValueError(f"windows: expected none, got {model.config.windows}")
    tensors, data = {}, bytearray()
    for name, kind, shape, arrays, about in _weights(model):
        at = {}
        for part, values in arrays.items():
            data.extend(bytes(-len(data) % ALIGNMENT))
            at[part] = len(data)
            data.extend(_bytes(values))
        tensors[name] = {"kind": kind, "shape": shape, "at": at, **about}
    config = {field: getattr(model.config, field) for field in (*SIZES, "norm_eps", "rope_theta")}
    header = {"config": config, "bytes": len(data), "crc": zlib.crc32(data), "tensors": tensors}
    return header, bytes(data)


Weight = tuple[str, str, list[int], dict[str, Tensor], dict[str, int]]


def _weights(model: Any) -> Iterator[Weight]:
    """Every matrix and norm: name, kind, shape, arrays, group size. The tied matrix is the head's."""
    for name, layer in model.named_modules():
        scheme = getattr(layer, "scheme", None)
        if scheme is not None:
            yield _quantized(name, scheme, layer.weight)
        elif name == "embedding" and model.head is None:
            yield _plain("head", layer.weight)
        elif isinstance(getattr(layer, "weight", None), Tensor) and name != "embedding":
            yield _plain(name, layer.weight)


def _quantized(name: str, scheme: str, weight: Any) -> Weight:
    if scheme == "int8":
        rows, columns = weight.q.shape
        arrays, about = {"codes": weight.q, "scale": weight.scale.expand(rows)}, {}
    elif scheme == "int4" and weight.columns % weight.group_size == 0:
        rows, columns = len(weight.packed), weight.columns
        arrays = {"codes": weight.packed, "scale": weight.scale, "zero": weight.zero}
        about = {"group": weight.group_size}
    else:
        raise ValueError(f"{name}: expected int8, or int4 in whole groups, got {scheme}")
    return name, scheme, _shape(name, rows, columns), arrays, about


def _plain(name: str, weight: Tensor) -> Weight:
    half = weight.detach().to(torch.bfloat16)
    if not torch.equal(half.to(weight.dtype), weight):
        raise ValueError(f"{name}: expected values that bfloat16 holds exactly, as those of the checkpoint")
    return name, "bf16", _shape(name, *weight.shape), {"codes": half}, {}


def _shape(name: str, *shape: int) -> list[int]:
    if shape[-1] % UNROLLED:
        raise ValueError(f"{name}: expected a multiple of {UNROLLED} columns, got {shape[-1]}")
    return list(shape)


def _bytes(values: Tensor) -> bytes:
    """In the order of rows, little-endian; numpy has no bfloat16, so its bits go as integers."""
    values = values.detach().cpu().contiguous()
    array = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


# --- the tokenizer -------------------------------------------------------------------------------------


def vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What tokenizer.js needs of a ``tokenizer.json``: bytes, merges in order, special tokens, classes.

    Raises  ValueError: another kind of tokenizer, or another pattern than the one that tokenizer.js follows
    """
    _require_known(tokenizer)
    tokens = tokenizer["model"]["vocab"]
    signs = _byte_signs()
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in tokenizer["model"]["merges"]]
    return {
        "size": len(tokens),
        "bytes": [tokens[sign] for sign in signs],
        "merges": [[tokens[left], tokens[right], tokens[left + right]] for left, right in merges],
        "special": {added["content"]: added["id"] for added in tokenizer["added_tokens"]},
        "classes": {name: ranges(pattern) for name, pattern in CLASSES.items()},
    }


@cache
def ranges(pattern: str) -> tuple[tuple[int, int], ...]:
    """(first, last) of the code points that a class matches in the `tokenizers` library: the one that counts.

    >>> ranges("[a-cx]")
    ((97, 99), (120, 120))
    """
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(f"(?:{pattern})+"), "removed", invert=True)
    found: list[tuple[int, int]] = []
    for page in range(0, 0x110000, PAGE):
        if 0xD800 <= page < 0xE000:  # halves of surrogate pairs are no characters
            continue
        for _, (start, end) in split.pre_tokenize_str("".join(map(chr, range(page, page + PAGE)))):
            joins = found and found[-1][1] == page + start - 1
            found.append((found.pop()[0] if joins else page + start, page + end - 1))
    return tuple(found)


def _byte_signs() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: itself if it can be seen.

    Source  GPT-2's encoder.py, bytes_to_unicode
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


def _require_known(tokenizer: Mapping[str, Any]) -> None:
    model, before = tokenizer["model"], tokenizer["pre_tokenizer"]
    plain = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    switches = ("fuse_unk", "byte_fallback", "ignore_merges")
    if model["type"] != "BPE" or any(model.get(key) for key in plain + switches):
        raise ValueError(f"tokenizer: expected plain byte-level BPE, got {model['type']} with options")
    if tokenizer.get("normalizer") or tokenizer.get("post_processor"):
        raise ValueError("tokenizer: expected no normalizer and no post-processor")
    steps = before.get("pretokenizers", [before])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    if (
        len(steps) != 2
        or steps[0]
        != {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
        or not byte_level.items() <= steps[1].items()
    ):
        raise ValueError(f"pre_tokenizer: expected the pattern {PATTERN}, then bytes; got {steps}")
    for added in tokenizer["added_tokens"]:
        if any(added[key] for key in ("single_word", "lstrip", "rstrip", "normalized")):
            raise ValueError(f"added_tokens: expected {added['content']!r} without options")


def _script(name: str, content: Any) -> bytes:
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)  # ASCII, whatever is in it
    where = "(window.teachkitWeights = window.teachkitWeights || {})"
    return f"{where}[{json.dumps(name)}] = {text};\n".encode("ascii")
