"""What a request has been given so far: its tokens, their text, and why it ended. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from teachkit.tokenizer import TextStream, Tokenizer

Finish = Literal["length", "context", "eos", "stop"]


class Output:
    """Tokens are added one at a time, until ``finish`` says why no more will be.

    tokens  the new ids, the one that ended the text included
    text    of the new tokens; ends before the stop string or the end-of-text token
    finish  None while it goes on; then "eos", "stop", or what the limit on tokens is called

    limit      of new tokens, and what it is called: ("length", the caller's) or ("context", the model's)
    eos        ids that end a text
    stops      text ends before the first of these strings
    stream     called with each new piece of text; the pieces join to ``text``
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        limit: tuple[Literal["length", "context"], int],
        *,
        eos: Collection[int] = (),
        stops: Sequence[str] = (),
        stream: Callable[[str], object] | None = None,
    ) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.finish: Finish | None = None
        self._limit, self._eos, self._stops, self._stream = limit, eos, stops, stream
        self._pieces = None if tokenizer is None else TextStream(tokenizer)
        self._held = ""  # text that may be the beginning of a stop string

    def add(self, token: int) -> None:
        """One more token; ends the output when it is the last."""
        name, most = self._limit
        self.tokens.append(token)
        if token in self._eos:
            self.finish = "eos"
        elif len(self.tokens) >= most:
            self.finish = name
        if self._pieces is None:
            return
        if self.finish == "eos":
            self._write(self._pieces.end(), last=True)
        elif self.finish:
            self._write(self._pieces.push(token) + self._pieces.end(), last=True)
        else:
            self._write(self._pieces.push(token))

    def _write(self, piece: str, *, last: bool = False) -> None:
        """Pass text on until a stop string appears; hold back what may be the beginning of one."""
        held = self._held + piece
        found = [at for at in (held.find(s) for s in self._stops) if at >= 0]
        if found:
            self.finish, cut = "stop", min(found)
        elif last:
            cut = len(held)
        else:
            cut = len(held) - max(
                (n for s in self._stops for n in range(1, len(s)) if held.endswith(s[:n])), default=0
            )
        self._held, piece = held[cut:], held[:cut]
        self.text += piece
        if piece and self._stream is not None:
            self._stream(piece)
