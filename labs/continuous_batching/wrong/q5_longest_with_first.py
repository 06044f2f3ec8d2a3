"""The longest gap is one between two tokens; the wait before the first does not count."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": sum(gaps) / len(gaps) if gaps else None,
        "longest": max([token_s[0] - arrival_s, *gaps]) if gaps else None,
    }
