"""Plain data on a pipe: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from teachgrade.values import (
    DTYPES,
    LENGTHS,
    MOST_BLOB,
    MOST_HEADER,
    Other,
    Raised,
    Ref,
    WireError,
    from_json,
    pack,
    read,
    to_json,
    unpack,
)


def through(value):
    return read(io.BytesIO(pack(value)))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_through_with_their_types(value):
    assert repr(through(value)) == repr(value)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3, 5)], ids=str)
def test_tensors_bit_for_bit(name, shape):
    dtype = DTYPES[name]
    made = torch.randn(shape) * 10 if dtype.is_floating_point else torch.randint(0, 2, shape)
    value = made.to(dtype)
    found = through([value])[0]
    assert (found.dtype, found.shape) == (dtype, value.shape)
    assert torch.equal(found, value)


def test_views_parameters_and_gradients_come_as_plain_tensors():
    base = torch.arange(12.0).reshape(3, 4)
    for value in (
        base.T,
        base[::2, 1:],
        base.expand(2, 3, 4),
        torch.nn.Parameter(base),
        base.clone().requires_grad_() * 2,
    ):
        found = through(value)
        assert type(found) is torch.Tensor
        assert not found.requires_grad
        assert torch.equal(found, value.detach())


def test_nan_and_infinity():
    found = through([math.nan, math.inf, -math.inf, torch.tensor([math.nan, 1.0])])
    assert math.isnan(found[0])
    assert found[1:3] == [math.inf, -math.inf]
    assert found[3].isnan().tolist() == [True, False]


class Odd:
    def __eq__(self, other):
        return True

    __hash__ = None

    def __reduce__(self):
        return print, ("unpickled",)


class Text(str):
    pass


class Mine(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Odd(),
        Text("x"),
        torch.ones(2).as_subclass(Mine),
        torch.empty(2, device="meta"),
        torch.eye(2).to_sparse(),
        print,
        3j,
        b"bytes",
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_only_named(value):
    assert isinstance(through([value])[0], Other)


def test_names_of_our_own():
    for value in (Ref(3), Raised(("A", "ValueError"), "why", "line 3"), Other("x.Y")):
        assert through(value) == value


def test_as_json_for_files():
    value = {"a": [torch.ones(2, 3), (1, None)], 2: {3}}
    found = from_json(json.loads(json.dumps(to_json(value))))
    assert torch.equal(found["a"][0], value["a"][0])
    assert (found["a"][1], found[2]) == ((1, None), {3})


def deep(n):
    value = []
    for _ in range(n):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [deep(30), deep(100_000), list(range(300_000))], ids=["deep", "deeper", "long"]
)
def test_too_much_is_not_sent(value):
    with pytest.raises(WireError, match="value"):
        pack(value)


def test_a_list_that_holds_itself():
    value = []
    value.append(value)
    with pytest.raises(WireError):
        pack(value)


def message(tree, blob=b""):
    return json.dumps(tree).encode(), blob


TENSOR = {"dtype": "float32", "shape": [2], "at": 0}


@pytest.mark.parametrize(
    ("header", "blob"),
    [
        (b"", b""),
        (b"{", b""),
        (b"\xff\xfe", b""),
        (b"NaN", b""),
        (b"[" * 100_000, b""),
        message({"unknown": 1}),
        message({"int": 3}),
        message({"int": "3x"}),
        message({"float": "1.0"}),
        message({"ref": -1}),
        message({"ref": True}),
        message({"dict": [[1]]}),
        message({"dict": [[[], 1]]}),
        message({"set": [[]]}),
        message({"int": "1", "float": "nan"}),
        message({"tensor": TENSOR}, b"1234567"),
        message({"tensor": TENSOR | {"at": 4}}, b"12345678"),
        message({"tensor": TENSOR | {"shape": [-2]}}, b"12345678"),
        message({"tensor": TENSOR | {"shape": [2**40, 2**40]}}, b"12345678"),
        message({"tensor": TENSOR | {"shape": [1] * 17}}, b"12345678"),
        message({"tensor": TENSOR | {"dtype": "complex64"}}, b"12345678"),
        message({"tensor": TENSOR | {"shape": "2"}}, b"12345678"),
        message({"raised": {"types": "ValueError", "message": "", "line": ""}}),
        message({"raised": {}}),
        message(deep(60)),
    ],
)
def test_lies_are_refused(header, blob):
    with pytest.raises(WireError):
        unpack(header, blob)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_are_a_value_or_refused(header, blob):
    with contextlib.suppress(WireError):
        unpack(header, blob)


def test_a_pickle_is_not_opened():
    with pytest.raises(WireError):
        unpack(pickle.dumps(Odd()), b"")


@pytest.mark.parametrize("lengths", [(MOST_HEADER + 1, 0), (2, MOST_BLOB + 1), (2**32 - 1, 2**64 - 1)])
def test_announced_lengths_are_checked_before_anything_is_read(lengths):
    with pytest.raises(WireError, match="announced"):
        read(io.BytesIO(LENGTHS.pack(*lengths)))


@pytest.mark.parametrize("cut", [0, 3, LENGTHS.size, LENGTHS.size + 1])
def test_a_pipe_that_ends(cut):
    with pytest.raises(EOFError):
        read(io.BytesIO(pack([1, 2])[:cut]))


def test_booleans_of_any_byte():
    found = unpack(*message({"tensor": {"dtype": "bool", "shape": [3], "at": 0}}, b"\x00\x01\x07"))
    assert found.tolist() == [False, True, True]
