def latencies(arrival_s, token_s):
    first, last, n = token_s[0], token_s[-1], len(token_s)
    if n == 1:
        return {"ttft": first - arrival_s, "tpot": None, "longest": None}
    longest = 0.0
    for i in range(1, n):
        longest = max(longest, token_s[i] - token_s[i - 1])
    return {"ttft": first - arrival_s, "tpot": (last - first) / (n - 1), "longest": longest}
