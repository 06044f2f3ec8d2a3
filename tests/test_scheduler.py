"""The scheduler: rules one by one, then random traces in which every request must say what it says alone.

The model of the traces hashes what it reads through the block tables (tests/traces.py), so a mix-up of blocks
changes the text. `make test` plays a sample, `make stress` ten thousand.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from types import ModuleType

import pytest

from conftest import unchecked
from teachkit import blocks, scheduler
from teachkit.block_table import BlockTable
from teachkit.blocks import BlockPool, block_keys
from teachkit.scheduler import Chunk, Plan, Scheduler, Sequence
from traces import CASES, VOCAB, Job, Memory, Replay, Trace, alone, make_trace, replay

N_SAMPLE, N_ALL = 300, 10_000
# So few in the sample that chance decides are asked for once; every other case ten times.
RARE = {"cancelled after preemption", "cancelled while tokens are handed out"}


def error(words: str):
    return pytest.raises(ValueError, match=f"^{re.escape(words)}$")


class Server:
    """A scheduler by hand: each sequence's next token is its number of tokens so far."""

    def __init__(self, n_blocks: int = 100, size: int = 4, budget: int = 100, **options) -> None:
        self.pool = BlockPool(n_blocks, size)
        self.scheduler = Scheduler(self.pool, max_batch_tokens=budget, **options)

    def add(self, prompt, max_new: int = 10) -> Sequence:
        prompt = [0] * prompt if isinstance(prompt, int) else prompt
        sequence = Sequence(prompt, max_new, self.pool)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Plan:
        plan = self.scheduler.plan()
        self.scheduler.advance(plan)
        for chunk in plan.chunks:
            if chunk.samples:
                chunk.sequence.tokens.append(len(chunk.sequence.tokens))
                if chunk.sequence.complete:
                    self.scheduler.remove(chunk.sequence)
        return plan

    def run(self) -> list[Plan]:
        plans = []
        while self.scheduler.running or self.scheduler.waiting:
            plans.append(self.step())
        return plans


def counts(plan: Plan) -> list[int]:
    return [chunk.n for chunk in plan.chunks]


# --- sequences, chunks, plans --------------------------------------------------------------------------


def test_sequence():
    sequence = Sequence((5, 6, 7), 4, BlockPool(9, 2))
    assert (sequence.tokens, sequence.n_prompt, sequence.max_new_tokens) == ([5, 6, 7], 3, 4)
    assert (sequence.computed, sequence.pending, sequence.output) == (0, 3, [])
    assert (sequence.status, sequence.reused, sequence.preempted) == ("new", 0, 0)
    assert sequence.most_stored == 6
    sequence.table.reserve(2)
    assert (sequence.computed, sequence.pending) == (0, 3)  # room is not yet content
    sequence.computed = 2
    assert (sequence.computed, sequence.pending) == (2, 1)
    sequence.tokens += [8, 9]
    assert (sequence.output, sequence.pending, sequence.complete) == ([8, 9], 3, False)
    assert sequence.keys() == block_keys([5, 6, 7, 8, 9], 2)
    sequence.tokens += [1, 2]
    assert sequence.complete
    assert sequence.keys() == block_keys([5, 6, 7, 8, 9, 1, 2], 2)


def test_a_sequence_has_its_own_tokens():
    prompt = [1, 2, 3]
    sequence = Sequence(prompt, 1, BlockPool(1, 4))
    prompt.append(4)
    assert sequence.tokens == [1, 2, 3]


def test_chunk():
    sequence = Sequence([5, 6, 7, 8], 1, BlockPool(9, 2))
    assert (Chunk(sequence, 1, 2).tokens, Chunk(sequence, 1, 2).samples) == ([6, 7], False)
    assert (Chunk(sequence, 1, 3).tokens, Chunk(sequence, 1, 3).samples) == ([6, 7, 8], True)
    assert Plan([Chunk(sequence, 0, 2), Chunk(sequence, 2, 1)]).n_tokens == 3
    assert Plan().n_tokens == 0


@pytest.mark.parametrize("prompt", [[], ()])
def test_a_prompt_of_nothing(prompt):
    with error("prompt: expected at least one token, got none"):
        Sequence(prompt, 4, BlockPool(1, 1))


@pytest.mark.parametrize("n", [0, -3])
def test_no_new_tokens(n):
    with error(f"max_new_tokens: expected at least 1, got {n}"):
        Sequence([1], n, BlockPool(1, 1))


@pytest.mark.parametrize(("tokens", "batch"), [(0, None), (-1, 3), (4, 0), (4, -2)])
def test_no_budget(tokens, batch):
    with error(f"max_batch_tokens, max_batch: expected at least 1, got {tokens} and {batch}"):
        Scheduler(BlockPool(1, 1), max_batch_tokens=tokens, max_batch=batch)


# --- one step ------------------------------------------------------------------------------------------


def test_nobody():
    server = Server()
    assert server.step() == Plan()


def test_a_prompt_then_a_token_at_a_time():
    server = Server()
    sequence = server.add(10, max_new=4)
    plans = server.run()
    assert [counts(plan) for plan in plans] == [[10], [1], [1], [1]]
    assert [plan.chunks[0].start for plan in plans] == [0, 10, 11, 12]
    assert [plan.admitted for plan in plans] == [[sequence], [], [], []]
    assert sequence.status == "finished"
    assert sequence.output == [10, 11, 12, 13]


def test_a_long_prompt_in_chunks_beside_decoding():
    """One token for whoever decodes, the rest of the budget for the prompt."""
    server = Server(budget=8)
    first = server.add([1, 2, 3])
    assert counts(server.step()) == [3]
    second = server.add([4] * 17)
    plans = [server.step() for _ in range(4)]
    assert [counts(plan) for plan in plans] == [[1, 7], [1, 7], [1, 3], [1, 1]]
    assert len(second.output) == 2
    assert [plan.chunks[1].start for plan in plans] == [0, 7, 14, 17]
    assert [chunk.sequence for chunk in plans[0].chunks] == [first, second]


def test_two_prompts_in_one_step():
    server = Server(budget=8)
    server.add([1] * 3)
    server.add([2] * 9)
    server.add([3])
    assert counts(server.step()) == [3, 5]
    assert counts(server.step()) == [1, 4, 1]


def test_a_budget_of_one_serves_one_at_a_time():
    server = Server(budget=1)
    first, second = server.add([1, 2], max_new=2), server.add([3], max_new=1)
    order = [plan.chunks[0].sequence for plan in server.run()]
    assert order == [first] * 3 + [second]


def test_max_batch():
    server = Server(max_batch=2)
    sequences = [server.add([i], max_new=2 + i) for i in range(4)]
    assert [[sequences.index(c.sequence) for c in plan.chunks] for plan in server.run()] == [
        [0, 1], [0, 1], [1, 2], [2, 3], [2, 3], [2, 3], [3], [3],
    ]  # fmt: skip


def test_whoever_is_done_makes_room_in_the_next_step():
    """Continuous batching: the third does not wait for the second."""
    server = Server(n_blocks=4, size=4)
    first, second = server.add([1] * 4, max_new=1), server.add([2] * 4, max_new=5)
    third = server.add([3] * 4, max_new=1)
    server.step()
    assert (first.status, second.status, third.status) == ("finished", "running", "waiting")
    server.step()
    assert (second.status, third.status) == ("running", "finished")


def test_nobody_overtakes():
    """The second does not fit beside the first, so the third, which would, waits too."""
    server = Server(n_blocks=4, size=4)
    server.add([1] * 8, max_new=2)
    second, third = server.add([2] * 9, max_new=3), server.add([3])
    plan = server.step()
    assert len(plan.chunks) == 1
    assert list(server.scheduler.waiting) == [second, third]


def test_blocks_stay_free_for_those_that_run():
    """One for each, beside what their prompts still need: here 5 + 1 of 8, so 2 are left."""
    for n, admitted in ((8, True), (9, False)):
        server = Server(n_blocks=8, size=4, budget=100, max_batch=None)
        first = server.add([1] * 20)
        server.scheduler.max_batch_tokens = 7
        server.step()
        assert (first.computed, server.pool.n_used) == (7, 2)
        server.scheduler.max_batch_tokens = 100
        first.max_new_tokens = 1
        second = server.add([2] * n)
        server.step()
        assert (second.status == "running") is admitted


def test_a_request_that_needs_the_whole_pool():
    server = Server(n_blocks=3, size=4, budget=5)
    sequence = server.add([1] * 8, max_new=5)  # the last token is stored nowhere
    server.run()
    assert len(sequence.output) == 5


def test_a_request_that_could_never_be_completed():
    server = Server(n_blocks=3, size=4)
    other = server.add([1])
    words = "prompt of 8 tokens and max_new_tokens 6: need 4 blocks of 4 tokens, the pool has 3"
    with error(words):
        server.add([1] * 8, max_new=6)
    assert list(server.scheduler.waiting) == [other]


# --- preemption ----------------------------------------------------------------------------------------


def crowded() -> tuple[Server, list[Sequence]]:
    """Three decode in six blocks of two tokens, each with a full last block: there is no seventh."""
    server = Server(n_blocks=9, size=2)
    sequences = [server.add([i, i], max_new=9) for i in (1, 2, 3)]
    for _ in range(5):
        assert server.step().preempted == []
    assert server.pool.n_free == 0
    return server, sequences


def test_the_last_to_come_gives_its_blocks_back():
    server, (first, second, third) = crowded()
    plan = server.step()
    assert plan.preempted == [third]
    assert [chunk.sequence for chunk in plan.chunks] == [first, second]
    assert (third.status, third.preempted, third.table.blocks, third.computed) == ("waiting", 1, [], 0)
    assert server.scheduler.running == [first, second]
    assert third.output == [2, 3, 4, 5, 6], "its tokens are not lost"
    assert third.pending == 7, "all must be computed again"


def test_whoever_was_sent_out_is_the_first_to_be_let_in():
    server, (first, second, third) = crowded()
    late = server.add([4])
    server.step()
    assert list(server.scheduler.waiting) == [third, late]
    server.scheduler.remove(first)
    plan = server.step()
    assert plan.admitted[0] is third
    assert server.scheduler.running[:2] == [second, third]


def test_nobody_is_let_in_while_another_is_sent_out():
    server, (*_, third) = crowded()
    plan = server.step()
    assert plan.admitted == []
    assert third.status == "waiting"


def test_what_was_computed_is_found_again():
    """Its blocks were full and are kept until someone needs them: only the end is computed again."""
    server, (first, _, third) = crowded()
    server.step()
    server.scheduler.remove(first)
    plan = server.step()
    assert plan.admitted == [third]
    assert 0 < third.reused < 7
    assert plan.chunks[-1].start == third.reused
    assert plan.chunks[-1].n == 7 - third.reused


def test_several_are_sent_out_for_one_and_keep_their_order():
    server = Server(n_blocks=8, size=2, budget=100)
    first = server.add([1, 1], max_new=15)
    server.step()
    others = [server.add([i], max_new=10) for i in (2, 3)]
    server.step()
    assert server.scheduler.running == [first, *others]
    first.tokens += [7] * 12  # as if it had been given many tokens at once: now it needs all but a block
    plan = server.step()
    assert plan.preempted == [others[1], others[0]]
    assert list(server.scheduler.waiting) == others
    assert counts(plan) == [13]


def test_the_last_waits_when_nobody_came_after_it():
    """It keeps its blocks and gets nothing in this step; who came before it gets its token."""
    server = Server(n_blocks=4, size=2)
    first, second = server.add([1, 1, 1], max_new=6), server.add([2], max_new=8)
    plans = [server.step() for _ in range(3)]
    assert [counts(plan) for plan in plans] == [[3, 1], [1, 1], [1]]
    assert (first.computed, second.computed) == (5, 2)
    assert server.scheduler.running == [first, second]
    assert plans[2].preempted == []


# --- reuse ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "reused"), [(1, 0), (3, 0), (4, 0), (5, 4), (7, 4), (8, 4), (9, 8), (16, 12)])
def test_a_prompt_seen_before(n, reused):
    """All full blocks but for the last token: from it comes the next one, so it must be computed."""
    server = Server()
    first = server.add(n, max_new=1)
    server.run()
    second = server.add(n, max_new=1)
    plan = server.step()
    assert (first.reused, second.reused) == (0, reused)
    assert counts(plan) == [n - reused]
    assert second.output == first.output


def test_blocks_of_one_that_runs():
    server = Server()
    first = server.add([1] * 9)
    server.step()
    second = server.add([1] * 9)
    server.step()
    assert second.table.blocks[:2] == first.table.blocks[:2]
    assert second.table.blocks[2] != first.table.blocks[2]
    assert [server.pool.owners(block) for block in second.table.blocks] == [2, 2, 1]


def test_shared_blocks_count_once_when_someone_is_let_in():
    server = Server(n_blocks=5, size=4)
    server.add([1] * 9, max_new=3)
    server.step()
    second = server.add([1] * 9, max_new=1)  # three blocks, of which two have an owner already
    plan = server.step()
    assert plan.admitted == [second]


def test_two_equal_prompts_in_one_step_are_both_computed():
    """What the first fills is known only when it has been computed."""
    server = Server()
    first, second = server.add([1] * 8), server.add([1] * 8)
    assert counts(server.step()) == [8, 8]
    assert not set(first.table.blocks) & set(second.table.blocks)
    assert server.pool.known(first.keys()) == first.table.blocks


def test_what_was_generated_is_found_too():
    server = Server()
    first = server.add([1] * 4, max_new=6)
    server.run()
    second = server.add([*first.tokens, 9])
    server.step()
    assert second.reused == 8, "the tenth token was never stored"


def test_without_reuse():
    server = Server(reuse=False)
    server.add(9, max_new=1)
    server.run()
    second = server.add(9, max_new=1)
    assert counts(server.step()) == [9]
    assert second.reused == 0
    assert server.pool.n_kept == 0


def test_nothing_is_known_before_it_is_computed():
    server = Server()
    sequence = server.add([1] * 8)
    plan = server.scheduler.plan()
    assert server.pool.known(sequence.keys()) == []
    server.scheduler.advance(plan)
    assert server.pool.known(sequence.keys()) == sequence.table.blocks


def test_cancelled_between_plan_and_advance():
    server = Server()
    first, second = server.add([1] * 8), server.add([2] * 8)
    plan = server.scheduler.plan()
    server.scheduler.remove(first)
    server.scheduler.advance(plan)
    assert server.pool.known(first.keys()) == []
    assert server.pool.known(second.keys()) == second.table.blocks
    server.pool.check()


# --- remove --------------------------------------------------------------------------------------------


def test_remove_one_that_waits():
    server = Server(max_batch=1)
    first, second, third = (server.add([i]) for i in range(3))
    server.step()
    server.scheduler.remove(second)
    assert (second.status, list(server.scheduler.waiting)) == ("finished", [third])
    assert first.status == "running"


def test_remove_one_that_runs():
    server = Server()
    first, second = server.add([1] * 9), server.add([2] * 9)
    server.step()
    server.scheduler.remove(first)
    assert (first.status, first.table.blocks, server.scheduler.running) == ("finished", [], [second])
    assert server.pool.n_used == len(second.table.blocks)
    server.pool.check()


def test_add_one_that_was_added_before():
    pool = BlockPool(4, 4)
    scheduler = Scheduler(pool, max_batch_tokens=8)
    sequence = Sequence([1, 2], 1, pool)
    scheduler.add(sequence)
    for status in ("waiting", "running", "finished"):
        if status == "running":
            scheduler.plan()
        if status == "finished":
            scheduler.remove(sequence)
        with pytest.raises(ValueError, match=f"expected one that was never added, it is {status}"):
            scheduler.add(sequence)
    assert not scheduler.waiting


def test_remove_one_that_is_not_here():
    server = Server()
    first, never = server.add([1]), Sequence([1], 1, server.pool)
    words = "sequence: expected one that waits or runs; it has been removed, or never added"
    with error(words):
        server.scheduler.remove(never)
    server.scheduler.remove(first)
    with error(words):
        server.scheduler.remove(first)


# --- the model of the traces ---------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 3, 100])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_blocks_and_chunks_do_not_change_the_text(size, budget):
    """The model that reads through a block table, and the one that knows nothing of memory, agree."""
    trace = Trace(40 // size + 1, size, (Job((3, 1, 4, 1, 5), 30),), max_batch_tokens=budget)
    player = Replay(trace)
    player.run()
    assert player.users[0].tokens.output == alone((3, 1, 4, 1, 5), 30)


def test_every_slot_matters():
    """A change of any slot that is read, in any layer, changes the next token."""
    pool, memory = BlockPool(4, 3), Memory(4, 3)
    scheduler = Scheduler(pool, max_batch_tokens=100)
    sequence = Sequence(list(range(10)), 2, pool)
    scheduler.add(sequence)
    plan = scheduler.plan()
    (token,) = memory.forward(plan)
    assert token == alone(range(10), 1)[0]
    scheduler.advance(plan)
    sequence.tokens.append(token)
    said, plan = alone(range(10), 2)[1], scheduler.plan()
    for layer in range(2):
        for position in range(10):
            slot = memory.slot(sequence.table.blocks, position)
            before, memory.layers[layer][slot] = memory.layers[layer][slot], 12345
            assert memory.forward(plan) != [said]
            memory.layers[layer][slot] = before
    assert memory.forward(plan) == [said]


def test_the_past_of_a_token_matters():
    """Equal tokens behind another one leave something else: the end of one text is of no use to another."""
    assert len({alone((first, 1, 1, 1), 1)[0] for first in range(50)}) > 45
    assert 0 <= min(alone((1,), 100)) <= max(alone((1,), 100)) < VOCAB


# --- traces --------------------------------------------------------------------------------------------


def play(n: int) -> Counter[str]:
    """The first n traces. There are no shapes to check, and to look for some takes ten times as long."""
    with unchecked():
        return replay(range(n))


def require_all(seen: Counter[str], n: int) -> None:
    """Every special case occurred n times, and everybody who came was served or cancelled."""
    assert not {case: seen[case] for case in CASES if seen[case] < (1 if case in RARE else n)}
    gone = ("waiting", "after preemption", "in prefill", "in decode")
    assert seen["requests"] == seen["finished"] + sum(seen[f"cancelled {when}"] for when in gone)


def test_a_sample_of_traces():
    require_all(play(N_SAMPLE), n=10)


@pytest.mark.stress
def test_all_traces():
    seen = play(N_ALL)
    print(f"\n{seen['traces']:,} traces, {seen['requests']:,} requests, {seen['steps']:,} steps; none wrong")
    for case in CASES:
        print(f"{seen[case]:8,} {case}")
    require_all(seen, n=250)


def test_traces_are_always_the_same():
    assert make_trace(7) == make_trace(7) != make_trace(8)


# --- planted faults ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """In a method of ``owner``, or a function of that module, ``old`` becomes ``new``.

    words  with which the traces complain
    """

    name: str
    owner: object
    method: str
    old: str
    new: str
    words: str


FAULTS = [
    Fault("the kept block left last is given away first", BlockPool, "allocate",
          "last=False", "last=True", "left longest ago"),
    Fault("what was in a kept block can still be found when it is given away", BlockPool, "allocate",
          "self.withdraw(block)", "pass", "can still be found"),
    Fault("whoever adopts is no owner", BlockPool, "adopt",
          "self._owners[block] += 1", "pass", "lost, or is in two states"),
    Fault("what is adopted stays among the kept", BlockPool, "adopt",
          "self._kept.pop(block, None)", "pass", "lost, or is in two states"),
    Fault("one owner leaves, and the block is free", BlockPool, "release",
          "if self._owners[block]:", "if False:", "lost, or is in two states"),
    Fault("known blocks are found behind one that is missing", BlockPool, "known",
          "break", "continue", r"token \d+ is another one"),
    Fault("the second of two equal blocks becomes the known one", BlockPool, "publish",
          "if key not in self._block_of:", "if True:", "trace of seed"),
    Fault("a key does not depend on the blocks before", blocks, "block_keys",
          "before + array", "array", r"token \d+ is another one"),
    Fault("a key depends on the first tokens of its block only", blocks, "block_keys",
          "tokens[start : start + block_size]", "tokens[start : start + max(1, block_size - 1)]",
          r"token \d+ is another one"),
    Fault("a block that is not full is made known", BlockTable, "publish",
          "end // size", "min(len(keys), -(-end // size))", r"token \d+ is another one"),
    Fault("blocks are not given back", BlockTable, "truncate",
          "self.pool.release(self.blocks.pop())", "self.blocks.pop()", "owners"),
    Fault("a block too many is kept", BlockTable, "truncate",
          "blocks_for(length, self.pool.block_size)", "length // self.pool.block_size + 1",
          "one that is done owns blocks"),
    Fault("a block is missing when the last one is full", BlockTable, "reserve",
          "blocks_for(self.length, pool.block_size)", "self.length // pool.block_size", "IndexError"),
    Fault("a sequence that is sent out keeps its blocks", Scheduler, "_make_room",
          "last.table.truncate(0)", "pass", "IndexError"),
    Fault("whoever was sent out waits behind all others", Scheduler, "_make_room",
          "appendleft", "append", "came to another place"),
    Fault("the oldest is sent out, not the youngest", Scheduler, "_make_room",
          "self.running.pop()", "self.running.pop(0)", "tokens for one that does not run"),
    Fault("nobody is sent out", Scheduler, "_make_room",
          "self.running[-1] is not sequence", "False", "IndexError"),
    Fault("of a prompt that is known nothing is left to compute", Scheduler, "_admit",
          "(len(sequence.tokens) - 1) // pool.block_size", "len(sequence.tokens) // pool.block_size",
          "computed twice"),
    Fault("known blocks that nobody owns count as if they took no room", Scheduler, "_admit",
          "blocks_for(len(sequence.tokens), pool.block_size) - sum(pool.owners(b) > 0 for b in known)",
          "blocks_for(len(sequence.tokens), pool.block_size) - len(known)", "let in too early"),
    Fault("the last to come is let in first", Scheduler, "_admit",
          "self.waiting.popleft()", "self.waiting.pop()", "trace of seed"),
    Fault("one runs at a time", Scheduler, "_admit",
          "len(self.running) >= self.max_batch", "self.running", "waits without need"),
    Fault("max_batch is not kept", Scheduler, "_admit",
          "len(self.running) >= self.max_batch", "len(self.running) > self.max_batch",
          "more than max_batch run"),
    Fault("the budget is for each sequence", Scheduler, "plan",
          "budget -= self._schedule(sequence, budget, plan)", "self._schedule(sequence, budget, plan)",
          "beyond the budget"),
    Fault("some are let in while others are sent out", Scheduler, "plan",
          " and not plan.preempted", "", "sent out, and does not wait"),
    Fault("those sent out get tokens all the same", Scheduler, "plan",
          'sequence.status != "running"', "False", "tokens for one that does not run"),
    Fault("a block is made known in which the last token is still missing", Scheduler, "advance",
          "chunk.start, end)", "chunk.start, end + 1)", "IndexError"),
    Fault("blocks are made known though reuse is off", Scheduler, "advance",
          "if self.reuse:", "if True:", "nobody may use them"),
    Fault("who is cancelled while waiting stays in the queue", Scheduler, "remove",
          "self.waiting.remove(sequence)", "pass", "one that waits does not say so"),
    Fault("who is cancelled keeps its blocks", Scheduler, "remove",
          "sequence.table.truncate(0)", "pass", "one that is done owns blocks"),
]  # fmt: skip


def plant(monkeypatch, fault: Fault) -> None:
    """Exchange the method for one with the fault. Raises AssertionError: ``old`` stands not there once."""
    right = inspect.unwrap(vars(fault.owner)[fault.method])
    source = textwrap.dedent(inspect.getsource(right))
    assert source.count(fault.old) == 1, f"{fault.method} has changed: {fault.old!r} must stand in it once"
    names: dict[str, object] = {}
    # compile() takes this file's own `annotations` with it.
    code = compile(source.replace(fault.old, fault.new), f"<{fault.name}>", "exec")
    exec(code, right.__globals__, names)
    monkeypatch.setattr(fault.owner, fault.method, names[fault.method])
    if isinstance(fault.owner, ModuleType):  # others have imported it by name
        monkeypatch.setattr(scheduler, fault.method, names[fault.method])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(fault, monkeypatch):
    """By the sample of traces that the right code passes."""
    plant(monkeypatch, fault)
    with pytest.raises(AssertionError, match=fault.words):
        play(N_SAMPLE)
