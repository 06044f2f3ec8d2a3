"""What students can check themselves: small inputs, once each."""

from teachgrade.scenario import visible


@visible("q1")
def three_requests(s, draw):
    s.see("computed and wanted", s.static_batching([4, 2, 5], [3, 10, 1], 2))


@visible("q2")
def cut(s, draw):
    s.see("a plan of 8 tokens", s.plan_step([("a", 1), ("b", 5), ("c", 6), ("d", 1)], 8))
    s.see("one of whom nothing is pending", s.plan_step([("a", 0), ("b", 3)], 8))


@visible("q3")
def two_requests(s, draw):
    scheduler = s.Scheduler(4, 2)
    scheduler.add("a", 3, 2)
    scheduler.add("b", 5, 1)
    for number in range(1, 5):
        s.see(f"step {number}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@visible("q3")
def a_place_becomes_free(s, draw):
    scheduler = s.Scheduler(5, 2)
    scheduler.add("a", 3, 4)
    scheduler.add("b", 6, 1)
    scheduler.add("c", 2, 2)
    scheduler.add("d", 1, 2)
    for number in range(1, 7):
        s.see(f"step {number}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@visible("q4")
def one_too_large(s, draw):
    scheduler = s.PagedScheduler(8, 2, 4)
    s.see("a prompt of 5 and an answer of 4, in two blocks of 4", scheduler.add("a", 5, 4))
    s.see("an answer of 5", scheduler.add("b", 5, 5))


@visible("q4")
def room_for_all_that_is_known(s, draw):
    scheduler = s.PagedScheduler(4, 4, 4)
    scheduler.add("a", 8, 4)
    scheduler.add("b", 8, 2)
    scheduler.add("c", 4, 8)
    for number in range(1, 10):
        s.see(f"step {number}", scheduler.step())
    s.see("free blocks", s.get(scheduler, "n_free"))


@visible("q4")
def a_tight_pool(s, draw):
    scheduler = s.PagedScheduler(8, 3, 4)
    scheduler.add("a", 4, 6)
    scheduler.add("b", 4, 3)
    scheduler.add("c", 3, 2)
    for number in range(1, 12):
        s.see(f"step {number}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@visible("q5")
def three_tokens(s, draw):
    s.see("the latencies", s.latencies(10.0, [12.0, 12.5, 14.0]))
    s.see("those of a single token", s.latencies(10.0, [12.0]))


@visible("q6")
def two(s, draw):
    s.see("the bounds", s.bounds([(14, 5), (3, 2)], 8))
