"""You give the shortest gap; asked is the longest."""


def latencies(arrival_s, token_s):
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": sum(gaps) / len(gaps) if gaps else None,
        "longest": min(gaps) if gaps else None,
    }
