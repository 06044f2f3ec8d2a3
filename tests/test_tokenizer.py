"""Tokenizer: transformers is the oracle; a stream joins to the whole text and never splits a character."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import teachkit as tk
from teachkit.tokenizer import Tokenizer

BUNDLED = tk.weights.find("bundled")
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(BUNDLED)  # module scope: hypothesis would read the file for every example


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
def test_encode_then_decode_gives_the_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(any_text)
@settings(deadline=None)
def test_pieces_join_to_the_text_in_order(tokenizer, text):
    """Tokens of one character's bytes cover the same character; the others do not overlap."""
    pieces = tokenizer.pieces(text)
    assert len(pieces) == len(tokenizer.encode(text))
    if text.isascii():
        assert "".join(pieces) == text


def test_a_prompt_that_ends_in_a_space_ends_where_a_token_ends(tokenizer):
    assert tokenizer.pieces("def ") == ["def "]
    assert tokenizer.pieces("def main")[0] == "def "


@given(any_text)
@settings(deadline=None)
def test_stream_of_a_text_joins_and_never_splits_a_character(tokenizer, text):
    pieces = list(tokenizer.stream(tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert all(pieces)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 300), max_size=25))
@settings(deadline=None)
def test_stream_of_any_ids_joins_to_their_text(tokenizer, ids):
    """Ids below 257 are single bytes, so most of these sequences are not UTF-8."""
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids)


def bytes_of_tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    """GPT-2's rule: a byte that prints stands for itself, the n-th of the others is chr(256 + n)."""
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in prints]
    byte_of = {chr(b): b for b in prints} | {chr(256 + n): b for n, b in enumerate(others)}
    stored = json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = stored["model"]["vocab"]
    assert len(vocabulary) in (tokenizer.vocab_size, tokenizer.vocab_size - 1)  # the separator may be apart
    return {i: bytes(map(byte_of.__getitem__, t)) for t, i in vocabulary.items() if i != tokenizer.bos}


@given(st.lists(st.integers(1, 4095), max_size=25))
@settings(deadline=None)
def test_decode_is_what_python_makes_of_the_bytes(tokenizer, ids):
    bytes_of = bytes_of_tokens(tokenizer)
    expected = b"".join(bytes_of[i] for i in ids).decode("utf-8", errors="replace")
    assert tokenizer.decode(ids) == expected
    assert "".join(tokenizer.stream(ids)) == expected


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


@pytest.fixture(scope="module")
def sentencepiece_like(tmp_path_factory) -> Tokenizer:
    """As in Llama 2 and Mistral: "▁" for a space, bytes as tokens, the first space taken away."""
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocabulary = special | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for token in ["▁", "a", "b", "▁a", "ab"]:
        vocabulary[token] = len(vocabulary)
    inner = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("▁", "a"), ("a", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(list(special))
    folder = write_folder(tmp_path_factory.mktemp("tokenizer"), inner, bos_token="<s>", eos_token="</s>")
    return Tokenizer(folder)


@given(text=st.text(st.sampled_from("ab é日🙂"), max_size=20))
@settings(deadline=None)
def test_stream_of_bytes_as_tokens_joins_and_never_splits_a_character(sentencepiece_like, text):
    pieces = list(sentencepiece_like.stream(sentencepiece_like.encode(text)))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_special_tokens_are_silent_in_a_stream(sentencepiece_like):
    a, b = sentencepiece_like.encode("a")[0], sentencepiece_like.encode("b")[-1]
    assert list(sentencepiece_like.stream([1, a, 2, b])) == ["a", "b"]


def test_settings_that_are_damaged(tmp_path, tokenizer):
    (tmp_path / "tokenizer.json").write_bytes((BUNDLED / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not JSON"):
        Tokenizer(tmp_path)


def test_text_without_utf8(tokenizer):
    with pytest.raises(ValueError, match=r"text: expected Unicode characters, got 'a\\udcff'"):
        tokenizer.encode("a\udcff")
