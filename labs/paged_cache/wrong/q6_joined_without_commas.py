"""Without commas the tokens 1, 11 and 11, 1 look alike, and two texts share a key."""

import hashlib


def block_keys(tokens, P):
    keys, before = [], ""
    for start in range(0, len(tokens) - P + 1, P):
        text = before + ":" + "".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys


def shared_prefix(keys, known):
    n = 0
    while n < len(keys) and keys[n] in known:
        n += 1
    return n
