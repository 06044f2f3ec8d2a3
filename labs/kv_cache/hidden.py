"""What counts: random sizes, all different, and the corners of each contract."""

from teachgrade.scenario import hidden


def pair(draw, *shape):
    return draw.normal(*shape), draw.normal(*shape)


@hidden("q1", times=4)
def steps_of_any_size(s, draw):
    B, H, D = draw.primes(3, 7)
    sizes = [draw.integer(1, 5) for _ in range(draw.integer(1, 5))]
    cache = s.KVCache(B, H, sum(sizes) + draw.integer(0, 3), D)
    for at, n in enumerate(sizes):
        s.see(f"all keys and values after {at + 1} steps", cache.append(*pair(draw, B, H, n, D)))
        s.see("length", s.get(cache, "length"))


@hidden("q1", times=2)
def what_was_given_changes_later(s, draw):
    cache = s.KVCache(2, 3, 8, 5)
    k, v = s.value(draw.normal(2, 3, 2, 5)), s.value(draw.normal(2, 3, 2, 5))
    cache.append(k, v)
    k.zero_()
    v.zero_()
    s.see("after the given tensors were overwritten", cache.append(*pair(draw, 2, 3, 1, 5)))


@hidden("q1", times=2)
def two_caches(s, draw):
    one, other = s.KVCache(1, 2, 6, 3), s.KVCache(1, 2, 6, 3)
    one.append(*pair(draw, 1, 2, 2, 3))
    other.append(*pair(draw, 1, 2, 3, 3))
    s.see("one of two caches", one.append(*pair(draw, 1, 2, 1, 3)))
    s.see("the other", other.append(*pair(draw, 1, 2, 1, 3)))


@hidden("q2", times=4)
def full(s, draw):
    capacity, held = 7, draw.integer(1, 7)
    cache = s.KVCache(2, 3, capacity, 5)
    cache.append(*pair(draw, 2, 3, held, 5))
    s.see("more than fits", cache.append(*pair(draw, 2, 3, capacity - held + draw.integer(1, 3), 5)))
    s.see("length after that", s.get(cache, "length"))
    if held < capacity:
        s.see("all keys and values when it is filled up", cache.append(*pair(draw, 2, 3, capacity - held, 5)))


@hidden("q2", times=4)
def back(s, draw):
    cache = s.KVCache(2, 3, 9, 5)
    cache.append(*pair(draw, 2, 3, 6, 5))
    keep = draw.integer(0, 6)
    cache.truncate(keep)
    s.see("length after truncate", s.get(cache, "length"))
    s.see(
        "all keys and values after truncate and append",
        cache.append(*pair(draw, 2, 3, draw.integer(1, 9 - keep), 5)),
    )


@hidden("q2", times=1)
def lengths_that_cannot_be(s, draw):
    cache = s.KVCache(1, 1, 5, 3)
    cache.append(*pair(draw, 1, 1, 3, 3))
    s.see("truncate to more than is held", cache.truncate(4))
    s.see("truncate below 0", cache.truncate(-1))
    s.see("truncate to all that is held", cache.truncate(3))
    s.see("what is there", cache.append(*pair(draw, 1, 1, 1, 3)))


@hidden("q3", times=4)
def any_start(s, draw):
    B, H, T = draw.primes(3, 7)
    s.see(
        "the rotated tensor",
        s.rotate(draw.normal(B, H, T, 2 * draw.integer(1, 6)), draw.integer(0, 50)),
        rtol=1e-4,
        atol=1e-5,
    )


@hidden("q3", times=2)
def in_parts(s, draw):
    x = draw.normal(1, 2, 6, 8)
    s.see("the first part", s.rotate(x[:, :, :4], 0), rtol=1e-4, atol=1e-5)
    s.see("the second part", s.rotate(x[:, :, 4:], 4), rtol=1e-4, atol=1e-5)


@hidden("q4", times=4)
def prompt_then_tokens(s, draw):
    B, H, D = draw.primes(3, 7)
    cache = s.KVCache(B, H, 16, D)
    for n in (draw.integer(1, 5), 1, 1, draw.integer(2, 4)):
        s.see(
            f"attention of {n} new tokens", s.attend_cached(*[draw.normal(B, H, n, D) for _ in "qkv"], cache)
        )


@hidden("q4", times=2)
def same_cache_in_parts(s, draw):
    q, k, v = (draw.normal(2, 3, 7, 5) for _ in "qkv")
    for sizes in ((7,), (1,) * 7, (3, 4)):
        cache, start = s.KVCache(2, 3, 7, 5), 0
        for n in sizes:
            part = [x[:, :, start : start + n] for x in (q, k, v)]
            s.see(f"attention of part {start} to {start + n}", s.attend_cached(*part, cache))
            start += n


@hidden("q5", times=6)
def any_prompt(s, draw):
    model = s.ToyModel(draw.integer(0, 1000))
    prompt = [draw.integer(0, 16) for _ in range(draw.integer(1, 6))]
    s.see("the tokens", s.generate(model, prompt, draw.integer(1, 9), 99))
    s.see("tokens that went through the model", s.get(model, "fed"))
    s.see("calls of the model", s.get(model, "calls"))


@hidden("q5", times=6)
def an_end(s, draw):
    model = s.ToyModel(draw.integer(0, 1000), 5)
    s.see("the tokens", s.generate(model, [draw.integer(0, 4)], 12, draw.integer(0, 4)))
    s.see("tokens that went through the model", s.get(model, "fed"))


@hidden("q5", times=1)
def an_end_at_once_and_in_the_prompt(s, draw):
    for label, prompt, end in (("at once", [3, 1, 4], 10), ("in the prompt", [3, 9, 4], 9)):
        model = s.ToyModel(5)
        s.see(f"the tokens, with the end {label}", s.generate(model, prompt, 6, end))
        s.see("tokens that went through the model", s.get(model, "fed"))


@hidden("q5", times=1)
def nothing(s, draw):
    model = s.ToyModel(1)
    s.see("no tokens", s.generate(model, [2, 3], 0, 99))
    s.see("tokens that went through the model", s.get(model, "fed"))


@hidden("q7", times=9)  # three turns, and more where the machine is busy
def steps_behind_a_long_text(s, draw):
    H, S, D = 4, 511, 32
    cache = s.KVCache(1, H, S + 16, D)
    s.see("attention of the text", s.attend_cached(*[draw.normal(1, H, S, D) for _ in "qkv"], cache))
    for n in range(16):
        s.see(f"attention of step {n + 1}", s.attend_cached(*[draw.normal(1, H, 1, D) for _ in "qkv"], cache))


@hidden("q6", times=4)
def any_shape(s, draw):
    shape = [draw.integer(2, 50), draw.integer(1, 16), draw.integer(8, 128), draw.integer(1, 5000)]
    width = draw.choice([1, 2, 4])
    s.see("bytes", s.kv_bytes(*shape, draw.integer(1, 9), width))
    one = 2 * shape[0] * shape[1] * shape[2] * shape[3] * width
    s.see(
        "how many fit",
        s.largest_batch(10**6 + one * draw.integer(0, 20) + draw.integer(0, one - 1), 10**6, *shape, width),
    )


@hidden("q6", times=1)
def no_room(s, draw):
    s.see("weights alone are too large", s.largest_batch(10**6, 2 * 10**6, 2, 2, 8, 16, 2))
    s.see("weights fit, one sequence does not", s.largest_batch(10**6, 10**6 - 1, 2, 2, 8, 16, 2))
    s.see("just one", s.largest_batch(2048, 0, 2, 2, 8, 16, 2))
