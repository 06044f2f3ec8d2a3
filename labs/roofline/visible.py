"""What students can check themselves: small inputs, once each."""

from teachgrade.scenario import visible


@visible("q1")
def small(s, draw):
    s.see("(2, 3) times (3, 5), fp32", s.matmul_cost(2, 3, 5, 4))


@visible("q2")
def both(s, draw):
    s.see("bound by memory", s.time_bound(1e12, 1e12, 312e12, 2e12))
    s.see("bound by compute", s.time_bound(1e15, 1e12, 312e12, 2e12))


@visible("q3")
def seven_billion(s, draw):
    s.see(
        "7 billion weights in bf16, batch 4, 1,000 tokens", s.decode_cost(7 * 10**9, 4, 1000, 262144, 1, 2, 2)
    )
    s.see("the same with four query heads over each", s.decode_cost(7 * 10**9, 4, 1000, 65536, 4, 2, 2))


@visible("q4")
def a100(s, draw):
    s.see("an A100 with 80 GB, bf16", s.critical_batch(312e12, 2039e9, 2))


@visible("q5")
def half(s, draw):
    s.see("a step", s.utilisation(1e12, 1e9, 0.5, 8e12, 4e9))


@visible("q6")
def some(s, draw):
    for claimed, computed in ((100, 101), (400, 201), (75.2, 70), (8, 64), (3, 1)):
        s.see(f"{claimed} claimed, {computed} computed", s.verdict(claimed, computed))
