"""What counts: random walks and the corners of each contract."""

from teachgrade.scenario import hidden


@hidden("q1", times=5)
def any_lengths(s, draw):
    P = draw.integer(1, 20)
    s.see("blocks", s.blocks_for(draw.integer(0, 90), P))
    s.see("the empty share", s.waste([draw.integer(0, 60) for _ in range(draw.integer(1, 9))], P))


@hidden("q1", times=1)
def corners(s, draw):
    s.see("nobody", s.waste([], 4))
    s.see("nothing stored", s.waste([0, 0], 4))
    s.see("just full", s.waste([8, 4], 4))
    s.see("blocks for nothing", s.blocks_for(0, 5))


@hidden("q2", times=6)
def a_walk(s, draw):
    n = draw.integer(3, 7)
    pool, owned = s.BlockPool(n), []
    free = list(range(n))[::-1]
    for _ in range(25):
        act = draw.choice(["allocate", "allocate", "release", "release", "share"])
        if act == "allocate":
            s.see("the block given", pool.allocate())
            if free:
                owned.append(free.pop())
        elif owned:
            block = draw.choice(owned)
            if act == "share":
                pool.share(block)
                owned.append(block)
            else:
                pool.release(block)
                owned.remove(block)
                if block not in owned:
                    free.append(block)
            s.see("owners of a block", pool.owners(block))
        s.see("free blocks", s.get(pool, "n_free"))


@hidden("q2", times=1)
def blocks_that_nobody_owns(s, draw):
    pool = s.BlockPool(3)
    pool.allocate()
    for block in (1, 3, -1):
        s.see(f"release of block {block}", pool.release(block))
        s.see(f"share of block {block}", pool.share(block))
        s.see("free blocks after that", s.get(pool, "n_free"))
    s.see("owners of a free block", pool.owners(2))
    s.see("owners of a block that there is not", pool.owners(3))


@hidden("q2", times=1)
def block_minus_one(s, draw):
    pool = s.BlockPool(2)
    pool.allocate()
    pool.allocate()
    s.see("owners of block -1 when all are owned", pool.owners(-1))
    s.see("its release", pool.release(-1))
    s.see("its share", pool.share(-1))
    s.see("free blocks after that", s.get(pool, "n_free"))
    s.see("a block when none is free", pool.allocate())


@hidden("q2", times=2)
def freed_in_another_order(s, draw):
    n = 6
    pool = s.BlockPool(n)
    for _ in range(n):
        pool.allocate()
    for block in draw.shuffled(range(n))[: n - 1]:
        pool.release(block)
    for _ in range(n - 1):
        s.see("the block given", pool.allocate())


@hidden("q3", times=6)
def tables_in_one_pool(s, draw):
    P, n_blocks = draw.integer(1, 5), draw.integer(5, 9)
    pool = s.BlockPool(n_blocks)
    tables, lengths = [s.BlockTable(pool, P) for _ in range(3)], [0, 0, 0]

    def owned():
        return sum(-(-length // P) for length in lengths)

    for _ in range(14):
        at = draw.integer(0, 2)
        if draw.integer(0, 3):
            n = draw.integer(0, 2 * P)
            fits = owned() - -(-lengths[at] // P) + -(-(lengths[at] + n) // P) <= n_blocks
            if fits:
                tables[at].reserve(n)
                lengths[at] += n
            else:
                s.see("more than there is", tables[at].reserve(n))
        else:
            lengths[at] = draw.integer(0, lengths[at])
            tables[at].truncate(lengths[at])
        s.see("a table's blocks", s.get(tables[at], "blocks"))
        s.see("its length", s.get(tables[at], "length"))
        s.see("free blocks", s.get(pool, "n_free"))
        if lengths[at]:
            s.see("where a token lies", tables[at].place(draw.integer(0, lengths[at] - 1)))


@hidden("q3", times=2)
def too_few_in_the_middle(s, draw):
    P, n = draw.integer(2, 5), draw.integer(3, 6)
    pool = s.BlockPool(n)
    one, other = s.BlockTable(pool, P), s.BlockTable(pool, P)
    one.reserve(P + 1)
    other.reserve(1)
    s.see("a block more than there is", one.reserve((n - 1) * P))
    s.see("free blocks after that", s.get(pool, "n_free"))
    s.see("the table's blocks", s.get(one, "blocks"))
    s.see("its length", s.get(one, "length"))
    one.reserve((n - 1) * P - P - 1)
    s.see("its blocks when it takes just those there are", s.get(one, "blocks"))
    s.see("free blocks then", s.get(pool, "n_free"))


@hidden("q3", times=1)
def tokens_that_are_not_there(s, draw):
    table = s.BlockTable(s.BlockPool(3), 4)
    table.reserve(5)
    s.see("token 5 of 5", table.place(5))
    s.see("token -1", table.place(-1))
    table.truncate(0)
    s.see("a token of none", table.place(0))


@hidden("q4", times=5)
def any_pool(s, draw):
    H, P, D = draw.primes(3, 7)
    n_blocks, N = draw.integer(1, 4), 9
    length = draw.integer((n_blocks - 1) * P + 1, n_blocks * P)
    blocks = draw.shuffled(range(N))[:n_blocks]
    s.see("the gathered keys", s.gather(draw.normal(N, H, P, D), blocks, length))


@hidden("q5", times=6)
def forks(s, draw):
    P = draw.integer(2, 5)
    pool = s.BlockPool(40)
    tables = [s.BlockTable(pool, P)]
    tables[0].reserve(draw.integer(1, 3 * P))
    for _ in range(10):
        at = draw.integer(0, len(tables) - 1)
        if len(tables) < 4 and not draw.integer(0, 2):
            tables.append(tables[at].fork())
            at = -1
        else:
            s.see("what is to be copied", tables[at].reserve(draw.integer(0, P + 1)))
        s.see("a table's blocks", s.get(tables[at], "blocks"))
        s.see("free blocks", s.get(pool, "n_free"))


@hidden("q5", times=1)
def no_block_for_a_copy(s, draw):
    pool = s.BlockPool(2)
    one = s.BlockTable(pool, 4)
    one.reserve(6)
    other = one.fork()
    s.see("a copy with no free block", other.reserve(1))
    s.see("the fork's blocks", s.get(other, "blocks"))
    s.see("its length", s.get(other, "length"))
    s.see("owners of the last block", pool.owners(1))
    one.truncate(0)
    s.see("when the other has left", other.reserve(1))


@hidden("q5", times=1)
def a_block_for_the_copy_and_none_for_the_rest(s, draw):
    pool = s.BlockPool(3)
    one = s.BlockTable(pool, 4)
    one.reserve(6)
    other = one.fork()
    s.see("a copy and a new block, with one free block", other.reserve(3))
    s.see("free blocks after that", s.get(pool, "n_free"))
    s.see("the fork's blocks", s.get(other, "blocks"))
    s.see("owners of the last block", pool.owners(1))
    s.see("a copy alone", other.reserve(2))
    s.see("owners of the source", pool.owners(1))


@hidden("q5", times=1)
def full_blocks_are_not_copied(s, draw):
    pool = s.BlockPool(6)
    one = s.BlockTable(pool, 4)
    one.reserve(8)
    other = one.fork()
    s.see("a write behind full blocks", other.reserve(1))
    s.see("nothing new", one.reserve(0))
    other.truncate(0)
    s.see("the first one's blocks after the fork has ended", s.get(one, "blocks"))
    s.see("owners of the first block", pool.owners(0))


@hidden("q6", times=5)
def any_tokens(s, draw):
    tokens = [draw.integer(0, 30) for _ in range(draw.integer(1, 17))]
    s.see("the keys", s.block_keys(tokens, draw.integer(1, 5)))


@hidden("q6", times=4)
def any_known(s, draw):
    keys = [f"k{i}" for i in range(draw.integer(0, 6))]
    s.see("blocks that are found", s.shared_prefix(keys, {k for k in keys if draw.integer(0, 3)} | {"other"}))


@hidden("q6", times=1)
def first_unknown(s, draw):
    s.see("blocks that are found where the first is unknown", s.shared_prefix(["a", "b"], {"b"}))
    s.see("of no blocks", s.shared_prefix([], {"b"}))
    s.see("all of them", s.shared_prefix(["a", "b"], {"a", "b"}))
    s.see("where nothing is stored", s.shared_prefix(["a", "b"], set()))


@hidden("q6", times=1)
def same_block_other_past(s, draw):
    s.see("keys of one text", s.block_keys([1, 2, 7, 8], 2))
    s.see("keys of another with the same second block", s.block_keys([3, 2, 7, 8], 2))
    s.see("tokens that look alike when joined", s.block_keys([11, 1, 1, 11], 2))
