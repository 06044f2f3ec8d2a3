import hashlib
import itertools


def block_keys(tokens, P):
    def after(before, rest):
        if len(rest) < P:
            return []
        text = f"{before}:{','.join(str(t) for t in rest[:P])}"
        key = hashlib.sha256(text.encode("ascii")).hexdigest()
        return [key, *after(key, rest[P:])]

    return after("", list(tokens))


def shared_prefix(keys, known):
    return len(list(itertools.takewhile(lambda key: key in known, keys)))
