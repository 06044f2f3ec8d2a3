"""Generation: the loop, its ends, its stream. A scripted model makes every ending exact."""

from __future__ import annotations

import math
import time

import pytest
import torch

import teachkit as tk
from conftest import tiny_config, tiny_model, unchecked
from teachkit.cache import CacheFull, ContiguousCache
from teachkit.decode import Generation, generate, prefill
from tolerance import TOLERANCE


def scripted(bundled, text, n=64):
    """A sampler that writes the tokens of ``text`` and then the end-of-text token."""
    script = iter([*bundled.tokenizer.encode(text), *[bundled.config.eos_token_ids[0]] * n])
    return lambda logits, generator=None: torch.tensor([next(script)])


def streamed(model, *args, **kwargs):
    pieces = []
    made = generate(model, *args, stream=pieces.append, **kwargs)
    assert "".join(pieces) == made.text
    assert all(pieces)
    return made, pieces


def test_greedy_is_the_argmax_of_the_whole_sequence_each_time():
    """The oracle has no cache and no loop of ours: it recomputes everything for every token."""
    model = tiny_model()
    tokens = [5, 7, 11]
    for _ in range(13):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert generate(model, [5, 7, 11], 13).tokens == tokens[3:]


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunked_prefill_gives_the_same_logits(chunk):
    model, prompt = tiny_model(dtype=torch.float64), list(range(3, 14))
    whole, parts = (ContiguousCache(model.config, 1, 20, dtype=torch.float64) for _ in range(2))
    expected = prefill(model, whole, prompt)
    got = prefill(model, parts, prompt, chunk=chunk)
    torch.testing.assert_close(got, expected, **TOLERANCE[torch.float64])
    assert generate(model, prompt, 5, prefill_chunk=chunk).tokens == generate(model, prompt, 5).tokens


def test_seed_makes_choices_repeatable_and_matters():
    model, sample = tiny_model(), tk.sampler(temperature=2.0)
    made = {seed: generate(model, [1, 2, 3], 17, sample, seed).tokens for seed in (0, 1, 2)}
    assert generate(model, [1, 2, 3], 17, sample, 1).tokens == made[1]
    assert len({tuple(tokens) for tokens in made.values()}) == 3


def test_seed_is_apart_from_the_global_generator():
    model, sample = tiny_model(), tk.sampler(temperature=2.0)
    torch.manual_seed(3)
    untouched = torch.rand(5)
    torch.manual_seed(3)
    seeded = generate(model, [1, 2, 3], 17, sample, 1).tokens
    assert torch.equal(torch.rand(5), untouched)
    torch.manual_seed(5)
    assert generate(model, [1, 2, 3], 17, sample, 1).tokens == seeded
    torch.manual_seed(7)
    free = generate(model, [1, 2, 3], 17, sample).tokens  # without a seed the global one decides
    torch.manual_seed(7)
    assert generate(model, [1, 2, 3], 17, sample).tokens == free


@pytest.mark.parametrize(
    "limit", [{"temperature": 0.0}, {"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-9}]
)
def test_limits_of_sampling_are_greedy(limit):
    model = tiny_model()
    assert generate(model, [1, 2, 3], 17, tk.sampler(**limit)).tokens == generate(model, [1, 2, 3], 17).tokens


def test_any_of_several_ends_of_text_ends_it():
    model = tiny_model(tiny_config(eos_token_ids=(7, 11)))
    for last in (7, 11):
        script = iter([5, 3, last, 2])
        made = generate(model, [1], 9, lambda logits, generator=None, it=script: torch.tensor([next(it)]))
        assert (made.tokens, made.finish) == ([5, 3, last], "eos")


def test_inference_mode_does_not_leak_into_the_callback(bundled):
    modes = []
    generate(bundled, "import ", 3, stream=lambda piece: modes.append(torch.is_inference_mode_enabled()))
    assert modes
    assert not any(modes)


def test_max_new_tokens_ends_it(bundled):
    made = generate(bundled, "import ", 5)
    assert (made.finish, len(made.tokens), len(made.times_s)) == ("length", 5, 5)


def test_end_of_text_ends_it_and_is_not_shown(bundled):
    made, _ = streamed(bundled, "x", 50, sampler=scripted(bundled, "import os\n"))
    assert (made.finish, made.text) == ("eos", "import os\n")
    assert made.tokens[-1] in bundled.config.eos_token_ids


def test_context_ends_it():
    model = tiny_model()
    made = generate(model, list(range(50)), 10)
    assert (made.finish, len(made.tokens)) == ("context", 3)
    assert generate(model, list(range(50)), 3).finish == "length"


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("def main():\n    pass\n", "pass", "def main():\n    "),
        ("def main():\n    pass\n", ["zzz", "ain()"], "def m"),  # begins within a token
        ("a = b == c", ["== c"], "a = b "),  # the first "=" looks like its beginning
        ("a\na\nb", ["\nb"], "a\na"),
        ("abcabd", ["abd"], "abc"),
        ("one two", ["two", "one two"], ""),  # the earlier one counts, not the first listed
        ("one", ["never"], "one"),
        ("end of a sto", ["stop"], "end of a sto"),  # held back, then not a stop after all
        ("🙂 and 🙃.", ["🙃"], "🙂 and "),
    ],
)
def test_stop_strings(bundled, text, stop, shown):
    made, _ = streamed(bundled, "x", 50, sampler=scripted(bundled, text), stop=stop)
    assert made.text == shown
    assert made.finish == ("eos" if shown == text else "stop")


def test_stop_ends_the_work_too(bundled):
    """No token is computed after the one that completed the stop string."""
    ids = bundled.tokenizer.encode("import os\nimport sys\n")
    made = generate(bundled, "x", 50, scripted(bundled, "import os\nimport sys\n"), stop="\n")
    assert made.text == "import os"
    assert len(made.tokens) < len(ids)


def test_stream_gives_text_while_it_is_written(bundled):
    """The first piece arrives before the last token is chosen."""
    events = []
    write = scripted(bundled, "import os\nimport sys\n")

    def sample(logits, generator=None):
        events.append("token")
        return write(logits)

    generate(bundled, "x", 50, sample, stream=lambda piece: events.append("text"))
    assert events.index("text") < 4
    assert events.count("text") > 3


def test_a_character_of_several_tokens_arrives_whole(bundled):
    _, pieces = streamed(bundled, "x", 50, sampler=scripted(bundled, "é🙂 日本"))
    assert not any("\ufffd" in piece for piece in pieces)


def test_budget_that_ends_within_a_character(bundled):
    n = len(bundled.tokenizer.encode("🙂"))
    made, _ = streamed(bundled, "x", n - 1, sampler=scripted(bundled, "🙂"))
    assert made.text == bundled.tokenizer.decode(made.tokens)


def test_empty_prompt_starts_from_the_beginning_of_text(bundled):
    assert generate(bundled, "", 5).tokens == generate(bundled, [bundled.tokenizer.bos], 5).tokens


def test_given_cache_is_used_and_keeps_all_but_the_last_token():
    model = tiny_model()
    cache = ContiguousCache(model.config, 1, 20)
    made = generate(model, [1, 2, 3], 5, cache=cache)
    assert cache.lengths.tolist() == [3 + 5 - 1]
    assert made.tokens == generate(model, [1, 2, 3], 5).tokens


def test_times(monkeypatch):
    """With a clock that ticks once per look: token n is known at tick n."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    made = generate(tiny_model(), [1, 2, 3], 5)
    assert made.times_s == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (made.ttft_s, made.tpot_s) == (1.0, 1.0)


def test_ttft_and_tpot_by_hand():
    made = Generation("", [1, 2, 3], "length", [0.5, 0.7, 1.1])
    assert made.ttft_s == 0.5
    assert made.tpot_s == pytest.approx(0.3)
    assert math.isnan(Generation("", [1], "length", [0.5]).tpot_s)


def test_nothing_is_kept_for_gradients():
    model = tk.Decoder(tiny_config())
    cache = ContiguousCache(model.config, 1, 20)
    generate(model, [1, 2], 3, cache=cache)
    assert not cache.k.requires_grad


# One test per error


def test_prompt_longer_than_the_context():
    with pytest.raises(ValueError, match=r"fewer than 53 tokens .*, got 53"):
        generate(tiny_model(), [1] * 53)


def test_token_outside_the_vocabulary():
    with pytest.raises(ValueError, match="ids from 0 to 60, got 61"):
        generate(tiny_model(), [1, 61])


def test_no_new_tokens():
    with pytest.raises(ValueError, match="max_new_tokens: expected at least 1, got 0"):
        generate(tiny_model(), [1], 0)


def test_empty_stop_string(bundled):
    with pytest.raises(ValueError, match="stop: expected non-empty"):
        generate(bundled, "x", stop=["a", ""])


@pytest.mark.parametrize("wish", [{"prompt": "text"}, {"stop": "x"}, {"stream": print}], ids=str)
def test_text_without_a_tokenizer(wish):
    with pytest.raises(ValueError, match="no tokenizer"):
        generate(tiny_model(), **({"prompt": [1]} | wish))


def test_prompt_of_nothing():
    with pytest.raises(ValueError, match="at least one token, got none"):
        generate(tiny_model(), [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(value):
    model = tiny_model()
    model.blocks[1].mlp.down.weight[3, 2] = value
    with pytest.raises(ValueError, match="logits: expected finite numbers"):
        generate(model, [1, 2, 3])


def test_given_cache_that_is_too_small():
    model = tiny_model()
    cache = ContiguousCache(model.config, 1, 4)
    with pytest.raises(CacheFull, match="exceed the capacity of 4"):
        generate(model, [1, 2, 3], 5, cache=cache)


def test_chunk_below_one():
    model = tiny_model()
    with unchecked(), pytest.raises(ValueError, match="expected at least 1 of each, got 2 and -2"):
        prefill(model, ContiguousCache(model.config, 1, 9), [1, 2], chunk=-2)


def test_prefill_of_nothing():
    model = tiny_model()
    with pytest.raises(ValueError, match="expected at least 1 of each, got 0 and None"):
        prefill(model, ContiguousCache(model.config, 1, 9), [])


def test_given_cache_that_is_not_empty():
    model = tiny_model()
    cache = ContiguousCache(model.config, 1, 20)
    generate(model, [1, 2, 3], 5, cache=cache)
    with pytest.raises(ValueError, match=r"cache: expected one row of length 0, got lengths \[7\]"):
        generate(model, [1, 2, 3], 5, cache=cache)


def test_given_cache_of_two_rows():
    model = tiny_model()
    with pytest.raises(ValueError, match=r"cache: expected one row of length 0, got lengths \[0, 0\]"):
        generate(model, [1, 2, 3], 5, cache=ContiguousCache(model.config, 2, 20))
