import hashlib


def block_keys(tokens, P):
    keys = []
    for block in range(len(tokens) // P):
        part = tokens[block * P : (block + 1) * P]
        before = keys[-1] if keys else ""
        keys.append(hashlib.sha256((before + ":" + ",".join([str(t) for t in part])).encode()).hexdigest())
    return keys


def shared_prefix(keys, known):
    for n, key in enumerate(keys):
        if key not in known:
            return n
    return len(keys)
