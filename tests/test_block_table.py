"""Block tables: sharing, copy on write, and any sequence of operations against a plain model."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from teachkit.block_table import BlockTable, Copy
from teachkit.blocks import BlockPool, NoFreeBlocks, block_keys, blocks_for
from traces import Memory


def error(words: str, kind: type[Exception] = ValueError):
    return pytest.raises(kind, match=f"^{re.escape(words)}$")


class Text:
    """A sequence with memory: what was stored, and what is read through the table."""

    def __init__(self, memory: Memory, table: BlockTable, tokens=()) -> None:
        self.memory, self.table, self.tokens = memory, table, list(tokens)

    @classmethod
    def of(cls, n_blocks: int, tokens=(), size: int = 4) -> Text:
        text = cls(Memory(n_blocks, size), BlockTable(BlockPool(n_blocks, size)))
        text.store(tokens)
        return text

    def store(self, tokens) -> list[Copy]:
        start = self.table.length
        copies = self.table.reserve(len(tokens))
        self.memory.copy(copies)
        self.memory.write(0, self.table.blocks, start, tokens)
        self.tokens += tokens
        return copies

    def read(self) -> list[int]:
        return self.memory.read(0, self.table.blocks, self.table.length)

    def cut(self, length: int) -> None:
        self.table.truncate(length)
        del self.tokens[length:]

    def fork(self) -> Text:
        return Text(self.memory, self.table.fork(), self.tokens)

    def keys(self) -> list[bytes]:
        return block_keys(self.tokens, self.table.pool.block_size)

    def publish(self) -> None:
        self.table.publish(self.keys(), 0, self.table.length)

    def adopt(self, tokens) -> Text:
        """Another that begins with what is known of these tokens."""
        other = Text(self.memory, BlockTable(self.table.pool))
        n = other.table.adopt(block_keys(tokens, self.table.pool.block_size))
        other.tokens = list(tokens[:n])
        return other


def sound(*texts: Text) -> None:
    for text in texts:
        assert text.read() == text.tokens
    texts[0].table.pool.check()


# --- growing and shrinking -----------------------------------------------------------------------------


def test_a_block_is_taken_when_the_last_one_is_full():
    table = BlockTable(BlockPool(3, 4))
    assert (table.blocks, table.length) == ([], 0)
    used = []
    for _ in range(9):
        assert table.reserve(1) == []
        used.append(table.pool.n_used)
    assert used == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert len(set(table.blocks)) == 3
    assert table.length == 9


def test_missing_is_what_reserve_takes():
    table = BlockTable(BlockPool(20, 4))
    for n in (0, 3, 1, 4, 9, 1, 0, 16):
        missing, free = table.missing(n), table.pool.n_free
        table.reserve(n)
        assert free - table.pool.n_free == missing


def test_missing_counts_the_copy():
    text = Text.of(5, [1, 2, 3, 4, 5, 6])
    other = text.fork()
    assert [text.table.missing(n) for n in (0, 1, 2, 3)] == [0, 1, 1, 2]
    other.cut(0)
    assert [text.table.missing(n) for n in (0, 1, 2, 3)] == [0, 0, 0, 1]


def test_nothing_new_takes_nothing():
    text = Text.of(1, [1, 2])
    other = text.fork()
    assert other.table.reserve(0) == []
    assert other.table.blocks == text.table.blocks


@pytest.mark.parametrize("length", range(11))
def test_truncate(length):
    text = Text.of(3, list(range(10)))
    blocks = list(text.table.blocks)
    text.cut(length)
    assert text.table.blocks == blocks[: blocks_for(length, 4)]
    assert text.table.length == length
    assert text.table.pool.n_used == len(text.table.blocks)
    sound(text)
    text.store([7] * (12 - length))
    sound(text)


def test_the_end_is_given_away_before_the_beginning():
    """A beginning can be of use without its end, an end without its beginning to nobody."""
    text = Text.of(3, list(range(12)))
    text.publish()
    first, second, third = text.table.blocks
    text.cut(0)
    pool = text.table.pool
    assert [pool.allocate() for _ in range(3)] == [third, second, first]


# --- copy on write -------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [0, 1])
def test_fork_then_write(writer):
    """Whoever writes first gets the copy; the other then owns the block alone and writes where it is."""
    text = Text.of(4, [1, 2, 3, 4, 5, 6])
    pair = [text, text.fork()]
    one, other = pair[writer], pair[1 - writer]
    full, last = text.table.blocks
    assert text.table.pool.n_used == 2
    assert one.store([8]) == [Copy(last, one.table.blocks[1], 2)]
    assert one.table.blocks[0] == other.table.blocks[0] == full
    assert other.table.blocks[1] == last != one.table.blocks[1]
    assert other.store([9, 10]) == []
    assert (one.tokens, other.tokens) == ([1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 4, 5, 6, 9, 10])
    sound(one, other)


def test_fork_at_a_border_needs_no_copy():
    text = Text.of(3, [1, 2, 3, 4])
    other = text.fork()
    assert text.store([5]) == other.store([6]) == []
    assert text.table.pool.n_used == 3
    sound(text, other)


def test_three_of_one_past():
    text = Text.of(4, [1, 2])
    texts = [text, text.fork(), text.fork()]
    assert [len(each.store([7 + i])) for i, each in enumerate(texts)] == [1, 1, 0]
    sound(*texts)


def test_a_fork_is_a_table_of_its_own():
    text = Text.of(4, [1, 2, 3, 4, 5])
    other = text.fork()
    text.cut(0)
    assert text.table.pool.n_used == 2
    sound(other)
    other.cut(0)
    assert text.table.pool.n_used == 0


def test_what_is_cut_short_and_written_again_is_withdrawn():
    text = Text.of(2, [1, 2, 3, 4])
    text.publish()
    text.cut(3)
    assert text.table.pool.known(block_keys([1, 2, 3, 4], 4)) == text.table.blocks, "nothing was written yet"
    assert text.store([5]) == []
    assert text.table.pool.known(block_keys([1, 2, 3, 4], 4)) == []
    text.publish()
    assert text.table.pool.known(block_keys([1, 2, 3, 5], 4)) == text.table.blocks
    sound(text)


def test_what_is_cut_short_and_adopted_by_another_is_copied():
    text = Text.of(2, [1, 2, 3, 4])
    text.publish()
    text.cut(2)
    other = text.adopt([1, 2, 3, 4])
    assert other.table.blocks == text.table.blocks
    source = text.table.blocks[0]
    assert text.store([9]) == [Copy(source, text.table.blocks[0], 2)]
    assert other.table.pool.known(block_keys([1, 2, 3, 4], 4)) == other.table.blocks
    sound(text, other)


def test_what_is_cut_short_and_left_can_be_found():
    text = Text.of(2, [1, 2, 3, 4])
    text.publish()
    text.cut(2)
    text.cut(0)
    sound(text.adopt([1, 2, 3, 4]))


# --- known content -------------------------------------------------------------------------------------


def test_adopt_begins_with_what_is_known():
    text = Text.of(6, list(range(10)))
    text.publish()
    other = text.adopt([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert other.table.length == 8, "the last two tokens fill no block"
    assert other.table.blocks == text.table.blocks[:2]
    other.store([30, 31])
    third = text.adopt([0, 1, 2, 3, 4, 5, 6, 9])
    assert third.table.length == 4
    sound(text, other, third)
    assert text.adopt([5]).table.blocks == []


@pytest.mark.parametrize("chunks", [[10], [1] * 10, [3, 3, 4], [4, 4, 2], [7, 1, 2]])
def test_publish_in_chunks(chunks):
    """What fills a block makes it known, in however many chunks, and nothing else does."""
    text, known = Text.of(3), []
    for n in chunks:
        start = text.table.length
        text.store(list(range(start, start + n)))
        text.table.publish(text.keys(), start, text.table.length)
        known.append(sum(map(text.table.pool.is_known, text.table.blocks)))
    ends = [sum(chunks[: i + 1]) for i in range(len(chunks))]
    assert known == [end // 4 for end in ends]
    assert text.table.pool.known(text.keys()) == text.table.blocks[:2]


def test_publish_leaves_alone_what_was_full_before():
    text = Text.of(2, list(range(8)))
    text.table.publish(text.keys(), 4, 8)
    assert [text.table.pool.is_known(block) for block in text.table.blocks] == [False, True]
    text.table.publish(text.keys(), 3, 4)
    assert all(map(text.table.pool.is_known, text.table.blocks))


# --- errors --------------------------------------------------------------------------------------------


def test_reserve_less_than_nothing():
    with error("n_new: expected 0 or more tokens, got -1"):
        BlockTable(BlockPool(1, 4)).reserve(-1)


def test_reserve_more_than_there_is():
    text = Text.of(3, [1, 2, 3])
    before = list(text.table.blocks)
    with error("3 more blocks needed, 2 of 3 free", NoFreeBlocks):
        text.store([0] * 10)
    assert (text.table.blocks, text.table.length, text.table.pool.n_used) == (before, 3, 1)
    text.store([0] * 9)


def test_a_copy_needs_a_block():
    text = Text.of(1, [1, 2])
    other = text.fork()
    with error("1 more blocks needed, 0 of 1 free", NoFreeBlocks):
        other.table.reserve(1)
    assert (other.table.length, other.table.pool.owners(0)) == (2, 2)
    sound(text, other)


@pytest.mark.parametrize("length", [-1, 6])
def test_truncate_elsewhere(length):
    text = Text.of(2, [1, 2, 3, 4, 5])
    with error(f"length: expected 0 to 5 tokens held, got {length}"):
        text.table.truncate(length)
    assert (text.table.length, len(text.table.blocks)) == (5, 2)


def test_adopt_when_not_empty():
    text = Text.of(2, [1, 2, 3, 4])
    text.publish()
    with error("table: expected an empty one, it holds 4 tokens"):
        text.table.adopt(text.keys())
    assert text.table.pool.owners(text.table.blocks[0]) == 1


# --- against a plain model -----------------------------------------------------------------------------


class AgainstDicts(RuleBasedStateMachine):
    """A pool with tables, and beside it dicts that say who owns what, in which order blocks were left, and
    what lies where. Tables and blocks taken by hand share one pool; tokens are few, so contents often agree.
    """

    N_BLOCKS, SIZE = 7, 2
    tokens = st.lists(st.integers(0, 1), max_size=6)
    index = st.integers(0, 99)

    @initialize()
    def start(self):
        self.pool = BlockPool(self.N_BLOCKS, self.SIZE)
        self.memory = Memory(self.N_BLOCKS, self.SIZE)
        self.texts: list[Text] = []
        self.by_hand: list[int] = []
        self.owners: Counter[int] = Counter()
        self.kept: list[int] = []
        self.key_of: dict[int, bytes] = {}
        self.n_keys = 0

    # The model.

    def block_of(self, key):
        return next((block for block, known in self.key_of.items() if known == key), None)

    def took(self, block):
        """A block was allocated: a free one, or the one left longest ago."""
        assert not self.owners[block]
        if self.n_owned() + len(self.kept) < self.N_BLOCKS:
            assert block not in self.kept
        else:
            assert self.kept.pop(0) == block
            del self.key_of[block]
        self.owners[block] = 1

    def left(self, block):
        self.owners[block] -= 1
        if not self.owners[block] and block in self.key_of:
            self.kept.append(block)

    def adopted(self, blocks):
        for block in blocks:
            self.owners[block] += 1
            if block in self.kept:
                self.kept.remove(block)

    def n_owned(self):
        return sum(n > 0 for n in self.owners.values())

    def known(self, keys):
        found = [self.block_of(key) for key in keys]
        return found[: found.index(None)] if None in found else found

    def pick(self, index):
        return self.texts[index % len(self.texts)]

    # Tables.

    @rule(tokens=tokens)
    def adopt(self, tokens):
        text, keys = Text(self.memory, BlockTable(self.pool)), block_keys(tokens, self.SIZE)
        expected = self.known(keys)
        assert text.table.adopt(keys) == len(expected) * self.SIZE
        assert text.table.blocks == expected
        self.adopted(expected)
        text.tokens = tokens[: len(expected) * self.SIZE]
        self.texts.append(text)

    @precondition(lambda self: self.texts)
    @rule(index=index, tokens=tokens)
    def store(self, index, tokens):
        text = self.pick(index)
        before, held = list(text.table.blocks), len(text.tokens) % self.SIZE
        writes_inside = bool(tokens) and held > 0
        copies = writes_inside and self.owners[before[-1]] > 1
        need = blocks_for(len(text.tokens) + len(tokens), self.SIZE) - len(before) + copies
        assert text.table.missing(len(tokens)) == need
        if need > self.N_BLOCKS - self.n_owned():
            with pytest.raises(NoFreeBlocks):
                text.store(tokens)
            assert text.table.blocks == before
            return
        made = text.store(tokens)
        blocks = text.table.blocks
        assert made == ([Copy(before[-1], blocks[len(before) - 1], held)] if copies else [])
        if copies:
            self.took(blocks[len(before) - 1])
            self.left(before[-1])
        elif writes_inside:
            self.key_of.pop(before[-1], None)
        n_same = len(before) - copies
        assert blocks[:n_same] == before[:n_same]
        for block in blocks[len(before) :]:
            self.took(block)

    @precondition(lambda self: self.texts)
    @rule(index=index, share=st.sampled_from([0, 0.3, 0.6, 0.9, 1]))
    def truncate(self, index, share):
        text = self.pick(index)
        blocks, length = list(text.table.blocks), int(share * len(text.tokens))
        text.cut(length)
        for block in reversed(blocks[blocks_for(length, self.SIZE) :]):
            self.left(block)
        if not length:
            self.texts.remove(text)

    @precondition(lambda self: self.texts)
    @rule(index=index)
    def fork(self, index):
        other = self.pick(index).fork()
        self.adopted(other.table.blocks)
        self.texts.append(other)

    @precondition(lambda self: self.texts)
    @rule(index=index, start=st.integers(0, 3))
    def publish(self, index, start):
        text = self.pick(index)
        start = min(start, len(text.tokens))
        text.table.publish(text.keys(), start, len(text.tokens))
        for i in range(start // self.SIZE, len(text.tokens) // self.SIZE):
            key = text.keys()[i]
            if self.block_of(key) is None:
                assert text.table.blocks[i] not in self.key_of
                self.key_of[text.table.blocks[i]] = key

    # Blocks taken by hand. Their content is made up, so no text can adopt them.

    @rule()
    def allocate(self):
        if self.n_owned() == self.N_BLOCKS:
            with pytest.raises(NoFreeBlocks):
                self.pool.allocate()
            return
        block = self.pool.allocate()
        self.took(block)
        self.by_hand.append(block)

    @precondition(lambda self: self.by_hand)
    @rule(index=index)
    def share(self, index):
        block = self.by_hand[index % len(self.by_hand)]
        self.pool.share(block)
        self.owners[block] += 1
        self.by_hand.append(block)

    @precondition(lambda self: self.by_hand)
    @rule(index=index)
    def release(self, index):
        block = self.by_hand.pop(index % len(self.by_hand))
        self.pool.release(block)
        self.left(block)

    @precondition(lambda self: self.by_hand)
    @rule(index=index, again=st.booleans())
    def publish_by_hand(self, index, again):
        block = self.by_hand[index % len(self.by_hand)]
        self.n_keys += not again
        key = self.n_keys.to_bytes(32, "big")
        if self.key_of.get(block, key) != key:
            with pytest.raises(ValueError, match="known by another content"):
                self.pool.publish(block, key)
            return
        self.pool.publish(block, key)
        if self.block_of(key) is None:
            self.key_of[block] = key

    @precondition(lambda self: self.by_hand)
    @rule(index=index)
    def withdraw(self, index):
        block = self.by_hand[index % len(self.by_hand)]
        self.pool.withdraw(block)
        self.key_of.pop(block, None)

    @precondition(lambda self: self.n_keys)
    @rule(index=index)
    def adopt_by_hand(self, index):
        key = (1 + index % self.n_keys).to_bytes(32, "big")
        expected = self.known([key])
        assert self.pool.adopt([key]) == expected
        self.adopted(expected)
        self.by_hand += expected

    @rule(block=st.integers(-2, N_BLOCKS + 1), method=st.sampled_from(["share", "release", "withdraw"]))
    def not_owned(self, block, method):
        if not self.owners[block]:
            with pytest.raises(ValueError, match="block"):
                getattr(self.pool, method)(block)

    # What must hold.

    @invariant()
    def same_state(self):
        if not hasattr(self, "pool"):  # hypothesis asks before start() too
            return
        pool = self.pool
        pool.check()
        assert [pool.owners(block) for block in range(self.N_BLOCKS)] == [
            self.owners[block] for block in range(self.N_BLOCKS)
        ]
        assert pool.n_used == self.n_owned()
        assert pool.n_free == self.N_BLOCKS - self.n_owned()
        assert pool.n_kept == len(self.kept)
        for block in range(self.N_BLOCKS):
            assert pool.is_known(block) == (block in self.key_of)
            if block in self.key_of:
                assert pool.known([self.key_of[block]]) == [block]

    @invariant()
    def same_content(self):
        for text in getattr(self, "texts", []):
            assert text.table.length == len(text.tokens)
            assert text.read() == text.tokens


AgainstDicts.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAgainstDicts = AgainstDicts.TestCase


def test_five_hundred_texts_in_a_small_pool():
    """Many more operations than the state machine's, of tables only; each text says what was stored."""
    rng, size = Random(0), 3
    memory, pool, texts = Memory(12, size), BlockPool(12, size), []
    seen: Counter[str] = Counter()
    for _ in range(500):
        begin = [rng.randrange(2) for _ in range(rng.randrange(9))]
        texts.append(Text(memory, BlockTable(pool)).adopt(begin))
        seen["adopted"] += texts[-1].table.length > 0
        for _ in range(4):
            text = rng.choice(texts)
            try:
                seen["copied"] += len(text.store([rng.randrange(2) for _ in range(rng.randrange(6))]))
            except NoFreeBlocks:
                seen["full"] += 1
                texts.pop(rng.randrange(len(texts))).cut(0)
            text = rng.choice(texts) if texts else text
            if rng.random() < 0.3:
                text.cut(rng.randint(0, len(text.tokens)))
            if rng.random() < 0.3 and text in texts:
                texts.append(text.fork())
            text.publish()
            for each in texts:
                assert each.read() == each.tokens
            pool.check()
            if not texts:
                break
        texts = [text for text in texts if text.table.length] or [Text(memory, BlockTable(pool))]
    assert min(seen[name] for name in ("adopted", "copied", "full")) > 50, seen
