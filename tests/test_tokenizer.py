"""Tokenizer: transformers is the oracle; a stream joins to the whole text and never splits a character."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

import teachkit as tk
from teachkit.tokenizer import Tokenizer

BUNDLED = tk.weights.find("bundled")
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(BUNDLED)


def write_folder(folder: Path, tokenizer: tokenizers.Tokenizer, **config: object) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_ids_are_those_of_transformers(tokenizer):
    oracle = transformers.AutoTokenizer.from_pretrained(BUNDLED)
    held = json.loads((BUNDLED / "heldout.json").read_text(encoding="utf-8"))
    texts = [*list(held.values())[:5], "naïve 🙂 日本\t\r\n\n   x", ""]
    for text in texts:
        assert tokenizer.encode(text) == oracle.encode(text)
    assert tokenizer.vocab_size == len(oracle)
    assert (tokenizer.bos, tokenizer.eos) == (oracle.bos_token_id, oracle.eos_token_id)


@given(any_text)
@settings(deadline=None)
def test_encode_then_decode_gives_the_text(text):
    tokenizer = Tokenizer(BUNDLED)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(any_text)
@settings(deadline=None)
def test_pieces_join_to_the_text_in_order(text):
    """Tokens of one character's bytes cover the same character; the others do not overlap."""
    tokenizer = Tokenizer(BUNDLED)
    pieces = tokenizer.pieces(text)
    assert len(pieces) == len(tokenizer.encode(text))
    if text.isascii():
        assert "".join(pieces) == text


def test_a_prompt_that_ends_in_a_space_ends_where_a_token_ends(tokenizer):
    assert tokenizer.pieces("def ") == ["def "]
    assert tokenizer.pieces("def main")[0] == "def "


@given(any_text)
@settings(deadline=None)
def test_stream_of_a_text_joins_and_never_splits_a_character(text):
    tokenizer = Tokenizer(BUNDLED)
    pieces = list(tokenizer.stream(tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert all(pieces)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 300), max_size=25))
@settings(deadline=None)
def test_stream_of_any_ids_joins_to_their_text(ids):
    """Ids below 257 are single bytes, so most of these sequences are not UTF-8."""
    tokenizer = Tokenizer(BUNDLED)
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids)


def test_stream_waits_for_the_last_byte_of_a_character(tokenizer):
    ids = tokenizer.encode("🙂")
    assert len(ids) > 1  # not a token of its own
    given_out = [list(tokenizer.stream(ids[:n])) for n in range(1, len(ids) + 1)]
    assert given_out[-1] == ["🙂"]
    assert all("🙂" not in "".join(pieces) for pieces in given_out[:-1])


def test_stream_is_lazy(tokenizer):
    def ids():
        yield from tokenizer.encode("import os")
        raise AssertionError("asked for more than was needed")

    assert next(tokenizer.stream(ids())) == "import "


def test_special_tokens_around_a_text(tmp_path):
    """A Llama-style tokenizer puts a beginning-of-text token first; special=False leaves it out."""
    inner = tokenizers.Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="b"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["<s>"])
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    folder = write_folder(tmp_path, inner, bos_token={"content": "<s>"}, eos_token=None)
    tokenizer = Tokenizer(folder)
    assert tokenizer.encode("a b") == [0, 1, 2]
    assert tokenizer.encode("a b", special=False) == [1, 2]
    assert tokenizer.decode([0, 1, 2]) == "a b"
    assert (tokenizer.bos, tokenizer.eos) == (0, None)


def test_stream_keeps_spaces_that_a_decoder_takes_from_the_front(tmp_path):
    """SentencePiece-like decoders drop the first space, so a token's text depends on the one before it."""
    inner = tokenizers.Tokenizer(models.WordLevel({"▁to": 0, "▁be": 1, "fore": 2}, unk_token="fore"))
    inner.decoder = decoders.Metaspace()
    tokenizer = Tokenizer(write_folder(tmp_path, inner))
    assert list(tokenizer.stream([0, 1, 2, 0])) == ["to", " be", "fore", " to"]
    assert (tokenizer.bos, tokenizer.eos) == (None, None)


def test_folder_without_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json: expected the checkpoint's tokenizer"):
        Tokenizer(tmp_path)


def test_file_that_is_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer(tmp_path)
