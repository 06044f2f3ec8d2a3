"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def a_few(s, draw):
    s.see("blocks for 17 tokens, 16 slots each", s.blocks_for(17, 16))
    s.see("blocks for 16 tokens, 16 slots each", s.blocks_for(16, 16))
    s.see("the empty share of 16 and 17 tokens", s.waste([16, 17], 16))
    s.see("the empty share of 1, 2 and 6 tokens", s.waste([1, 2, 6], 4))


@visible("q2")
def give_and_take(s, draw):
    pool = s.BlockPool(4)
    s.see("the first block", pool.allocate())
    s.see("the second", pool.allocate())
    s.see("the third", pool.allocate())
    pool.release(0)
    pool.release(2)
    s.see("free blocks after 0 and then 2 were released", s.get(pool, "n_free"))
    s.see("the block given next", pool.allocate())
    s.see("and then", pool.allocate())


@visible("q2")
def two_owners(s, draw):
    pool = s.BlockPool(2)
    pool.allocate()
    pool.share(0)
    pool.release(0)
    s.see("owners of a shared block after one release", pool.owners(0))
    s.see("free blocks then", s.get(pool, "n_free"))
    pool.release(0)
    s.see("free blocks after the second release", s.get(pool, "n_free"))


@visible("q2")
def twice(s, draw):
    pool = s.BlockPool(2)
    pool.allocate()
    pool.release(0)
    s.see("released twice", pool.release(0))
    s.see("shared when nobody owns it", pool.share(0))


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
    table.truncate(3)
    s.see("blocks after all but 3 are forgotten", s.get(table, "blocks"))


@visible("q3")
def forgotten_and_grown_again(s, draw):
    table = s.BlockTable(s.BlockPool(4), 2)
    table.reserve(6)
    table.truncate(0)
    s.see("blocks after all are forgotten", s.get(table, "blocks"))
    table.reserve(4)
    s.see("blocks of four new tokens", s.get(table, "blocks"))


@visible("q3")
def taking_turns(s, draw):
    pool = s.BlockPool(4)
    one, other = s.BlockTable(pool, 2), s.BlockTable(pool, 2)
    other.reserve(2)
    one.reserve(5)
    s.see("where token 3 of the second table lies", one.place(3))
    s.see("a token for which there is no free block", other.reserve(1))
    s.see("that table's length after that", s.get(other, "length"))


@visible("q3")
def too_few(s, draw):
    pool = s.BlockPool(2)
    table = s.BlockTable(pool, 4)
    s.see("nine tokens in two blocks of four", table.reserve(9))
    s.see("free blocks after that", s.get(pool, "n_free"))
    s.see("its length", s.get(table, "length"))


@visible("q4")
def two_blocks(s, draw):
    pool = torch.arange(12.0).reshape(3, 1, 2, 2)
    s.see("three tokens in blocks 2 and 0, one head", s.gather(pool, [2, 0], 3))
    pool = torch.arange(24.0).reshape(3, 2, 2, 2)
    s.see("the same with two heads", s.gather(pool, [2, 0], 3))


@visible("q5")
def a_fork_writes(s, draw):
    one = s.BlockTable(s.BlockPool(4), 4)
    one.reserve(6)
    other = one.fork()
    s.see("the fork's blocks", s.get(other, "blocks"))
    s.see("what is copied when the fork writes", other.reserve(1))
    s.see("the fork's blocks then", s.get(other, "blocks"))
    s.see("what is copied when the first one writes", one.reserve(1))
    s.see("the first one's blocks, which are its own", s.get(one, "blocks"))


@visible("q5")
def a_fork_of_full_blocks_writes(s, draw):
    one = s.BlockTable(s.BlockPool(4), 4)
    one.reserve(4)
    other = one.fork()
    s.see("what is copied", other.reserve(1))
    s.see("the fork's blocks", s.get(other, "blocks"))


@visible("q6")
def two_and_a_half(s, draw):
    s.see("the keys of five tokens in blocks of two", s.block_keys([1, 2, 3, 4, 5], 2))
    s.see("the keys of four tokens in blocks of two", s.block_keys([1, 2, 3, 4], 2))
    s.see("blocks that are found", s.shared_prefix(["a", "b", "c"], {"a", "c"}))
