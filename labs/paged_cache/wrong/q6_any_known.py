"""You count every known block; one counts only if all before it do."""

import hashlib


def block_keys(tokens, P):
    keys, before = [], ""
    for start in range(0, len(tokens) - P + 1, P):
        text = before + ":" + ",".join(map(str, tokens[start : start + P]))
        before = hashlib.sha256(text.encode()).hexdigest()
        keys.append(before)
    return keys


def shared_prefix(keys, known):
    return sum(key in known for key in keys)
