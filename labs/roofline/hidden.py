"""What counts: random numbers, and the corners of each contract."""

from teachgrade.scenario import hidden


@hidden("q1", times=5)
def any_product(s, draw):
    s.see("FLOPs and bytes", s.matmul_cost(*[draw.integer(1, 900) for _ in "mkn"], draw.choice([1, 2, 4])))


@hidden("q2", times=6)
def any_step(s, draw):
    flops, moved = draw.integer(1, 999) * 1e10, draw.integer(1, 999) * 1e8
    peak, bandwidth = draw.integer(10, 999) * 1e12, draw.integer(10, 999) * 1e10
    s.see("seconds and side", s.time_bound(flops, moved, peak, bandwidth))


@hidden("q2", times=1)
def the_ridge(s, draw):
    s.see("both sides take the same time", s.time_bound(200.0, 50.0, 4.0, 1.0))


@hidden("q3", times=6)
def any_decode(s, draw):
    n = [
        draw.integer(10**6, 10**9),
        draw.integer(1, 64),
        draw.integer(0, 5000),
        draw.integer(100, 9000),
        draw.choice([1, 4, 8]),
    ]
    s.see("FLOPs and bytes", s.decode_cost(*n, draw.choice([1, 2, 4]), draw.choice([1, 2, 4])))


@hidden("q3", times=1)
def one_part_alone(s, draw):
    s.see("weights and nothing else", s.decode_cost(1000, 3, 0, 64, 2, 2, 1))
    s.see("keys and values and nothing else", s.decode_cost(0, 3, 100, 64, 2, 2, 1))


@hidden("q4", times=5)
def any_device(s, draw):
    s.see(
        "the batch",
        s.critical_batch(
            draw.integer(1, 999) * 1e12, draw.integer(10, 5000) * 1e9, draw.choice([0.5, 1, 2, 4])
        ),
    )


@hidden("q5", times=5)
def any_time(s, draw):
    flops, moved, seconds = draw.integer(1, 99) * 1e9, draw.integer(1, 99) * 1e8, draw.integer(1, 99) / 8
    peak, bandwidth = draw.integer(1, 9) * 1e10, draw.integer(1, 9) * 1e9
    s.see("MFU and MBU", s.utilisation(flops, moved, seconds, peak, bandwidth))


@hidden("q6", times=10)
def any_claim(s, draw):
    computed = draw.integer(1, 900) / 7
    factor = draw.choice([1, 1.005, 0.99, 1.074, 0.93, 2.01, 0.496, 7.95, 0.1255, 1.3, 4.1, 1.04, 0.97, 10])
    s.see("the verdict", s.verdict(computed * factor, computed))


@hidden("q6", times=1)
def edges(s, draw):
    for claimed in (1.019, 1.021, 0.981, 0.979, 2.039, 2.041, 0.4905, 8.15, 0.1226, 0.128):
        s.see(f"{claimed} claimed, 1 computed", s.verdict(claimed, 1.0))
