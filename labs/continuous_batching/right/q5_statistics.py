import itertools
import statistics


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in itertools.pairwise(token_s)] or [None]
    mean = None if gaps == [None] else statistics.mean(gaps)
    return {"longest": max(gaps), "tpot": mean, "ttft": token_s[0] - arrival_s}
