"""The account of rows: what is reserved, what is refused, and which positions come next."""

from __future__ import annotations

import pytest
import torch

from conftest import tiny_config
from teachkit.rows import CacheFull, Rows


def rows(batch=3, capacity=7, context=53):
    return Rows(tiny_config(context=context), batch, capacity)


def test_reserve_by_hand():
    held = rows()
    held.reserve([2, 0, 4])
    new = held.reserve([3, 1, 0])
    assert (new.starts, new.counts, new.ends) == ([2, 0, 4], [3, 1, 0], [5, 1, 4])
    assert new.positions[0].tolist() == [2, 3, 4]
    assert new.positions[1].tolist()[0] == 0
    assert new.valid.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert held.lengths.tolist() == [5, 1, 4]


def test_what_was_reserved_does_not_change_later():
    held = rows()
    first = held.reserve([1, 2, 3])
    held.reserve([1, 1, 1])
    held.truncate(2, 0)
    assert (first.starts, first.ends) == ([0, 0, 0], [1, 2, 3])
    assert held.lengths.tolist() == [2, 3, 0]


@pytest.mark.parametrize(
    ("earlier", "n_new", "aligned"),
    [([1, 1, 1], [2, 2, 2], True), ([1, 1, 2], [2, 2, 2], False), ([1, 1, 1], [2, 2, 1], False)],
)
def test_aligned(earlier, n_new, aligned):
    held = rows()
    held.reserve(earlier)
    assert held.reserve(n_new).aligned is aligned


def test_positions_of_padding_exist():
    held = rows(2, capacity=5)
    held.reserve([4, 0])
    assert held.reserve([1, 5]).positions.tolist() == [[4, 4, 4, 4, 4], [0, 1, 2, 3, 4]]


def test_counts_may_be_a_tensor():
    held = rows()
    held.reserve(torch.tensor([1, 2, 3]))
    assert held.lengths.tolist() == [1, 2, 3]


def test_full_names_the_row_and_the_remedy():
    held = rows(2, capacity=7)
    held.reserve([7, 4])
    with pytest.raises(
        CacheFull,
        match="row 1: 4 tokens held and 4 new exceed the capacity of 7; make the cache larger or truncate",
    ):
        held.reserve([0, 4])
    assert held.lengths.tolist() == [7, 4]


def test_full_at_the_context_knows_that_no_cache_is_larger():
    held = rows(1, capacity=7, context=7)
    with pytest.raises(CacheFull, match="capacity of 7, the model's whole context; truncate the row"):
        held.reserve([8])


@pytest.mark.parametrize("n_new", [[1], [], [2, -1, 1], [0, 0, 0]], ids=str)
def test_counts_that_make_no_plan(n_new):
    held = rows()
    with pytest.raises(ValueError, match="n_new: expected 3 counts, none negative and not all 0; got "):
        held.reserve(n_new)
    assert held.lengths.tolist() == [0, 0, 0]


def test_size_of_one_is_enough():
    held = rows(1, capacity=1)
    assert held.reserve([1]).ends == [1]
    assert held.capacity == 1


def test_lives_on_the_device_given():
    held = Rows(tiny_config(), 2, 7, "meta")
    new = held.reserve([3, 1])
    assert held.lengths.device.type == new.positions.device.type == new.valid.device.type == "meta"


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_only_shortens(length):
    held = rows()
    held.reserve([5, 3, 1])
    with pytest.raises(ValueError, match=rf"length: expected 0 to 3 \(held by row 1\), got {length}"):
        held.truncate(1, length)
    held.truncate(1, 2)
    assert held.lengths.tolist() == [5, 2, 1]


@pytest.mark.parametrize(("batch", "capacity"), [(0, 5), (2, 0)])
def test_sizes_below_one(batch, capacity):
    with pytest.raises(ValueError, match=f"batch, capacity: expected at least 1, got {batch} and {capacity}"):
        rows(batch, capacity)


def test_capacity_beyond_the_context():
    with pytest.raises(ValueError, match="capacity: expected at most the model's context of 7 tokens, got 8"):
        rows(capacity=8, context=7)
