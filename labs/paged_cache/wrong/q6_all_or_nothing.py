"""Where not all blocks are known, the first ones still are."""

import hashlib


def block_keys(tokens, P):
    keys, before = [], ""
    for start in range(0, len(tokens) - P + 1, P):
        text = before + ":" + ",".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys


def shared_prefix(keys, known):
    return len(keys) if all(key in known for key in keys) else 0
