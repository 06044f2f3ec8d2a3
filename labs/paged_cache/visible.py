"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def a_few(s, draw):
    s.see("blocks for 17 tokens, 16 slots each", s.blocks_for(17, 16))
    s.see("the empty share of 16 and 17 tokens", s.waste([16, 17], 16))


@visible("q2")
def give_and_take(s, draw):
    pool = s.BlockPool(3)
    s.see("the first block", pool.allocate())
    s.see("the second", pool.allocate())
    pool.release(s.value(0))
    s.see("after block 0 was released", pool.allocate())
    s.see("free blocks", s.get(pool, "n_free"))


@visible("q2")
def twice(s, draw):
    pool = s.BlockPool(2)
    pool.allocate()
    pool.release(0)
    s.see("released twice", pool.release(0))


@visible("q3")
def growing(s, draw):
    table = s.BlockTable(s.BlockPool(4), 4)
    table.reserve(6)
    s.see("blocks for 6 tokens", s.get(table, "blocks"))
    table.reserve(2)
    s.see("blocks for 8 tokens", s.get(table, "blocks"))
    s.see("where token 5 lies", table.place(5))
    table.truncate(4)
    s.see("blocks after all but 4 are forgotten", s.get(table, "blocks"))


@visible("q4")
def two_blocks(s, draw):
    pool = torch.arange(12.0).reshape(3, 1, 2, 2)
    s.see("three tokens in blocks 2 and 0", s.gather(pool, [2, 0], 3))


@visible("q5")
def a_fork_writes(s, draw):
    one = s.BlockTable(s.BlockPool(4), 4)
    one.reserve(6)
    other = one.fork()
    s.see("the fork's blocks", s.get(other, "blocks"))
    s.see("what is copied when the fork writes", other.reserve(1))
    s.see("the fork's blocks then", s.get(other, "blocks"))
    s.see("what is copied when the first one writes", one.reserve(1))


@visible("q6")
def two_and_a_half(s, draw):
    s.see("the keys of five tokens in blocks of two", s.block_keys([1, 2, 3, 4, 5], 2))
    s.see("blocks that are found", s.shared_prefix(["a", "b", "c"], {"a", "c"}))
