"""Between n tokens there are n - 1 gaps: divide by these."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": sum(gaps) / len(token_s) if gaps else None,
        "longest": max(gaps) if gaps else None,
    }
