"""Bits per byte and perplexity, of models whose probabilities are known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from conftest import tiny_config, tiny_model
from teachkit.cache import ContiguousCache
from teachkit.evaluate import WINDOW, bits_per_byte, perplexity, window_nats
from teachkit.model import Decoder
from teachkit.quant_cache import QuantizedCache
from teachkit.tokenizer import Tokenizer
from tolerance import LOGITS, TOLERANCE

V = 257
SEPARATOR = 256
TEXTS = ["def f(x):\n", "é – ∞", "a", "return" * 5]
N_BYTES = 10 + 10 + 1 + 30


class Bytes(Tokenizer):
    """One token per byte of UTF-8; with ``per`` more, one per so many characters."""

    def __init__(self, bos=SEPARATOR, eos=None, per=0):
        self.bos, self.eos, self.per = bos, eos, per

    def encode(self, text, *, special=True):
        assert not special  # the separator is put there by the evaluation, once
        if not self.per:
            return list(text.encode())
        pieces = [text[i : i + self.per] for i in range(0, len(text), self.per)]
        return [sum(piece.encode()) % SEPARATOR for piece in pieces]


class Known(Decoder):
    """Log-probabilities from a function of the inputs (B, T) -> (B, T, V); remembers what it was asked."""

    def __init__(self, log_probs, tokenizer):
        super().__init__(tiny_config(vocab_size=V), tokenizer)
        self.log_probs, self.asked = log_probs, []

    def forward(self, tokens):
        self.asked.append(tokens.clone())
        return self.log_probs(tokens)


def uniform(tokens):
    return torch.zeros(*tokens.shape, V)


def successor(tokens):
    """Half of the probability on the next byte value, the rest on all others alike."""
    probs = torch.full((*tokens.shape, V), 0.5 / (V - 1))
    return probs.scatter(-1, (tokens[..., None] + 1) % V, 0.5).log() + 3.0  # logits: the constant drops out


def test_uniform_model_needs_log2_of_the_vocabulary_per_token():
    model = Known(uniform, Bytes())
    assert bits_per_byte(model, TEXTS) == pytest.approx(math.log2(V), rel=1e-6)
    assert perplexity(model, TEXTS) == pytest.approx(V, rel=1e-5)


def test_bits_are_per_byte_and_perplexity_per_token():
    # Two characters a token: (10 + 2 * 5 + 1 + 30) characters are 5 + 3 + 1 + 15 tokens of 51 bytes.
    model = Known(uniform, Bytes(per=2))
    assert bits_per_byte(model, TEXTS) == pytest.approx(24 * math.log2(V) / 51, rel=1e-6)
    assert perplexity(model, TEXTS) == pytest.approx(V, rel=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3, 512])
def test_each_token_is_scored_once_against_the_one_before(window):
    # "abcx": separator -> a is unlikely, a -> b and b -> c are 1/2, c -> x is unlikely.
    unlikely = -math.log2(0.5 / (V - 1))
    model = Known(successor, Bytes())
    # The last of one window is the first of the next: a model that looks one back does not notice the cut.
    expected = (2 * unlikely + 2 * 1) / 4
    assert bits_per_byte(model, ["abcx"], window=window) == pytest.approx(expected, rel=1e-6)


def test_windows_do_not_overlap_and_start_with_the_separator():
    model = Known(uniform, Bytes())
    bits_per_byte(model, ["abcdefg", "xy"], window=3, batch=100)
    assert [row.tolist() for row in model.asked[0]] == [
        [SEPARATOR, *b"ab"],
        [*b"cde"],
        [*b"f", 0, 0],  # predicts g; padding is not scored
        [SEPARATOR, *b"x", 0],
    ]


def test_default_window():
    model = Known(uniform, Bytes())
    bits_per_byte(model, ["a" * 1000])
    assert WINDOW == 512
    assert [tuple(inputs.shape) for inputs in model.asked] == [(2, 512)]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1, 1, 1, 1]), (3, [3, 1]), (4, [4]), (8, [4])])
def test_batch_size(batch, sizes):
    model = Known(uniform, Bytes())
    bits_per_byte(model, ["abcdefg", "xy"], window=3, batch=batch)
    assert [len(inputs) for inputs in model.asked] == sizes


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_result_does_not_depend_on_the_batch(batch):
    model = tiny_model(tiny_config(vocab_size=V), dtype=torch.float64)
    model.tokenizer = Bytes()
    one = bits_per_byte(model, TEXTS, window=7, batch=1)
    assert one > 1
    assert bits_per_byte(model, TEXTS, window=7, batch=batch) == pytest.approx(one, rel=1e-6)


def test_equals_one_token_at_a_time():
    model = tiny_model(tiny_config(vocab_size=V), dtype=torch.float64)
    model.tokenizer = Bytes()
    nats = 0.0
    for text in TEXTS:
        ids = [SEPARATOR, *text.encode()]
        for t in range(1, len(ids)):
            first = (t - 1) // 7 * 7  # of the window that predicts token t
            nats -= model(torch.tensor([ids[first:t]]))[0, -1].log_softmax(-1)[ids[t]].item()
    assert bits_per_byte(model, TEXTS, window=7) == pytest.approx(nats / math.log(2) / N_BYTES, rel=1e-6)
    assert perplexity(model, TEXTS, window=7) == pytest.approx(math.exp(nats / N_BYTES), rel=1e-6)


@pytest.fixture(scope="module")
def random_bytes():
    model = tiny_model(tiny_config(vocab_size=V))
    model.tokenizer = Bytes()
    return model


@pytest.mark.parametrize("batch", [1, 3, 100])  # rows of one length, and of several
def test_an_exact_cache_changes_nothing(batch, random_bytes):
    def cache(rows, tokens):
        return ContiguousCache(random_bytes.config, rows, tokens)

    plain = window_nats(random_bytes, TEXTS, window=7, batch=batch)
    through = window_nats(random_bytes, TEXTS, window=7, batch=batch, cache=cache)
    torch.testing.assert_close(through, plain, **TOLERANCE[torch.float32])
    assert bits_per_byte(random_bytes, TEXTS, window=7, batch=batch, cache=cache) == pytest.approx(
        float(plain.sum()) / math.log(2) / N_BYTES, rel=1e-6
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_cache_counts_as_it_does_one_token_at_a_time(bits, random_bytes):
    def cache(rows, tokens):
        return QuantizedCache(random_bytes.config, rows, tokens, bits=bits)

    nats = []
    for text in TEXTS:
        ids = [SEPARATOR, *text.encode()]
        for start in range(0, len(ids) - 1, 7):
            window, held, total = ids[start : start + 8], cache(1, 7), 0.0
            for token, target in pairwise(window):
                logits = random_bytes(torch.tensor([[token]]), cache=held)[0, -1]
                total -= logits.log_softmax(-1)[target].item()
            nats.append(total)
    found = window_nats(random_bytes, TEXTS, window=7, batch=3, cache=cache)
    torch.testing.assert_close(found, torch.tensor(nats, dtype=torch.float64), **LOGITS[torch.float32])
    plain = window_nats(random_bytes, TEXTS, window=7, batch=3)
    assert (found - plain).abs().max() > 10 * (found - torch.tensor(nats, dtype=torch.float64)).abs().max()


def test_windows_are_in_the_order_of_the_texts():
    model = Known(successor, Bytes())
    unlikely, likely = math.log((V - 1) / 0.5), math.log(2)
    found = window_nats(model, ["ab", "", "ax"], window=1, batch=3)
    assert found.tolist() == pytest.approx([unlikely, likely, unlikely, unlikely], rel=1e-6)
    assert window_nats(model, []).shape == (0,)


def test_perplexity_and_bits_are_the_same_number_in_two_units():
    model = Known(successor, Bytes())  # one byte a token
    assert perplexity(model, TEXTS) == pytest.approx(2 ** bits_per_byte(model, TEXTS), rel=1e-6)


def test_end_of_text_separates_where_there_is_no_beginning():
    model = Known(uniform, Bytes(bos=None, eos=7))
    bits_per_byte(model, ["ab"])
    assert model.asked[0].tolist() == [[7, ord("a")]]
    model = Known(uniform, Bytes(bos=0, eos=7))  # 0 is a token like others
    bits_per_byte(model, ["ab"])
    assert model.asked[0].tolist() == [[0, ord("a")]]


def test_empty_texts_among_others_count_nothing():
    model = Known(successor, Bytes())
    assert bits_per_byte(model, ["", "ab", ""]) == bits_per_byte(model, ["ab"])


def test_no_gradient_is_recorded():
    model = Known(lambda tokens: torch.zeros(*tokens.shape, V, requires_grad=True), Bytes())
    seen = []
    model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    bits_per_byte(model, ["ab"])
    assert seen == [False]


def test_bundled_model_predicts_python_better_than_chance(bundled):
    text = "def test_append(self):\n        self.assertEqual(x, [1, 2, 3])\n"
    assert bits_per_byte(bundled, [text]) < bits_per_byte(bundled, [text[::-1]]) / 2


@pytest.mark.parametrize("score", [bits_per_byte, perplexity])
@pytest.mark.parametrize("texts", [[], [""]], ids=str)
def test_no_text(score, texts):
    with pytest.raises(ValueError, match=r"texts: expected at least one (byte|token), got none"):
        score(Known(uniform, Bytes()), texts)


@pytest.mark.parametrize("score", [bits_per_byte, perplexity])
def test_no_tokenizer(score):
    with pytest.raises(ValueError, match="model: expected one with a tokenizer, got none"):
        score(Known(uniform, None), ["ab"])


@pytest.mark.parametrize("score", [bits_per_byte, perplexity])
def test_no_separator(score):
    with pytest.raises(ValueError, match="tokenizer: expected a beginning- or end-of-text token"):
        score(Known(uniform, Bytes(bos=None, eos=None)), ["ab"])


@pytest.mark.parametrize(("window", "batch"), [(0, 8), (8, 0), (-1, 8)])
def test_sizes_below_one(window, batch):
    with pytest.raises(ValueError, match=f"window, batch: expected at least 1, got {window} and {batch}"):
        bits_per_byte(Known(uniform, Bytes()), ["ab"], window=window, batch=batch)


def test_window_longer_than_the_context_of_the_model():
    model = tiny_model(tiny_config(vocab_size=V, context=11))
    model.tokenizer = Bytes()
    with pytest.raises(ValueError, match="context of 11 tokens"):
        bits_per_byte(model, ["a" * 20], window=12)
