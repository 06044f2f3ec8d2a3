"""TPOT is the time per token after the first; the wait for the first is TTFT."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": (token_s[-1] - arrival_s) / len(token_s) if gaps else None,
        "longest": max(gaps) if gaps else None,
    }
