"""Your key stands for the tokens of its block alone; the keys and values in it depend on all tokens
before, too.
"""

import hashlib


def block_keys(tokens, P):
    keys, before = [], ""
    for start in range(0, len(tokens) - P + 1, P):
        text = "" + ":" + ",".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys


def shared_prefix(keys, known):
    n = 0
    while n < len(keys) and keys[n] in known:
        n += 1
    return n
