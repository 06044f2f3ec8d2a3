"""What a request is given: tokens, text, the piece in hand, and why it ends. No model here."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teachkit.output import Output
from teachkit.tokenizer import Tokenizer


class Utf8(Tokenizer):
    """A tokenizer whose tokens are the bytes of a text: characters may take four of them."""

    def __init__(self):
        pass  # no file

    def decode(self, ids):
        return bytes(ids).decode("utf-8", errors="replace")


END = 0  # a byte that no text below holds


def given_tokens(tokens, limit=("length", 1_000), **options):
    """An output after these tokens, or after the one that ended it, and the pieces that it streamed."""
    pieces = []
    output = Output(Utf8(), limit, eos=(END,), stream=pieces.append, **options)
    for token in tokens:
        output.add(token)
        if output.finish:
            break
    assert "".join(pieces) == output.text
    assert all(pieces)
    return output, pieces


# --- without a text ------------------------------------------------------------------------------------


def test_without_a_tokenizer_tokens_are_counted_and_nothing_is_written():
    output = Output(None, ("length", 3), eos=(7,), stream=lambda piece: pytest.fail("no text"))
    for token, finish in [(5, None), (6, None), (8, "length")]:
        output.add(token)
        assert output.finish == finish
    assert (output.tokens, output.text) == ([5, 6, 8], "")


@pytest.mark.parametrize("name", ["length", "context"])
@pytest.mark.parametrize(("token", "last"), [(5, None), (7, "eos"), (9, "eos")])
def test_the_limit_has_a_name_and_the_end_of_text_comes_before_it(name, token, last):
    output = Output(None, (name, 2), eos=(7, 9))
    output.add(1)
    assert output.finish is None
    output.add(token)
    assert output.finish == (last or name)
    assert output.tokens == [1, token]


def test_a_limit_of_one():
    output, pieces = given_tokens(b"x", ("context", 1))
    assert (output.finish, output.text, pieces) == ("context", "x", ["x"])


# --- what is held back, and until when -----------------------------------------------------------------


def test_what_may_begin_a_stop_is_held_until_it_does_not():
    """Token by token: what has been shown after each."""
    shown = []
    output = Output(Utf8(), ("length", 99), stops=("abab", "ac"), stream=lambda piece: None)
    for token in b"xabaabz":
        output.add(token)
        shown.append(output.text)
    assert shown == ["x", "x", "x", "x", "xaba", "xaba", "xabaabz"]
    assert output.finish is None


def test_the_longest_beginning_counts():
    """After "aab" both "aabc" and "bd" may follow: three characters are held, not one."""
    output, _ = given_tokens(b"xaab", stops=("bd", "aabc"))
    assert output.text == "x"
    assert given_tokens(b"xaabd", stops=("bd", "aabc"))[0].text == "xaa"
    assert given_tokens(b"xaabc", stops=("bd", "aabc"))[0].text == "x"


@pytest.mark.parametrize("end", ["limit", "end of text"])
def test_what_was_held_comes_at_the_end(end):
    tokens, limit = (b"one st", 6) if end == "limit" else (b"one st\0", 99)
    output, pieces = given_tokens(tokens, ("length", limit), stops=("stop",))
    assert output.text == "one st"
    assert output.finish == ("length" if end == "limit" else "eos")
    assert pieces[-1] == "st"


def test_a_stop_that_the_last_token_completes_is_a_stop():
    output, _ = given_tokens(b"one stop", ("length", 8), stops=("stop",))
    assert (output.finish, output.text) == ("stop", "one ")


def test_half_a_character_at_the_limit_is_shown_as_such():
    whole = "a🙂".encode()
    output, pieces = given_tokens(whole, ("length", 4))
    assert (output.text, pieces) == ("a\ufffd", ["a", "\ufffd"])
    output, pieces = given_tokens(whole, ("length", 5))
    assert (output.text, pieces) == ("a🙂", ["a", "🙂"])
    output, _ = given_tokens([*whole[:4], END])
    assert (output.finish, output.text) == ("eos", "a\ufffd")


def test_half_a_character_may_complete_a_stop():
    """Only what ends the text makes it certain that no whole character follows."""
    output, _ = given_tokens("a🙂".encode()[:4], ("length", 4), stops=("\ufffd",))
    assert (output.finish, output.text) == ("stop", "a")
    output, _ = given_tokens("a🙂b".encode(), stops=("\ufffd",))
    assert (output.finish, output.text) == (None, "a🙂b")


def test_no_piece_before_its_text_is_certain():
    seen = []
    output = Output(Utf8(), ("length", 99), stops=("!?",), stream=seen.append)
    for token in "é!".encode():
        output.add(token)
    assert seen == ["é"]
    output.add(ord("."))
    assert seen == ["é", "!."]


def test_the_end_of_text_is_in_the_tokens_and_not_in_the_text():
    output, _ = given_tokens([*b"ab", END, *b"cd"])
    assert (output.finish, output.text, output.tokens) == ("eos", "ab", [*b"ab", END])


# --- a caller that fails -------------------------------------------------------------------------------


def test_what_the_stream_raises_is_raised_when_the_text_is_there():
    """So that who catches it finds the output whole."""

    def refuse(piece):
        raise OSError(f"no room for {piece!r}")

    output = Output(Utf8(), ("length", 2), stream=refuse)
    with pytest.raises(OSError, match="no room for 'a'"):
        output.add(ord("a"))
    assert (output.tokens, output.text, output.finish) == ([ord("a")], "a", None)
    with pytest.raises(OSError, match="no room for 'b'"):
        output.add(ord("b"))
    assert (output.text, output.finish) == ("ab", "length")


# --- any text, any stops -------------------------------------------------------------------------------


def expected(tokens, stops, most):
    """The oracle looks at the whole text after each token, and keeps nothing in between."""
    for n in range(1, len(tokens) + 1):
        ended = "eos" if tokens[n - 1] == END else "length" if n == most else None
        text = Utf8().decode(tokens[: n - (ended == "eos")])
        certain = text if ended else text.rstrip("\ufffd")
        found = [at for at in map(certain.find, stops) if at >= 0]
        if found:
            return tokens[:n], certain[: min(found)], "stop"
        if ended:
            return tokens[:n], text, ended
    return tokens, None, None


ALPHABET = "ab🙂é"


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(ALPHABET, max_size=12),
    stops=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3),
    most=st.integers(1, 40),
    ends=st.booleans(),
)
def test_any_text_with_any_stops(text, stops, most, ends):
    tokens = [*text.encode(), *([END] if ends else [])]
    output, pieces = given_tokens(tokens, ("length", most), stops=stops)
    kept, shown, finish = expected(tokens, stops, most)
    assert (output.tokens, output.finish) == (kept, finish)
    if finish:
        assert output.text == shown
    else:  # not at an end: what is shown is a beginning, and only what may begin a stop is held
        held = text[len(output.text) :]
        assert text.startswith(output.text)
        assert not held or any(stop.startswith(held) for stop in stops)
    assert len(pieces) <= len(tokens)
