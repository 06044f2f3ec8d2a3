"""Blocks: their states, the order in which they are given away, and what makes two contents the same.

The oracle for any sequence of operations, a plain model, is in tests/test_block_table.py.
"""

from __future__ import annotations

import gc
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teachkit.blocks import BlockPool, NoFreeBlocks, block_keys, blocks_for

A, B, C = (bytes([letter]) * 32 for letter in b"ABC")


def error(words: str, kind: type[Exception] = ValueError):
    """The words of an error, all of them."""
    return pytest.raises(kind, match=f"^{re.escape(words)}$")


def kept(*keys: bytes, n_blocks: int | None = None) -> tuple[BlockPool, list[int]]:
    """A pool with a block for each key, all left, the first one first."""
    pool = BlockPool(n_blocks or len(keys), 4)
    blocks = [pool.allocate() for _ in keys]
    for block, key in zip(blocks, keys, strict=True):
        pool.publish(block, key)
    for block in blocks:
        pool.release(block)
    return pool, blocks


# --- free, owned, kept ---------------------------------------------------------------------------------


def test_at_first_all_are_free():
    pool = BlockPool(3, 4)
    assert (pool.n_blocks, pool.block_size) == (3, 4)
    assert (pool.n_free, pool.n_used, pool.n_kept) == (3, 0, 0)
    assert [pool.owners(block) for block in range(3)] == [0, 0, 0]
    assert not any(pool.is_known(block) for block in range(3))
    pool.check()


def test_each_block_is_given_once():
    pool = BlockPool(5, 4)
    given = [pool.allocate() for _ in range(5)]
    assert sorted(given) == [0, 1, 2, 3, 4]
    assert (pool.n_free, pool.n_used) == (0, 5)
    assert [pool.owners(block) for block in given] == [1] * 5


def test_a_pool_of_one():
    pool = BlockPool(1, 1)
    assert pool.allocate() == 0
    pool.release(0)
    assert pool.allocate() == 0


def test_the_last_one_left_is_given_first():
    """It is the most likely one to lie in the processor's cache."""
    pool = BlockPool(5, 4)
    blocks = [pool.allocate() for _ in range(5)]
    for block in (blocks[3], blocks[1], blocks[4]):
        pool.release(block)
    assert [pool.allocate() for _ in range(3)] == [blocks[4], blocks[1], blocks[3]]


def test_a_block_is_free_after_its_last_owner():
    pool = BlockPool(2, 4)
    block = pool.allocate()
    pool.share(block)
    pool.share(block)
    assert pool.owners(block) == 3
    assert pool.n_used == 1, "it counts once, whoever owns it"
    for left in (2, 1, 0):
        assert pool.n_used == 1
        pool.release(block)
        assert pool.owners(block) == left
    assert (pool.n_free, pool.n_used) == (2, 0)
    pool.check()


def test_a_known_block_is_kept():
    pool, (block,) = kept(A, n_blocks=2)
    assert (pool.n_free, pool.n_used, pool.n_kept) == (2, 0, 1)
    assert pool.is_known(block)
    assert pool.known([A]) == [block]
    assert pool.owners(block) == 0, "to be found is not to be owned"
    pool.check()


def test_kept_blocks_are_given_last_the_one_left_longest_ago_first():
    pool, (a, b) = kept(A, B, n_blocks=3)
    unknown = pool.allocate()
    assert unknown not in (a, b)
    assert pool.known([A, B]) == [a, b]
    assert pool.allocate() == a
    assert (pool.known([A]), pool.known([B])) == ([], [b])
    assert not pool.is_known(a)
    assert pool.allocate() == b
    assert (pool.n_kept, pool.n_free) == (0, 0)
    pool.check()


def test_to_be_used_again_makes_a_block_young():
    pool, (a, b, c) = kept(A, B, C)
    assert pool.adopt([A]) == [a]
    pool.release(a)
    assert [pool.allocate() for _ in range(3)] == [b, c, a]


def test_a_block_given_away_is_not_found_when_it_comes_back():
    pool, (a,) = kept(A)
    assert pool.allocate() == a
    pool.release(a)
    assert pool.n_kept == 0
    assert pool.known([A]) == []
    pool.publish(pool.allocate(), B)
    assert pool.known([B]) == [a]


# --- content -------------------------------------------------------------------------------------------


def test_known_stops_where_the_first_is_missing():
    pool, (a, c) = kept(A, C)
    assert pool.known([A, B, C]) == [a]
    assert pool.known([B, A, C]) == []
    assert pool.known([A, C]) == [a, c]
    assert pool.known([]) == []


def test_adopt_owns_what_is_known():
    pool, (a, b) = kept(A, B)
    assert pool.adopt([A, C]) == [a]
    assert (pool.owners(a), pool.owners(b)) == (1, 0)
    assert (pool.n_kept, pool.n_used) == (1, 1)
    assert pool.adopt([A, B]) == [a, b]
    assert (pool.owners(a), pool.owners(b)) == (2, 1)
    assert pool.n_kept == 0
    pool.check()


def test_of_two_with_the_same_content_the_first_stays_known():
    pool = BlockPool(2, 4)
    first, second = pool.allocate(), pool.allocate()
    pool.publish(first, A)
    pool.publish(second, A)
    assert pool.known([A]) == [first]
    assert not pool.is_known(second)
    pool.release(second)
    assert pool.n_kept == 0, "the second is free: nobody could find it"
    pool.release(first)
    assert pool.n_kept == 1
    pool.check()


def test_to_publish_twice_changes_nothing():
    pool = BlockPool(1, 4)
    block = pool.allocate()
    for _ in range(2):
        pool.publish(block, A)
        assert pool.known([A]) == [block]
        pool.check()


def test_withdraw():
    pool = BlockPool(2, 4)
    block = pool.allocate()
    pool.withdraw(block)  # it was not known: nothing happens
    pool.publish(block, A)
    pool.withdraw(block)
    assert not pool.is_known(block)
    assert pool.known([A]) == []
    assert pool.owners(block) == 1
    pool.publish(block, B)
    assert pool.known([B]) == [block]
    pool.check()


# --- errors: each says what is wrong, and changes nothing -----------------------------------------------


@pytest.mark.parametrize(("n_blocks", "block_size"), [(0, 4), (-1, 4), (4, 0), (4, -1)])
def test_sizes_below_one(n_blocks, block_size):
    with error(f"n_blocks, block_size: expected at least 1, got {n_blocks} and {block_size}"):
        BlockPool(n_blocks, block_size)


def test_no_free_blocks():
    pool = BlockPool(2, 4)
    pool.allocate()
    pool.allocate()
    with error("all 2 blocks have an owner", NoFreeBlocks):
        pool.allocate()
    assert pool.n_used == 2
    pool.check()


@pytest.mark.parametrize("block", [-1, 3, 10])
@pytest.mark.parametrize("method", ["owners", "is_known", "share", "release", "publish", "withdraw"])
def test_a_block_of_another_pool(method, block):
    pool = BlockPool(3, 4)
    pool.allocate()
    with error(f"block: expected 0 to 2, got {block}"):
        getattr(pool, method)(block, *([A] if method == "publish" else []))
    assert pool.n_used == 1
    pool.check()


@pytest.mark.parametrize("method", ["share", "release", "publish", "withdraw"])
@pytest.mark.parametrize("known", [False, True])
def test_a_block_without_an_owner(method, known):
    pool = BlockPool(2, 4)
    block = pool.allocate()
    if known:
        pool.publish(block, A)
    pool.release(block)
    with error(f"block {block}: expected a block that somebody owns; it has been released"):
        getattr(pool, method)(block, *([A] if method == "publish" else []))
    assert (pool.n_free, pool.n_kept, pool.owners(block)) == (2, known, 0)
    pool.check()


def test_two_contents_for_one_block():
    pool = BlockPool(1, 4)
    block = pool.allocate()
    pool.publish(block, A)
    with error(f"block {block}: expected to be unknown, it is known by another content"):
        pool.publish(block, B)
    assert (pool.known([A]), pool.known([B])) == ([block], [])


# --- check() notices -----------------------------------------------------------------------------------


def lost(pool):
    pool._free.pop()


def twice(pool):
    pool._free.append(pool._free[0])


def owned_and_free(pool):
    pool._free[0] = 2


def kept_and_free(pool):
    pool._kept[pool._free[0]] = None


def fewer_than_none(pool):
    pool._owners[pool._free.pop()] = -1


def somewhere_else(pool):
    pool._block_of[A] = 1


def known_to_nobody(pool):
    pool._block_of.clear()


def kept_unknown(pool):
    pool._kept[pool._free.pop()] = None


def free_known(pool):
    pool._key_of[pool._free[0]], pool._block_of[B] = B, pool._free[0]


FAULTS = [
    lost, twice, owned_and_free, kept_and_free, fewer_than_none, somewhere_else, known_to_nobody,
    kept_unknown, free_known,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_check_notices(fault):
    pool = BlockPool(5, 4)
    given = [pool.allocate() for _ in range(3)]
    pool.publish(given[0], A)
    pool.publish(given[1], C)
    pool.release(given[1])
    assert given == [0, 1, 2]
    pool.check()
    fault(pool)
    with pytest.raises(AssertionError):
        pool.check()


# --- the same time in any pool -------------------------------------------------------------------------


def forbidden(self, *_args, **_kwargs):
    raise AssertionError(f"went through all of a {type(self).__name__}")


class NoScanList(list):
    """A list that only its ends and single places may be reached of."""

    __iter__ = __reversed__ = __contains__ = __add__ = __eq__ = forbidden  # type: ignore[assignment]
    index = remove = count = insert = copy = sort = reverse = forbidden  # type: ignore[assignment]

    def pop(self, index=-1):
        assert index == -1, "all that follow would have to move"
        return super().pop()

    def __getitem__(self, index):
        assert isinstance(index, int)
        return super().__getitem__(index)


class NoScanDict(dict):
    __iter__ = keys = values = items = copy = __eq__ = forbidden  # type: ignore[assignment]


class NoScanOrderedDict(OrderedDict):
    keys = values = items = copy = __eq__ = forbidden  # type: ignore[assignment]


def without_scans(pool: BlockPool) -> BlockPool:
    """The same pool, but whatever goes through a whole container of it fails, even in C."""
    for name, value in vars(pool).items():
        if isinstance(value, OrderedDict):
            setattr(pool, name, NoScanOrderedDict(value))
        elif isinstance(value, dict):
            setattr(pool, name, NoScanDict(value))
        elif isinstance(value, list):
            setattr(pool, name, NoScanList(value))
    return pool


@contextmanager
def counted_instructions():
    """A list of one number: bytecode instructions that ran within."""
    count, before = [0], sys.gettrace()

    def trace(frame, event, _arg):
        frame.f_trace_opcodes = True
        count[0] += event == "opcode"
        return trace

    gc.disable()  # what other tests left behind may have finalizers, and those are Python, too
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)
        gc.enable()


def instructions(operations: dict[str, Callable[[], object]]) -> dict[str, int]:
    """How many each operation takes, in this order."""
    counts = {}
    for name, operation in operations.items():
        with counted_instructions() as count:
            operation()
        counts[name] = count[0]
    return counts


def instructions_of_each_method(n_blocks: int, n_kept: int) -> dict[str, int]:
    keys = [i.to_bytes(32, "big") for i in range(n_kept)]
    pool = without_scans(kept(*keys, n_blocks=n_blocks)[0])
    a = pool.allocate()
    counts = instructions(
        {
            "allocate a free one": pool.allocate,
            "share": lambda: pool.share(a),
            "release, owned by another": lambda: pool.release(a),
            "publish": lambda: pool.publish(a, A),
            "publish again": lambda: pool.publish(a, A),
            "known": lambda: pool.known([A]),
            "adopt an owned one": lambda: pool.adopt([A]),
            "withdraw": lambda: pool.withdraw(a),
            "release an unknown one": lambda: (pool.release(a), pool.release(a)),
            "adopt a kept one": lambda: pool.adopt(keys[1:2]),
            "release a known one": lambda: pool.release(pool.known(keys[1:2])[0]),
            "numbers": lambda: (pool.n_free, pool.n_used, pool.n_kept, pool.owners(a), pool.is_known(a)),
        }
    )
    full = without_scans(kept(*keys)[0])
    return counts | instructions({"allocate a kept one": full.allocate})


def test_every_operation_takes_the_same_time_in_any_pool():
    """Counted, not timed; a scan within one instruction is noticed by containers that refuse it."""
    small, large = instructions_of_each_method(10, 5), instructions_of_each_method(1_000_000, 2_000)
    assert small == large
    assert min(small.values()) > 10


def test_a_scan_would_be_noticed(monkeypatch):
    monkeypatch.setattr(BlockPool, "n_used", property(lambda self: sum(n > 0 for n in self._owners)))
    with pytest.raises(AssertionError, match="went through all of a NoScanList"):
        instructions_of_each_method(10, 5)


# --- keys ----------------------------------------------------------------------------------------------


def test_blocks_for():
    assert [blocks_for(n, 1) for n in range(4)] == [0, 1, 2, 3]
    assert [blocks_for(n, 16) for n in (0, 1, 15, 16, 17, 32, 33)] == [0, 1, 1, 1, 2, 2, 3]


def test_keys_by_hand():
    first = sha256((7).to_bytes(8, sys.byteorder) + (300).to_bytes(8, sys.byteorder)).digest()
    second = sha256(first + (0).to_bytes(8, sys.byteorder) + (2**40).to_bytes(8, sys.byteorder)).digest()
    assert block_keys([7, 300, 0, 2**40, 5], 2) == [first, second]


tokens = st.lists(st.integers(0, 2), max_size=12)


@settings(max_examples=300, deadline=None)
@given(one=tokens, other=tokens, size=st.integers(1, 4))
def test_a_key_stands_for_all_up_to_the_end_of_its_block(one, other, size):
    """Two keys are equal exactly if everything up to the end of their blocks is."""
    ones, others = block_keys(one, size), block_keys(other, size)
    assert (len(ones), len(others)) == (len(one) // size, len(other) // size)
    for i, key in enumerate(ones, 1):
        for j, another in enumerate(others, 1):
            assert (key == another) == (one[: i * size] == other[: j * size])


def test_what_follows_does_not_matter():
    assert block_keys([1, 2, 3, 4, 5], 2) == block_keys([1, 2, 3, 4, 6, 7], 2)[:2]


def test_an_earlier_token_does():
    """Keys and values depend on all tokens before: equal tokens after another past are another content."""
    begin, other = [0] * 16, [0] * 16
    other[0] = 1
    assert all(a != b for a, b in zip(block_keys(begin, 4), block_keys(other, 4), strict=True))


def test_borders_matter():
    """The same bytes cut in another way, or a block whose tokens spell out a key, are other contents."""
    assert not set(block_keys([1, 2, 3, 4], 1)) & set(block_keys([1, 2, 3, 4], 2))
    assert not set(block_keys([1] * 8, 1)[1:]) & set(block_keys([1] * 8, 1)[:1])
    (key,) = block_keys([1, 2], 2)
    spelt = [int.from_bytes(key[i : i + 8], sys.byteorder, signed=True) for i in range(0, 32, 8)]
    assert block_keys([1, 2, 3, 4], 2)[1] not in block_keys([*spelt, 3, 4], 2)


def test_keys_made_before_are_not_made_again():
    rng = Random(0)
    text = [rng.randrange(50_000) for _ in range(50)]
    whole = block_keys(text, 4)
    for n in range(51):
        begin = block_keys(text[:n], 4)
        assert block_keys(text, 4, begin) == whole
    assert block_keys(text, 4, [A])[0] == A
    assert block_keys(text, 4, [A])[1:] != whole[1:]
    assert begin == whole, "the list that was given is left as it was"
