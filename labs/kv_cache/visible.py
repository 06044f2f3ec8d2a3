"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


def counted(*shape):
    """Numbers that can be followed by eye."""
    n = 1
    for size in shape:
        n *= size
    return torch.arange(1.0, n + 1).reshape(shape)


@visible("q1")
def two_steps(s, draw):
    cache = s.KVCache(1, 1, 4, 2)
    s.see("keys and values after two tokens", cache.append(counted(1, 1, 2, 2), -counted(1, 1, 2, 2)))
    s.see("and after a third", cache.append(10 * counted(1, 1, 1, 2), -10 * counted(1, 1, 1, 2)))
    s.see("length", s.get(cache, "length"))


@visible("q2")
def a_token_too_many(s, draw):
    cache = s.KVCache(1, 1, 3, 2)
    cache.append(counted(1, 1, 2, 2), -counted(1, 1, 2, 2))
    s.see("two tokens where one fits", cache.append(counted(1, 1, 2, 2), counted(1, 1, 2, 2)))
    s.see("the length after that", s.get(cache, "length"))


@visible("q2")
def forgetting(s, draw):
    cache = s.KVCache(1, 1, 3, 2)
    cache.append(counted(1, 1, 3, 2), -counted(1, 1, 3, 2))
    cache.truncate(1)
    s.see("after forgetting all but one", cache.append(10 * counted(1, 1, 1, 2), -10 * counted(1, 1, 1, 2)))


@visible("q3")
def first_and_later(s, draw):
    x = torch.ones(1, 1, 2, 4)
    s.see("two tokens from position 0", s.rotate(x, 0))
    s.see("the same from position 3", s.rotate(x, 3))


@visible("q4")
def prompt_and_token(s, draw):
    cache = s.KVCache(1, 1, 4, 4)
    s.see("a prompt of two tokens", s.attend_cached(*[draw.normal(1, 1, 2, 4) for _ in "qkv"], cache))
    s.see("one more", s.attend_cached(*[draw.normal(1, 1, 1, 4) for _ in "qkv"], cache))


@visible("q5")
def four_tokens(s, draw):
    model = s.ToyModel(0)
    s.see("the tokens", s.generate(model, [3, 1, 4], 4, 16))
    s.see("tokens that went through the model", s.get(model, "fed"))
    s.see("calls of the model", s.get(model, "calls"))


@visible("q5")
def an_end_comes(s, draw):
    model = s.ToyModel(4)
    s.see("up to eight tokens, or until 9 comes", s.generate(model, [3, 1, 4], 8, 9))
    s.see("tokens that went through the model", s.get(model, "fed"))


@visible("q7")
def a_few_steps(s, draw):
    cache = s.KVCache(1, 2, 8, 4)
    s.see("attention of four tokens", s.attend_cached(*[draw.normal(1, 2, 4, 4) for _ in "qkv"], cache))
    for n in range(2):
        s.see(f"attention of step {n + 1}", s.attend_cached(*[draw.normal(1, 2, 1, 4) for _ in "qkv"], cache))


@visible("q6")
def gpt2(s, draw):
    s.see("bytes of GPT-2's cache, 1,024 tokens, fp32", s.kv_bytes(12, 12, 64, 1024, 1, 4))
    s.see(
        "how many fit into 2 GB beside its weights",
        s.largest_batch(2 * 10**9, 5 * 10**8, 12, 12, 64, 1024, 4),
    )
