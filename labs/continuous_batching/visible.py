"""What students can check themselves: small inputs, once each."""

from teachgrade.scenario import visible


@visible("q1")
def three_requests(s, draw):
    s.see("computed and wanted", s.static_batching([4, 2, 5], [3, 10, 1], 2))


@visible("q2")
def cut(s, draw):
    s.see("a plan of 8 tokens", s.plan_step([("a", 1), ("b", 5), ("c", 6), ("d", 1)], 8))


@visible("q3")
def two_requests(s, draw):
    scheduler = s.Scheduler(4, 2)
    scheduler.add("a", 3, 2)
    scheduler.add("b", 5, 1)
    for number in range(1, 5):
        s.see(f"step {number}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@visible("q4")
def a_tight_pool(s, draw):
    scheduler = s.PagedScheduler(8, 3, 4)
    scheduler.add("a", 4, 6)
    scheduler.add("b", 4, 3)
    for number in range(1, 9):
        s.see(f"step {number}", scheduler.step())
    s.see("who is done", s.get(scheduler, "finished"))


@visible("q5")
def three_tokens(s, draw):
    s.see("the latencies", s.latencies(10.0, [12.0, 12.5, 14.0]))


@visible("q6")
def two(s, draw):
    s.see("the bounds", s.bounds([(10, 5), (3, 2)], 8))
