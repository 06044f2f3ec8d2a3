"""Text to token ids and back, on the `tokenizers` library; decoding a stream never splits a character."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers


class Tokenizer:
    """The tokenizer of a checkpoint folder (``tokenizer.json``).

    Raises  FileNotFoundError, ValueError: a file that is no tokenizer
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected the checkpoint's tokenizer, not found")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a malformed file
            raise ValueError(f"{path}: not a tokenizer ({error})") from error
        self.bos = self._special(folder, "bos_token")
        self.eos = self._special(folder, "eos_token")

    def _special(self, folder: str | Path, name: str) -> int | None:
        path = Path(folder) / "tokenizer_config.json"
        try:
            settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error})") from error
        token = settings.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self._tokenizer.token_to_id(content)

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json``, and ``tokenizer_config.json`` with the names of BOS and EOS."""
        self._tokenizer.save(str(Path(folder) / "tokenizer.json"))
        ids = {"bos_token": self.bos, "eos_token": self.eos}
        names = {name: self._tokenizer.id_to_token(i) for name, i in ids.items() if i is not None}
        text = json.dumps(names, ensure_ascii=False, indent=2) + "\n"
        (Path(folder) / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of ``text``; with ``special``, also what the checkpoint puts around a text (often a BOS).

        Raises  ValueError: half of a surrogate pair, which is what Python makes of bytes that are no text
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=special).ids
        except TypeError as error:  # the library's word for a str that has no UTF-8
            raise ValueError(f"text: expected Unicode characters, got {text!r:.80}") from error

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``, special tokens left out; bytes that form no character become U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def pieces(self, text: str) -> list[str]:
        """``text`` cut where its tokens are. A character that several tokens share stands in each of them."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [text[start:end] for start, end in offsets]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Text as it becomes certain, token by token; the pieces join to ``decode(ids)``."""
        text = TextStream(self)
        for token in ids:
            if piece := text.push(token):
                yield piece
        if rest := text.end():
            yield rest


class TextStream:
    """Text of tokens that come one at a time, as soon as it is certain.

    A token may end within a character, and its text may depend on the token before it. So each new piece is
    decoded together with the previous one, and kept back while it ends in U+FFFD; what is left at the end
    comes out as it is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []  # decoded already, kept as context
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """What has become certain with this token; often its text, sometimes nothing."""
        self._waiting.append(token)
        piece = self.end()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._before, self._waiting = self._waiting, []
        return piece

    def end(self) -> str:
        """What was kept back."""
        decode = self._tokenizer.decode
        return decode(self._before + self._waiting)[len(decode(self._before)) :]
