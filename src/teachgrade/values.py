"""Plain data on a pipe: JSON and raw tensor bytes. What cannot be written so does not cross.

One side of the pipe runs a stranger's code, so whatever comes from there is read as bytes from a stranger:
sizes are checked before anything is made of them, nothing is ever unpickled, and what is rebuilt is a plain
number, string, list or tensor. An object that is none of these crosses as the name of its type.

A message is two lengths (unsigned, little-endian: 4 bytes for the header, 8 for the blob), a header in JSON
and a blob that holds the tensors' bytes. In the header a value is

    null, true, 3, 2.5, "text"    as JSON has them; an integer beyond 64 bits {"int": "..."}
    {"float": "nan"}              or "inf", "-inf"
    [...]                         a list
    {"tuple": [...]}, {"set": [...]}, {"dict": [[key, value], ...]}
    {"tensor": {"dtype": "float32", "shape": [2, 3], "at": 0}}   its bytes in the blob from ``at`` on
    {"ref": 4}                    what operation 4 gave: see :mod:`teachgrade.operations`
    {"raised": {"types": ["CacheFull", "ValueError", ...], "message": "...", "line": 3}}
    {"other": "torch.nn.Module"}  anything else
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LENGTHS = struct.Struct("<IQ")
MOST_DEPTH, MOST_VALUES, MOST_TEXT = 24, 200_000, 100_000
MOST_HEADER, MOST_BLOB = 8 * 2**20, 64 * 2**20
MOST_MEMBERS = 4_096  # of a set or dict: with numbers that collide, time grows with their square
INT64 = 2**63


class WireError(ValueError):
    """A message that is not as this module writes it, or larger than it may be."""


@dataclass(frozen=True)
class Ref:
    """What an earlier operation gave."""

    op: int


@dataclass(frozen=True)
class Raised:
    """An exception, as plain data: the names of its class and their bases, what it said, where.

    line  of the submission in which it was raised, if it was there
    """

    types: tuple[str, ...]
    message: str = ""
    line: str = ""

    @property
    def name(self) -> str:
        return self.types[0] if self.types else "Exception"


@dataclass(frozen=True)
class Other:
    """Something that is no plain data: only the name of its type has come."""

    type_name: str


def pack(value: object) -> bytes:
    """A message. Raises WireError: too large or too deep to be sent."""
    blobs: list[bytes] = []
    try:
        header = json.dumps(_Writer(blobs).write(value), allow_nan=False).encode()
    except RecursionError:
        raise WireError("value: nested too deeply") from None
    blob = b"".join(blobs)
    if len(header) > MOST_HEADER or len(blob) > MOST_BLOB:
        raise WireError(f"message: {len(header):,} and {len(blob):,} bytes are more than may be sent")
    return LENGTHS.pack(len(header), len(blob)) + header + blob


def read(pipe: BinaryIO) -> Any:
    """The next message of a pipe. Raises WireError: not one, too large; EOFError: the pipe has ended."""
    n_header, n_blob = LENGTHS.unpack(_exactly(pipe, LENGTHS.size))
    if n_header > MOST_HEADER or n_blob > MOST_BLOB:
        raise WireError(f"message: announced {n_header:,} and {n_blob:,} bytes, more than may be sent")
    return unpack(_exactly(pipe, n_header), _exactly(pipe, n_blob))


def unpack(header: bytes, blob: bytes) -> Any:
    """The value of a message. Raises WireError."""
    try:
        tree = json.loads(header.decode("utf-8"), parse_constant=_refuse)
        return _Reader(blob).read(tree)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, RuntimeError) as error:
        raise WireError(f"message: {type(error).__name__}: {str(error)[:200]}") from None


def to_json(value: object) -> dict[str, Any]:
    """A value as JSON alone, for files: the same header, and the blob in base64."""
    message = pack(value)
    n_header, _ = LENGTHS.unpack(message[: LENGTHS.size])
    header, blob = message[LENGTHS.size :][:n_header], message[LENGTHS.size + n_header :]
    return {"header": json.loads(header), "blob": base64.b64encode(blob).decode()}


def from_json(found: dict[str, Any]) -> Any:
    """The value again. Raises WireError."""
    return unpack(json.dumps(found["header"]).encode(), base64.b64decode(found["blob"]))


def _refuse(name: str) -> None:
    raise WireError(f"message: {name} is not JSON")


def _exactly(pipe: BinaryIO, n: int) -> bytes:
    parts = []
    while n:
        part = pipe.read(min(n, 2**20))
        if not part:
            raise EOFError("the pipe has ended")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


class _Writer:
    """Python values to the tree that JSON holds. Types are compared exactly: a subclass may lie."""

    def __init__(self, blobs: list[bytes]) -> None:
        self.blobs, self.at, self.left = blobs, 0, MOST_VALUES

    def write(self, value: object, depth: int = 0) -> Any:
        self.left -= 1
        if depth > MOST_DEPTH or self.left < 0:
            raise WireError("value: nested too deeply" if depth > MOST_DEPTH else "value: too many parts")
        writer = _WRITERS.get(type(value))
        if writer is not None:
            return writer(self, value, depth)
        return {"other": _type_name(value)[:200]}

    def text(self, value: str, depth: int) -> str:
        return value[:MOST_TEXT].encode("utf-8", "replace").decode()

    def integer(self, value: int, depth: int) -> Any:
        if -INT64 <= value < INT64:
            return value
        return {"int": str(value)} if value.bit_length() < 4_000 else {"other": "a huge int"}

    def number(self, value: float, depth: int) -> Any:
        return value if math.isfinite(value) else {"float": str(value)}

    def items(self, value: Any, depth: int) -> list[Any]:
        return [self.write(item, depth + 1) for item in value]

    def mapping(self, value: dict[Any, Any], depth: int) -> Any:
        return {"dict": [[self.write(k, depth + 1), self.write(v, depth + 1)] for k, v in value.items()]}

    def tensor(self, value: torch.Tensor, depth: int) -> Any:
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in NAMES:
            return {"other": f"a tensor of {value.dtype}, {value.layout}, on {value.device}"}
        plain = value.detach().resolve_conj().resolve_neg().contiguous()
        if plain.numel() * plain.itemsize + self.at > MOST_BLOB:
            raise WireError("value: more bytes of tensors than may be sent")
        raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        self.blobs.append(raw)
        self.at += len(raw)
        found = {"dtype": NAMES[plain.dtype], "shape": list(plain.shape), "at": self.at - len(raw)}
        return {"tensor": found}


_WRITERS: dict[type, Callable[[_Writer, Any, int], Any]] = {
    type(None): lambda _, value, depth: value,
    bool: lambda _, value, depth: value,
    int: _Writer.integer,
    float: _Writer.number,
    str: _Writer.text,
    list: _Writer.items,
    tuple: lambda w, value, depth: {"tuple": w.items(value, depth)},
    set: lambda w, value, depth: {"set": w.items(sorted(value, key=repr), depth)},
    frozenset: lambda w, value, depth: {"set": w.items(sorted(value, key=repr), depth)},
    dict: _Writer.mapping,
    torch.Size: lambda w, value, depth: {"tuple": w.items(value, depth)},
    torch.Tensor: _Writer.tensor,
    torch.nn.Parameter: _Writer.tensor,
    torch.dtype: lambda w, value, depth: str(value),
    Ref: lambda _, value, depth: {"ref": value.op},
    Raised: lambda w, value, depth: {
        "raised": {
            "types": [w.text(name, depth)[:200] for name in value.types[:20]],
            "message": w.text(value.message, depth)[:2_000],
            "line": w.text(value.line, depth)[:500],
        }
    },
    Other: lambda w, value, depth: {"other": w.text(value.type_name, depth)[:200]},
}


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


class _Reader:
    """The tree back to Python values; everything in it may be a lie."""

    def __init__(self, blob: bytes) -> None:
        self.blob, self.left, self.at = blob, MOST_VALUES, 0

    def read(self, tree: Any, depth: int = 0) -> Any:
        self.left -= 1
        if depth > MOST_DEPTH or self.left < 0:
            raise WireError("message: nested too deeply, or too many parts")
        if isinstance(tree, list):
            return [self.read(item, depth + 1) for item in tree]
        if isinstance(tree, dict):
            if len(tree) != 1:
                raise WireError(f"message: expected an object with one member, got {len(tree)}")
            ((kind, inner),) = tree.items()
            reader = _READERS.get(kind)
            if reader is None:
                raise WireError(f"message: unknown kind of value {kind[:40]!r}")
            return reader(self, inner, depth)
        return _clean(tree) if isinstance(tree, str) else tree

    def items(self, inner: Any, depth: int) -> list[Any]:
        return [self.read(item, depth + 1) for item in _expect(inner, list)]

    def mapping(self, inner: Any, depth: int) -> dict[Any, Any]:
        pairs = [self.items(pair, depth) for pair in _members(inner)]
        return {key: value for key, value in pairs}  # noqa: C416, two of each, or ValueError

    def tensor(self, inner: Any, depth: int) -> torch.Tensor:
        inner = _expect(inner, dict)
        dtype, shape, at = DTYPES[inner["dtype"]], _expect(inner["shape"], list), _whole(inner["at"])
        if len(shape) > 16:
            raise WireError("message: a tensor of too many dimensions")
        n_bytes = math.prod(map(_whole, shape)) * dtype.itemsize
        if at != self.at or at + n_bytes > len(self.blob):
            # One behind the other, as they were written: a small message would become a large one.
            raise WireError("message: a tensor that is not where it should be")
        self.at += n_bytes
        if not n_bytes:
            return torch.empty(shape, dtype=dtype)
        # A copy, since the bytes are not writable. Any byte is a number, but of a bool only two are.
        raw = torch.frombuffer(bytearray(self.blob[at : at + n_bytes]), dtype=torch.uint8)
        found = raw.ne(0) if dtype == torch.bool else raw.view(dtype)
        return found.reshape(shape)

    def raised(self, inner: Any, depth: int) -> Raised:
        inner = _expect(inner, dict)
        types = tuple(_text(name, 200) for name in _expect(inner["types"], list)[:20])
        return Raised(types, _text(inner["message"], 2_000), _text(inner["line"], 500))


_READERS: dict[str, Callable[[_Reader, Any, int], Any]] = {
    "int": lambda _, inner, depth: int(_expect(inner, str)[:1_300]),
    "float": lambda _, inner, depth: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[inner],
    "tuple": lambda r, inner, depth: tuple(r.items(inner, depth)),
    "set": lambda r, inner, depth: set(r.items(_members(inner), depth)),
    "dict": _Reader.mapping,
    "tensor": _Reader.tensor,
    "ref": lambda _, inner, depth: Ref(_whole(inner)),
    "raised": _Reader.raised,
    "other": lambda _, inner, depth: Other(_text(inner, 200)),
}


def _members(inner: Any) -> list[Any]:
    if len(_expect(inner, list)) > MOST_MEMBERS:
        raise WireError(f"message: a set or dict of more than {MOST_MEMBERS:,} members")
    return list(inner)


def _clean(text: str) -> str:
    """Text that can be written: half of a surrogate pair cannot."""
    return text.encode("utf-8", "replace").decode()


def _text(value: Any, most: int) -> str:
    return _clean(_expect(value, str)[:most])


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise WireError(f"message: expected a {kind.__name__}, got a {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise WireError("message: expected a whole number")
    return value
