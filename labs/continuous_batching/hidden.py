"""What counts: random traces and the corners of each contract."""

from teachgrade.scenario import hidden


def lengths(draw, n, most):
    return [draw.integer(1, most) for _ in range(n)]


@hidden("q1", times=6)
def any_requests(s, draw):
    n = draw.integer(1, 12)
    s.see(
        "computed and wanted",
        s.static_batching(lengths(draw, n, 30), lengths(draw, n, 20), draw.integer(1, 6)),
    )


@hidden("q2", times=6)
def any_pending(s, draw):
    pending = [(f"r{i}", draw.choice([1, 1, draw.integer(0, 12)])) for i in range(draw.integer(0, 8))]
    s.see("the plan", s.plan_step(pending, draw.integer(1, 16)))


@hidden("q2", times=2)
def just_full(s, draw):
    s.see("a budget that is just enough", s.plan_step([("a", 3), ("b", 5)], 8))
    s.see("nothing pending in between", s.plan_step([("a", 3), ("b", 0), ("c", 2)], 8))


def play(s, draw, scheduler, n, most, steps):
    """Requests that come between the steps; every step is looked at."""
    at = 0
    for number in range(steps):
        while at < n and (not number or not draw.integer(0, 2)):
            scheduler.add(f"r{at}", draw.integer(1, most), draw.integer(1, 8))
            at += 1
        s.see(f"step {number + 1}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@hidden("q3", times=8)
def any_trace(s, draw):
    play(s, draw, s.Scheduler(draw.integer(2, 12), draw.integer(1, 4)), 7, 20, 30)


@hidden("q3", times=1)
def nobody(s, draw):
    scheduler = s.Scheduler(4, 2)
    s.see("a step without requests", scheduler.step())
    scheduler.add("a", 1, 1)
    s.see("a step of one token", scheduler.step())
    s.see("after it", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@hidden("q3", times=1)
def two_schedulers(s, draw):
    one, other = s.Scheduler(4, 2), s.Scheduler(3, 2)
    one.add("a", 5, 2)
    other.add("b", 5, 2)
    for _ in range(4):
        s.see("one", one.step())
        s.see("another", other.step())
    s.see("done in one", s.get(one, "finished"))


@hidden("q4", times=10)
def tight_pools(s, draw):
    P = draw.integer(2, 4)
    scheduler = s.PagedScheduler(draw.integer(3, 12), -(-27 // P) + draw.integer(0, 5), P)
    play(s, draw, scheduler, 8, 20, 45)
    s.see("free blocks", s.get(scheduler, "n_free"))


@hidden("q4", times=1)
def too_large(s, draw):
    scheduler = s.PagedScheduler(8, 2, 4)
    s.see("a request that just fits", scheduler.add("a", 5, 4))
    s.see("one that does not", scheduler.add("b", 5, 5))
    for number in range(1, 7):
        s.see(f"step {number}", scheduler.step())
    s.see("free blocks", s.get(scheduler, "n_free"))


@hidden("q5", times=5)
def any_times(s, draw):
    start, times = draw.integer(0, 50) / 4, []
    for _ in range(draw.integer(2, 9)):
        times.append((times[-1] if times else start) + draw.integer(1, 30) / 8)
    s.see("the latencies", s.latencies(start, times))


@hidden("q5", times=1)
def a_single_token(s, draw):
    s.see("the latencies", s.latencies(1.0, [3.5]))


@hidden("q6", times=5)
def any_bounds(s, draw):
    s.see(
        "the bounds",
        s.bounds(
            [(draw.integer(1, 90), draw.integer(1, 30)) for _ in range(draw.integer(0, 7))],
            draw.integer(1, 40),
        ),
    )
