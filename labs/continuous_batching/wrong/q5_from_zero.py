"""TTFT counts from the arrival of the request."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0],
        "tpot": sum(gaps) / len(gaps) if gaps else None,
        "longest": max(gaps) if gaps else None,
    }
