"""Random traces of requests, and a model without weights that notices when blocks are mixed up. No torch.

The model has two layers, and its memory is a list of slots for each. In layer 1 a token leaves itself; in
layer 2 it leaves a hash of all that it reads in layer 1, up to its own position; the next token is a hash of
all that is read in layer 2. Everything is read through the block table. So whoever reads a wrong slot, or a
right token with another past, says something else from there on than it says alone.

Helpers to import: ``from traces import Job, Memory, Replay, Trace, alone, make_trace, replay``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate
from random import Random

from teachkit.block_table import Copy
from teachkit.blocks import BlockPool, blocks_for
from teachkit.scheduler import Plan, Scheduler
from teachkit.scheduler import Sequence as Tokens

VOCAB = 10_007
GARBAGE = 0xDEADBEEF

# What the traces are made for; a sample in which one of them never occurs shows nothing about it.
CASES = (
    "finished", "ended early", "rejected", "failed steps",
    "cancelled waiting", "cancelled after preemption", "cancelled in prefill", "cancelled in decode",
    "cancelled while tokens are handed out", "cancelled when done",
    "preempted", "preempted twice", "preempted in decode", "preempted then hit",
    "hit", "hit of the whole prompt", "hit of kept blocks", "hit of owned blocks", "hit of an output",
    "owned by three", "evicted", "equal prompts", "same content computed twice",
    "prompt of block - 1", "prompt of block", "prompt of block + 1", "prompt of one token",
    "prompt in chunks", "prefill beside decode", "budget of 1", "without room for a token",
    "held back by the budget", "held back by max_batch", "held back by memory", "without reuse",
)  # fmt: skip


# --- the model -----------------------------------------------------------------------------------------


def hashed(before: int, value: int) -> int:
    """Of 64 bits. Not linear, as a CRC is: of a text and its own CRC the CRC is a constant."""
    mixed = ((before ^ value) * 0x9E3779B97F4A7C15 + 1) & (2**64 - 1)
    return mixed ^ (mixed >> 29)


def alone(prompt: Sequence[int], max_new: int, end: int | None = None) -> list[int]:
    """What the model says when nobody else is there: no blocks, no memory.

    end  a token that it divides is the last one
    """
    first = second = 0
    tokens, said = list(prompt), 0
    for position in range(len(prompt) + max_new):
        if position == len(tokens):
            tokens.append(second % VOCAB)
            said += 1
            if is_last(tokens[-1], said, max_new, end):
                break
        first = hashed(first, tokens[position])
        second = hashed(second, first)
    return tokens[len(prompt) :]


def is_last(token: int, said: int, max_new: int, end: int | None) -> bool:
    return said == max_new or (end is not None and token % end == 0)


class Broken(Exception):
    """The model failed in the middle of a step."""


class Memory:
    """The slots of both layers, and what the model does with them in one step."""

    def __init__(self, n_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.layers = [[GARBAGE] * (n_blocks * block_size) for _ in range(2)]

    def slot(self, blocks: Sequence[int], position: int) -> int:
        return blocks[position // self.block_size] * self.block_size + position % self.block_size

    def read(self, layer: int, blocks: Sequence[int], end: int) -> list[int]:
        """What lies at positions 0 to end - 1 of a sequence."""
        values, size = self.layers[layer], self.block_size
        found: list[int] = []
        for block in blocks[: blocks_for(end, size)]:
            found += values[block * size : block * size + size]
        return found[:end]

    def write(self, layer: int, blocks: Sequence[int], start: int, values: Iterable[int]) -> None:
        for position, value in enumerate(values, start):
            self.layers[layer][self.slot(blocks, position)] = value

    def copy(self, copies: Iterable[Copy]) -> None:
        for copy in copies:
            for values in self.layers:
                for i in range(copy.n_tokens):
                    values[copy.target * self.block_size + i] = values[copy.source * self.block_size + i]

    def forward(self, plan: Plan, *, fails: bool = False) -> list[int]:
        """One step: the next token of each chunk that ends with the last known one. Raises Broken."""
        parts = [(chunk.sequence.table.blocks, chunk.start, chunk.start + chunk.n) for chunk in plan.chunks]
        for (blocks, start, _), chunk in zip(parts, plan.chunks, strict=True):
            self.write(0, blocks, start, chunk.tokens)
        if fails:
            for blocks, start, end in parts:
                self.write(1, blocks, start, [GARBAGE] * (end - start))
            raise Broken
        for blocks, start, end in parts:
            left = list(accumulate(self.read(0, blocks, end), hashed, initial=0))[1:]
            self.write(1, blocks, start, left[start:])
        said = [part for part, chunk in zip(parts, plan.chunks, strict=True) if chunk.samples]
        return [reduce(hashed, self.read(1, blocks, end), 0) % VOCAB for blocks, _, end in said]


# --- traces --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What one user asks.

    arrives  before this step
    cancel   at this step; None: never
    late     cancelled while the tokens of that step are handed out, else before the step
    """

    prompt: tuple[int, ...]
    max_new: int
    arrives: int = 0
    cancel: int | None = None
    late: bool = False


@dataclass(frozen=True)
class Trace:
    """Jobs, in the order in which they arrive, and what serves them.

    failing  steps in which the model fails
    """

    n_blocks: int
    block_size: int
    jobs: tuple[Job, ...]
    max_batch_tokens: int = 16
    max_batch: int | None = None
    reuse: bool = True
    end: int | None = None
    failing: frozenset[int] = frozenset()


def make_trace(seed: int) -> Trace:
    """The trace of this seed. Two in five are crowded: long outputs, little memory."""
    rng = Random(seed)
    crowded, few_tokens = rng.random() < 0.4, rng.random() < 0.2
    size = rng.choice((1, 2, 3) if crowded else (1, 2, 3, 4, 5, 8))
    last_arrival = rng.choice((0, 3) if crowded else (0, 5, 30))
    jobs: list[Job] = []
    for _ in range(rng.randint(2, 6) if crowded else rng.randint(1, 10)):
        prompt = tuple(_prompt(rng, size, jobs, 2 if few_tokens else VOCAB))
        arrives = rng.randint(0, last_arrival)
        cancel = arrives + rng.randint(0, 20) if rng.random() < 0.25 else None
        longest = rng.choice((12, 30)) if crowded else rng.choice((1, 2, 6, 20))
        jobs.append(Job(prompt, rng.randint(1, longest), arrives, cancel, late=rng.random() < 0.5))
    n_blocks = max(_blocks(job, size) for job in jobs) + rng.choice((0, 1) if crowded else (0, 1, 2, 4, 16))
    if rng.random() < 0.1:
        jobs.append(Job((1,) * (n_blocks * size), 2, rng.randint(0, last_arrival)))
    return Trace(
        n_blocks,
        size,
        tuple(sorted(jobs, key=lambda job: job.arrives)),
        max_batch_tokens=rng.choice((8, 16, 64) if crowded else (1, 2, 3, 5, 8, 16, 64)),
        max_batch=None if crowded else rng.choice((None, None, None, 1, 2, 3)),
        reuse=rng.random() < 0.9,
        end=None if crowded else rng.choice((None, 3, 7)),
        failing=frozenset(rng.randint(0, 40) for _ in range(rng.choice((0, 0, 0, 1, 5)))),
    )


def _prompt(rng: Random, size: int, jobs: Sequence[Job], n_tokens: int) -> list[int]:
    """Of any length, or a block's and one more or less; or as an earlier one is, begins, or goes on."""
    kind = rng.choice(("any", "border", "equal", "begins", "goes on")) if jobs else "border"
    if kind == "any":
        return [rng.randrange(n_tokens) for _ in range(rng.randint(1, 20))]
    if kind == "border":
        length = max(1, size * rng.choice((1, 1, 2, 3)) + rng.choice((-1, 0, 1)))
        return [rng.randrange(n_tokens) for _ in range(length)]
    job = rng.choice(jobs)
    if kind == "equal" or len(job.prompt) > 40:
        return list(job.prompt)
    if kind == "begins":
        begin = list(job.prompt[: rng.randint(1, len(job.prompt))])
        return begin + [rng.randrange(n_tokens) for _ in range(rng.randint(0, 6))]
    return [*job.prompt, *alone(job.prompt, job.max_new), *(rng.randrange(n_tokens) for _ in range(2))]


def _blocks(job: Job, size: int) -> int:
    """Blocks that a job needs in the end; the last token is stored nowhere."""
    return blocks_for(len(job.prompt) + job.max_new - 1, size)


# --- replay --------------------------------------------------------------------------------------------


class WatchedPool(BlockPool):
    """Sees that a block that can still be found is given away last, the one left longest ago first."""

    def __init__(self, n_blocks: int, block_size: int) -> None:
        super().__init__(n_blocks, block_size)
        self.n_left = self.n_evicted = 0
        self.left: dict[int, int] = {}

    def release(self, block: int) -> None:
        super().release(block)
        self.n_left += 1
        self.left[block] = self.n_left

    def allocate(self) -> int:
        kept = [b for b in range(self.n_blocks) if not self.owners(b) and self.is_known(b)]
        has_free = self.n_free > len(kept)
        block = super().allocate()
        if has_free:
            assert block not in kept, "a block that can still be found was given away, others are free"
        else:
            self.n_evicted += 1
            assert block == min(kept, key=self.left.__getitem__), "not the block left longest ago"
        assert not self.is_known(block), "what lay in a block that was given away can still be found"
        return block


@dataclass(eq=False)
class User:
    """A job on its way.

    number    in the order of arrival
    deadline  it is done after so many steps
    """

    number: int
    job: Job
    tokens: Tokens
    expected: list[int]
    deadline: int
    over: bool = False


@dataclass
class Replay:
    """Plays a trace and checks everything after every step. Raises AssertionError at the first difference."""

    trace: Trace
    cases: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        trace = self.trace
        self.pool = WatchedPool(trace.n_blocks, trace.block_size)
        self.memory = Memory(trace.n_blocks, trace.block_size)
        self.scheduler = Scheduler(
            self.pool,
            max_batch_tokens=trace.max_batch_tokens,
            max_batch=trace.max_batch,
            reuse=trace.reuse,
        )
        self.users: list[User] = []  # all that were taken in
        self.by_tokens: dict[Tokens, User] = {}
        self.coming = list(trace.jobs)
        self.clock = self.n_steps = 0  # n_steps: those with work, in which the model did not fail

    @property
    def live(self) -> list[User]:
        """Those that are not done, in the order in which they came."""
        return [user for user in self.users if not user.over]

    def run(self) -> Counter[str]:
        """Until all have come and are done; how often each of CASES occurred."""
        while self.coming or self.live:
            self.arrive()
            for user in self.users:
                if user.job.cancel == self.clock and not user.job.late:
                    self.cancel(user)
            self.check_state()
            self.step()
            self.check_state()
            self.clock += 1
        assert self.pool.n_used == 0, f"{self.pool.n_used} blocks are owned by nobody who is here"
        assert not self.scheduler.plan().chunks
        self.cases["evicted"] += self.pool.n_evicted
        self.cases["without reuse"] += not self.trace.reuse
        self.cases["budget of 1"] += self.trace.max_batch_tokens == 1
        return self.cases

    def arrive(self) -> None:
        while self.coming and self.coming[0].arrives <= self.clock:
            job = self.coming.pop(0)
            tokens = Tokens(job.prompt, job.max_new, self.pool)
            try:
                self.scheduler.add(tokens)
            except ValueError:
                assert _blocks(job, self.trace.block_size) > self.trace.n_blocks
                self.cases["rejected"] += 1
                continue
            self.count_prompt(job)
            expected = alone(job.prompt, job.max_new, self.trace.end)
            deadline = self.n_steps + sum(self.most_steps(user.job) for user in self.live)
            user = User(len(self.users), job, tokens, expected, deadline + self.most_steps(job))
            self.users.append(user)
            self.by_tokens[tokens] = user

    def most_steps(self, job: Job) -> int:
        """That it takes once it is the oldest, as scheduler.py says."""
        return -(-(len(job.prompt) + job.max_new) // self.trace.max_batch_tokens) + job.max_new

    def cancel(self, user: User) -> None:
        if user.over:
            self.cases["cancelled when done"] += 1
            return
        tokens = user.tokens
        if tokens.status == "waiting":
            case = "after preemption" if tokens.preempted else "waiting"
        else:
            case = "in decode" if tokens.output else "in prefill"
        self.cases[f"cancelled {case}"] += 1
        self.remove(user)

    def remove(self, user: User) -> None:
        self.scheduler.remove(user.tokens)
        user.over = True
        assert user.tokens.status == "finished"
        assert user.tokens.table.blocks == [], "one that is done owns blocks"

    def step(self) -> None:
        """As the engine does it: plan, run the model, make full blocks known, hand out tokens."""
        running = {sequence: sequence.computed for sequence in self.scheduler.running}
        had_output = {sequence for sequence in running if sequence.output}
        left = dict(self.pool.left)
        plan = self.scheduler.plan()
        if not self.live:
            assert plan == Plan()
            return
        self.check_plan(plan, running)
        self.count_plan(plan, had_output, left)
        try:
            said = self.memory.forward(plan, fails=self.clock in self.trace.failing)
        except Broken:
            self.cases["failed steps"] += 1
            return
        self.scheduler.advance(plan)
        self.n_steps += 1
        self.hand_out([self.by_tokens[chunk.sequence] for chunk in plan.chunks if chunk.samples], said)
        for user in self.live:
            assert self.n_steps < user.deadline, f"request {user.number} waits beyond the stated bound"

    def hand_out(self, users: Sequence[User], said: Sequence[int]) -> None:
        late = [user for user in self.users if user.job.late and user.job.cancel == self.clock]
        for user, token in zip(users, said, strict=True):
            if user.over:  # cancelled just now, by whoever got the token before
                self.cases["cancelled while tokens are handed out"] += 1
                continue
            tokens = user.tokens
            tokens.tokens.append(token)
            n = len(tokens.output)
            assert tokens.output == user.expected[:n], f"request {user.number}: token {n} is another one"
            if is_last(token, n, user.job.max_new, self.trace.end):
                assert tokens.output == user.expected
                assert tokens.complete == (n == user.job.max_new)
                self.cases["finished"] += 1
                self.cases["ended early"] += not tokens.complete
                self.remove(user)
            while late:
                self.cancel(late.pop())
        for user in late:
            self.cancel(user)

    # --- what must hold ---

    def check_state(self) -> None:
        """Between steps: blocks, owners and order."""
        pool, scheduler = self.pool, self.scheduler
        pool.check()
        assert pool.n_free + pool.n_used == pool.n_blocks
        owners = Counter(block for sequence in scheduler.running for block in sequence.table.blocks)
        assert all(pool.owners(block) == owners[block] for block in range(pool.n_blocks)), "owners"
        for sequence in scheduler.running:
            table = sequence.table
            assert len(set(table.blocks)) == len(table.blocks), "a block stands twice in a table"
            assert len(table.blocks) == blocks_for(table.length, pool.block_size), "a block too many"
            assert sequence.status == "running"
            assert len(sequence.output) < sequence.max_new_tokens
        for sequence in scheduler.waiting:
            assert sequence.table.blocks == [], "one that waits owns blocks"
            assert sequence.status == "waiting", "one that waits does not say so"
        for block, n in owners.items():
            assert n == 1 or pool.is_known(block), f"block {block} has {n} owners and is known to nobody"
        assert len(scheduler.running) <= scheduler.max_batch, "more than max_batch run"
        assert self.trace.reuse or not pool.n_kept, "blocks are known, and nobody may use them"
        numbers = [self.by_tokens[sequence].number for sequence in [*scheduler.running, *scheduler.waiting]]
        assert numbers == [user.number for user in self.live], "someone is lost, or came to another place"
        self.cases["owned by three"] += any(n >= 3 for n in owners.values())

    def check_plan(self, plan: Plan, running: dict[Tokens, int]) -> None:
        """After planning: the budget, the order, and that the oldest has all it can have.

        running  who ran before, and how many tokens of it were computed
        """
        budget = self.trace.max_batch_tokens
        assert plan.n_tokens == sum(chunk.n for chunk in plan.chunks) <= budget, "beyond the budget"
        numbers = [self.by_tokens[chunk.sequence].number for chunk in plan.chunks]
        assert numbers == sorted(set(numbers)), "not in the order in which they came"
        for chunk in plan.chunks:
            sequence = chunk.sequence
            assert sequence in self.scheduler.running, "tokens for one that does not run"
            start = running.get(sequence, sequence.reused)
            assert chunk.start == start, "tokens are left out, or computed twice"
            assert 0 < chunk.n == sequence.table.length - start, "tokens without a place"
            assert sequence.computed == start, "computed before it is"
            assert sequence.table.length <= len(sequence.tokens)
        oldest, first = self.live[0], plan.chunks[0]
        assert first.sequence is oldest.tokens, "the oldest got nothing"
        assert first.n == min(len(first.sequence.tokens) - first.start, budget), "the oldest got too little"
        for sequence in plan.preempted:
            assert sequence in running, "one is let in and sent out in one step"
            assert sequence in self.scheduler.waiting, "one is sent out, and does not wait"
        for sequence in plan.admitted:
            assert sequence.reused % self.trace.block_size == 0
            assert sequence.reused < len(sequence.tokens), "nothing is left to compute"
            assert self.trace.reuse or sequence.reused == 0
        assert not (plan.admitted and plan.preempted), "one is let in, another sent out"
        self.check_admission(plan)

    def check_admission(self, plan: Plan) -> None:
        """Nobody is let in too early or waits without need: for each that runs one block more stays free."""
        running, waiting = self.scheduler.running, self.scheduler.waiting
        missing = (s.table.missing(len(s.tokens) - s.table.length) for s in running)
        promised = sum(n + 1 for n in missing)
        if plan.admitted:
            assert promised - 1 <= self.pool.n_free, "let in too early"
        if plan.preempted or not waiting or plan.n_tokens == self.trace.max_batch_tokens:
            return
        if len(running) < self.scheduler.max_batch:
            size, known = self.trace.block_size, len(waiting[0].tokens)
            keys = waiting[0].keys()[: (known - 1) // size] if self.trace.reuse else []
            owned = sum(self.pool.owners(block) > 0 for block in self.pool.known(keys))
            assert promised + blocks_for(known, size) - owned > self.pool.n_free, "waits without need"

    # --- what occurred ---

    def count_prompt(self, job: Job) -> None:
        n, size = len(job.prompt), self.trace.block_size
        self.cases["requests"] += 1
        self.cases["equal prompts"] += any(user.job.prompt == job.prompt for user in self.live)
        self.cases["prompt of one token"] += n == 1
        for name, length in (("block - 1", size - 1), ("block", size), ("block + 1", size + 1)):
            self.cases[f"prompt of {name}"] += n == length

    def count_plan(self, plan: Plan, had_output: set[Tokens], left: dict[int, int]) -> None:
        cases, scheduler, size = self.cases, self.scheduler, self.trace.block_size
        cases["steps"] += 1
        for sequence in plan.preempted:
            cases["preempted"] += 1
            cases["preempted twice"] += sequence.preempted == 2
            cases["preempted in decode"] += sequence in had_output
        for sequence in plan.admitted:
            if sequence.reused:
                whole = sequence.reused == (len(sequence.tokens) - 1) // size * size
                found = sequence.table.blocks[: sequence.reused // size]
                kept = sum(self.pool.owners(block) == 1 for block in found)
                cases["hit"] += 1
                cases["hit of the whole prompt"] += whole and not sequence.preempted
                cases["hit of kept blocks"] += kept > 0
                cases["hit of owned blocks"] += kept < len(found)
                cases["hit of an output"] += any(block in left for block in found) and self.goes_on(sequence)
                cases["preempted then hit"] += sequence.preempted > 0
        decodes = sum(chunk.samples and chunk.n == 1 and chunk.start > 0 for chunk in plan.chunks)
        cases["prompt in chunks"] += any(not chunk.samples for chunk in plan.chunks)
        cases["prefill beside decode"] += 0 < decodes < len(plan.chunks)
        cases["without room for a token"] += len(scheduler.running) > len(plan.chunks)
        if scheduler.waiting and plan.n_tokens == self.trace.max_batch_tokens:
            cases["held back by the budget"] += 1
        elif scheduler.waiting and not plan.preempted:
            full = len(scheduler.running) == scheduler.max_batch
            cases["held back by max_batch" if full else "held back by memory"] += 1
        cases["same content computed twice"] += self.computed_twice()

    def goes_on(self, sequence: Tokens) -> bool:
        """Whether it reuses tokens that another request generated."""
        return any(
            user.tokens is not sequence
            and len(user.job.prompt) < sequence.reused
            and sequence.tokens[: sequence.reused] == user.tokens.tokens[: sequence.reused]
            for user in self.users
        )

    def computed_twice(self) -> bool:
        """Whether two that run hold the same first block in different places."""
        size = self.trace.block_size
        places: dict[tuple[int, ...], int] = {}
        for sequence in self.scheduler.running:
            if sequence.computed >= size:
                first = tuple(sequence.tokens[:size])
                if places.setdefault(first, sequence.table.blocks[0]) != sequence.table.blocks[0]:
                    return True
        return False


def replay(seeds: Iterable[int]) -> Counter[str]:
    """Play the traces of these seeds; how often each of CASES occurred in all of them."""
    total: Counter[str] = Counter()
    for seed in seeds:
        try:
            total += Replay(make_trace(seed)).run()
        except Exception as error:
            raise AssertionError(f"trace of seed {seed}: {type(error).__name__}: {error}") from error
        total["traces"] += 1
    return total
