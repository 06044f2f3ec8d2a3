"""The last full block has no key: count the blocks again."""

import hashlib


def block_keys(tokens, P):
    keys, before = [], ""
    for start in range(0, len(tokens) - P, P):
        text = before + ":" + ",".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys


def shared_prefix(keys, known):
    n = 0
    while n < len(keys) and keys[n] in known:
        n += 1
    return n
