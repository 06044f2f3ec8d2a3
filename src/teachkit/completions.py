"""The same trace against a server with OpenAI's completions API, such as vLLM: a connection for each request.

Only Python's own library. Each request has a thread that sends it when it comes and reads the answer as it is
streamed; whatever goes wrong with an answer is an error of that request and of no other. Beside OpenAI's own
fields three are sent that vLLM adds: ``top_k``, ``ignore_eos``, and ``return_token_ids``, which says how many
tokens a piece of text stands for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from teachkit.outcome import Outcome, Progress, Replay, progress
from teachkit.trace import Trace, TraceRequest

TIMEOUT_S = 600.0  # without a byte from the server; a request may wait long in its queue
PATIENCE_S = 0.05  # between two looks at the clock, while others read


def replay(
    url: str,
    model: str,
    trace: Trace,
    *,
    timeout_s: float = TIMEOUT_S,
    show: Callable[[Progress], object] | None = None,
) -> Replay:
    """Play a trace in real time, until the last of its requests has ended.

    url     up to the version: "http://localhost:8000/v1"
    model   as the server calls it
    trace   with prompts as ids (:meth:`teachkit.trace.Trace.filled`), of the tokenizer of that model
    show    called about every PATIENCE_S with how far it is
    Raises  ValueError: an address that is none. What a server does is told in the outcomes
    """
    address = _address(url)
    calls = [
        _Call(address, Outcome(index, asked), _body(model, asked, ignore_eos=trace.ignore_eos), timeout_s)
        for index, asked in enumerate(trace.requests)
    ]
    outcomes = tuple(call.outcome for call in calls)
    coming = deque(sorted(calls, key=lambda call: call.outcome.asked.arrival_s))
    live: list[_Call] = []
    start_s = time.perf_counter()
    while coming or live:
        now_s = time.perf_counter() - start_s
        while coming and coming[0].outcome.asked.arrival_s <= now_s:
            live.append(coming.popleft())
            live[-1].begin(start_s)
        live = [call for call in live if not call.over(now_s)]
        if show is not None:
            show(progress(outcomes, now_s))
        pause = coming[0].outcome.asked.arrival_s - now_s if coming else PATIENCE_S
        if coming or live:
            time.sleep(max(0.0, min(PATIENCE_S, pause)))
    done = max((one.ended_s or 0.0 for one in outcomes), default=0.0)
    return Replay(trace, url, outcomes, done, start_s=start_s)


def _address(url: str) -> SplitResult:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError(f"url: expected one such as http://localhost:8000/v1, got {url!r}")
    return address


def _body(model: str, asked: TraceRequest, *, ignore_eos: bool) -> bytes:
    if not asked.prompt:
        raise ValueError("trace: expected prompts as token ids; call trace.filled(vocab_size) first")
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(asked.prompt),
        "max_tokens": asked.max_new_tokens,
        "temperature": asked.temperature,  # always: the server's own default is not 0
        "ignore_eos": ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    for name in ("top_k", "top_p", "seed"):
        if (value := getattr(asked, name)) is not None:
            body[name] = value
    if asked.stop:
        body["stop"] = list(asked.stop)
    return json.dumps(body).encode()


class _AnswerError(Exception):
    """What came is no answer to a request; the message says what did."""


class _Call:
    """One request, its thread and its connection."""

    def __init__(self, address: SplitResult, outcome: Outcome, body: bytes, timeout_s: float) -> None:
        self.address, self.outcome, self.body, self.timeout_s = address, outcome, body, timeout_s
        self.left = threading.Event()  # its client went away
        self.socket: socket.socket | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.start_s = 0.0

    def begin(self, start_s: float) -> None:
        self.start_s = start_s
        self.thread.start()

    def over(self, now_s: float) -> bool:
        """Whether it has ended. Hangs up when its client goes away; its thread then ends by itself."""
        cancel_s = self.outcome.asked.cancel_s
        if cancel_s is not None and cancel_s <= now_s and not self.outcome.done:
            self.left.set()
            _hang_up(self.socket)
        return not self.thread.is_alive()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self.start_s

    def _run(self) -> None:
        kind = http.client.HTTPSConnection if self.address.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.address.hostname or "", self.address.port, timeout=self.timeout_s)
        finish, error = "error", ""
        try:
            finish = self._answer(connection)
        except TimeoutError:
            error = f"no answer for {self.timeout_s:g} s"
        except _AnswerError as wrong:
            error = str(wrong)
        except (OSError, http.client.HTTPException, ValueError) as wrong:
            error = f"connection: {str(wrong) or type(wrong).__name__}"
        except Exception as wrong:  # nothing may be lost in a thread
            error = f"{type(wrong).__name__}: {wrong}"
        finally:
            connection.close()
        if self.left.is_set():
            finish, error = "cancelled", ""
        n = self.outcome.n_tokens
        after = f" (after {n} token{'s' if n > 1 else ''})" if error and n else ""
        self.outcome.end(self.now_s, finish, error + after)

    def _answer(self, connection: http.client.HTTPConnection) -> str:
        """Send, and read to the end; why it ended."""
        connection.connect()
        self.socket = connection.sock
        if self.left.is_set():  # before there was anything to hang up
            return "cancelled"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        connection.request("POST", f"{self.address.path.rstrip('/')}/completions", self.body, headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise _AnswerError(f"HTTP {response.status}: {_reason(response.read(10_000))}")
        finish = None
        for chunk in _chunks(response):
            finish = self._take(chunk) or finish
        if finish is None:
            raise _AnswerError("the answer ended without saying why")
        return finish

    def _take(self, chunk: dict[str, Any]) -> str | None:
        """What one piece of the answer adds; why the text ends, in the last."""
        now_s, outcome = self.now_s, self.outcome
        try:
            finish = None
            for choice in chunk["choices"]:
                ids, text = choice.get("token_ids"), choice["text"]
                if ids or text:  # one token, where the server does not say which
                    outcome.add(now_s, len(ids) if ids else 1)
                outcome.tokens += ids or []
                outcome.text += text
                finish = choice.get("finish_reason") or finish
            if chunk.get("usage"):
                outcome.n_tokens = int(chunk["usage"]["completion_tokens"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _AnswerError(f"malformed chunk: {json.dumps(chunk):.200}") from error
        return finish


def _hang_up(connection: socket.socket | None) -> None:
    """Wake the thread that reads from it."""
    if connection is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_RDWR)


def _chunks(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of the stream up to [DONE]. Raises _AnswerError: one that is none, or an end before that."""
    for raw in response:
        line = raw.decode(errors="replace").strip()
        if not line.startswith("data:"):  # empty lines, comments and names of events
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise _AnswerError(f"malformed chunk: {data:.200}") from error
        if not isinstance(chunk, dict) or "choices" not in chunk:
            raise _AnswerError(_reason(data.encode()))
        yield chunk
    raise _AnswerError("the connection ended before the answer did")


def _reason(body: bytes) -> str:
    """What an error says, in vLLM's form, in OpenAI's older one, or as it stands."""
    text = body.decode(errors="replace").strip()
    try:
        found = json.loads(text)
        found = found.get("error", found)
        return str(found["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return text[:200] or "no reason given"
