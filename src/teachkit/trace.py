"""Traces: which requests come when, as a file that can be played again. No torch here.

A trace is JSON lines. The first says what it is, ``{"teachkit_trace": 1, "name": ..., "ignore_eos": true}``,
and each of the others is one request with the fields of :class:`TraceRequest`; those at their defaults may
be left out. :mod:`teachkit.replay` plays it through an engine, :mod:`teachkit.completions` through a server.

Random numbers are those of Python's ``random.Random.random``, which are the same everywhere and promised to
stay so. Times are rounded to microseconds and lengths to tokens: no platform's last bit is left to be seen.

>>> made = make(3, seed=0, arrivals="poisson", rate_per_s=2.0)
>>> [(request.arrival_s, request.prompt_tokens, request.max_new_tokens) for request in made.requests]
[(0.318246, 43, 61), (0.391103, 48, 23), (0.614251, 60, 112)]
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any, Literal, TypeVar

VERSION = 1
Arrivals = Literal["at once", "poisson", "bursty"]
_Read = TypeVar("_Read")
ARRIVALS: tuple[Arrivals, ...] = ("at once", "poisson", "bursty")
MEDIAN_PROMPT, MEDIAN_OUTPUT, SIGMA, CAP = 64, 48, 0.8, 512
BURST = 8


class TraceError(ValueError):
    """A field or line that is not as a trace has it."""


@dataclass(frozen=True)
class TraceRequest:
    """One request: when it comes, its prompt, and what is asked for.

    arrival_s, cancel_s     seconds from the start of the trace; at ``cancel_s`` its client goes away
    prompt                  token ids; or, where only lengths are known (as in published traces):
    prompt_tokens           how many; which ones are drawn by :meth:`Trace.filled` from ``prompt_seed``
    prompt_shared           so many of them at the beginning are those of every request of the trace
    max_new_tokens          of the output; all of them are generated where the trace ignores the end of text
    temperature             0 is greedy; others as of :func:`teachkit.sampling.sampler`
    stop                    the text ends before the first of these strings
    Raises                  TraceError: a value that is none of these; the message begins with the field
    """

    arrival_s: float
    max_new_tokens: int
    prompt: tuple[int, ...] = ()
    prompt_tokens: int = 0
    prompt_seed: int = 0
    prompt_shared: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    cancel_s: float | None = None

    def __post_init__(self) -> None:
        _number("arrival_s", self.arrival_s, 0)
        _whole("max_new_tokens", self.max_new_tokens, 1)
        self._check_prompt()
        self._check_sampling()
        _check_each("stop", "strings that are not empty", self.stop, lambda s: isinstance(s, str) and s != "")
        if self.cancel_s is not None:
            _number("cancel_s", self.cancel_s, self.arrival_s)

    def _check_prompt(self) -> None:
        _check_each("prompt", "token ids of at least 0", self.prompt, lambda token: _is_whole(token, 0))
        if self.prompt and (self.prompt_tokens or self.prompt_shared):
            raise _wrong("prompt_tokens", "nothing beside a prompt", self.prompt_tokens)
        _whole("prompt_tokens", self.prompt_tokens, 0 if self.prompt else 1)
        _whole("prompt_seed", self.prompt_seed, 0)
        _whole("prompt_shared", self.prompt_shared, 0)
        if self.prompt_shared > self.prompt_tokens:
            expected = f"at most prompt_tokens, {self.prompt_tokens}"
            raise _wrong("prompt_shared", expected, self.prompt_shared)

    def _check_sampling(self) -> None:
        _number("temperature", self.temperature, 0)
        if self.top_k is not None:
            _whole("top_k", self.top_k, 1)
        if self.top_p is not None:
            _number("top_p", self.top_p, 0)
            if not 0 < self.top_p <= 1:
                raise _wrong("top_p", "a number in (0, 1]", self.top_p)
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise _wrong("temperature", "more than 0 beside top_k or top_p", self.temperature)
        if self.seed is not None:
            _whole("seed", self.seed, 0)

    @property
    def n_prompt(self) -> int:
        """Tokens of its prompt, drawn or not."""
        return len(self.prompt) or self.prompt_tokens

    def filled(self, vocab_size: int) -> TraceRequest:
        """The same request with the ids of its prompt: each drawn from all ids below ``vocab_size``."""
        if self.prompt:
            return self
        ids = _draw(Random("shared"), self.prompt_shared, vocab_size)
        own = Random(f"prompt {self.prompt_seed}")
        ids += _draw(own, self.prompt_tokens - self.prompt_shared, vocab_size)
        return replace(self, prompt=ids, prompt_tokens=0, prompt_seed=0, prompt_shared=0)


@dataclass(frozen=True)
class Trace:
    """Requests, and what they are called together.

    ignore_eos  play output lengths exactly: the token that ends a text does not
    Raises      TraceError: no requests
    """

    name: str
    requests: tuple[TraceRequest, ...] = field(repr=False)
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if not self.requests:
            raise _wrong("requests", "at least one", "none")

    def filled(self, vocab_size: int) -> Trace:
        """The same trace with every prompt as ids, for a model of so many."""
        return replace(self, requests=tuple(request.filled(vocab_size) for request in self.requests))


_FIELDS = {entry.name: entry.default for entry in fields(TraceRequest)}
_FLOATS = ("arrival_s", "cancel_s", "temperature", "top_p")
_HEADER = ("teachkit_trace", "name", "ignore_eos")


def save(trace: Trace, path: str | Path) -> None:
    """Write a trace; :func:`load` gives an equal one."""
    lines: list[dict[str, Any]] = [
        {"teachkit_trace": VERSION, "name": trace.name, "ignore_eos": trace.ignore_eos}
    ]
    lines += [
        {name: value for name, value in asdict(request).items() if value != _FIELDS[name]}
        for request in trace.requests
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    Path(path).write_text(text, encoding="utf-8")


def load(path: str | Path) -> Trace:
    """Read a trace.

    Raises  OSError; TraceError: anything that is not as :func:`save` writes it. The message says in which
            line, which field, what was expected and what came
    """
    try:
        lines = Path(path).read_bytes().decode().split("\n")  # splitlines() would also cut within a name
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: expected text in UTF-8 ({error})") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise TraceError(f"{path}: expected a header and requests, got an empty file")
    (first, text), *rest = numbered
    header = _line(path, first, text, _header)
    requests = tuple(_line(path, number, line, _request) for number, line in rest)
    if not requests:
        raise TraceError(f"{path}: expected requests below the header, got none")
    return Trace(header["name"], requests, header["ignore_eos"])


def _line(path: str | Path, number: int, line: str, read: Callable[[dict[str, Any]], _Read]) -> _Read:
    try:
        return read(_object(line))
    except TraceError as error:
        raise TraceError(f"{path}, line {number}: {error}") from error


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"expected a JSON object, got {line:.60} ({error})") from error
    if not isinstance(found, dict):
        raise TraceError(f"expected a JSON object, got {line:.60}")
    return found


def _header(line: dict[str, Any]) -> dict[str, Any]:
    _known(line, _HEADER)
    if line.get("teachkit_trace") != VERSION:
        raise _wrong("teachkit_trace", f"version {VERSION} in the first line", line.get("teachkit_trace"))
    header = {"name": "", "ignore_eos": False} | line
    if not isinstance(header["name"], str):
        raise _wrong("name", "text", header["name"])
    if not isinstance(header["ignore_eos"], bool):
        raise _wrong("ignore_eos", "true or false", header["ignore_eos"])
    return header


def _request(line: dict[str, Any]) -> TraceRequest:
    _known(line, tuple(_FIELDS))
    for name in ("arrival_s", "max_new_tokens"):
        if name not in line:
            raise TraceError(f"{name}: expected in every request, not found")
    stop = line.get("stop", [])
    values: dict[str, Any] = line | {"stop": (stop,) if isinstance(stop, str) else stop}
    return TraceRequest(**{name: _as_field(name, value) for name, value in values.items()})


def _as_field(name: str, value: Any) -> Any:
    """JSON has lists for tuples, and may write 1 for 1.0."""
    if isinstance(value, list):
        return tuple(value)
    if name not in _FLOATS or type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        raise _wrong(name, "a finite number", value) from None


def _known(line: Mapping[str, Any], names: Sequence[str]) -> None:
    if unknown := [name for name in line if name not in names]:
        raise TraceError(f"{unknown[0]}: expected only {', '.join(names)}")


def _wrong(name: str, expected: str, got: object) -> TraceError:
    return TraceError(f"{name}: expected {expected}; got {got!r:.60}")


def _is_whole(value: object, least: int) -> bool:
    """As large as any program will take: seeds have 64 bits, one of them for the sign."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _whole(name: str, value: object, least: int) -> None:
    if not _is_whole(value, least):
        raise _wrong(name, f"a whole number of at least {least}", value)


def _check_each(name: str, expected: str, values: object, is_one: Callable[[object], bool]) -> None:
    if not isinstance(values, tuple):
        raise _wrong(name, f"a list of {expected}", values)
    for value in values:
        if not is_one(value):
            raise _wrong(name, expected, value)


def _number(name: str, value: object, least: int | float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise _wrong(name, f"a number of at least {least:g}", value)


# Made traces


def make(
    n: int,
    *,
    seed: int = 0,
    arrivals: Arrivals = "at once",
    rate_per_s: int | float | None = None,
    burst: int | float = BURST,
    prompt_median: int | float = MEDIAN_PROMPT,
    output_median: int | float = MEDIAN_OUTPUT,
    sigma: int | float = SIGMA,
    cap: int = CAP,
    shared_prefix_tokens: int = 0,
    source: Sequence[int] | None = None,
    name: str = "",
    ignore_eos: bool = True,
) -> Trace:
    """A trace of ``n`` requests, decided by the arguments alone.

    arrivals       "at once", all at 0; "poisson", independent of each other; "bursty", in groups of ``burst``
                   on average that come together, the groups as a Poisson process
    rate_per_s     requests per second on average, of the last two
    prompt_median, output_median  of tokens, lognormal: median * exp(sigma * z) with z normal, rounded, 1 to
                   ``cap``
    shared_prefix_tokens  each prompt begins with the same so many, before those of its own length
    source         ids of a long text, out of which prompts are cut, each at a random place; None: lengths
                   only, which :meth:`Trace.filled` turns into ids drawn from the whole vocabulary
    Raises         TraceError: a number out of its range, a rate too many or too few, a source too short
    Why            times, lengths and places have random numbers of their own: another rate leaves the
                   requests as they were
    """
    _whole("n", n, 1)
    _whole("seed", seed, 0)
    _whole("cap", cap, 1)
    _whole("shared_prefix_tokens", shared_prefix_tokens, 0)
    _number("sigma", sigma, 0)
    for what, median in (("prompt_median", prompt_median), ("output_median", output_median)):
        _number(what, median, 1)
    times = _arrivals(n, Random(f"arrivals {seed}"), arrivals, rate_per_s, burst)
    random = Random(f"lengths {seed}")
    lengths = [
        (_lognormal(random, prompt_median, sigma, cap), _lognormal(random, output_median, sigma, cap))
        for _ in range(n)
    ]
    prompts = _prompts([own for own, _ in lengths], shared_prefix_tokens, seed, source)
    requests = tuple(
        TraceRequest(time, output, **prompt)
        for time, (_, output), prompt in zip(times, lengths, prompts, strict=True)
    )
    how = "at once" if rate_per_s is None else f"{arrivals}, {rate_per_s:g} a second"
    return Trace(name or f"{n} requests, {how}, seed {seed}", requests, ignore_eos)


def _arrivals(
    n: int, random: Random, kind: str, rate_per_s: int | float | None, burst: int | float
) -> list[float]:
    if kind not in ARRIVALS:
        raise _wrong("arrivals", ", ".join(ARRIVALS), kind)
    if kind == "at once":
        if rate_per_s is not None:
            raise _wrong("rate_per_s", "none where all come at once", rate_per_s)
        return [0.0] * n
    _number("burst", burst, 1)
    if rate_per_s is None or not 0 < rate_per_s < math.inf:
        raise _wrong("rate_per_s", "more than 0", rate_per_s)
    times: list[float] = []
    size, now = burst if kind == "bursty" else 1.0, 0.0
    for _ in range(n):
        # A new group begins with probability 1 / size: sizes are geometric, with that mean.
        if random.random() * size < 1 or not times:
            now -= math.log(1 - random.random()) * size / rate_per_s
        times.append(round(now, 6))
    return times


def _lognormal(random: Random, median: int | float, sigma: int | float, cap: int) -> int:
    z = NormalDist().inv_cdf(random.random() or 0.5)  # 0 has no quantile; it comes once in 2**53
    beyond = math.log(cap / median) + 1  # of no use, and it may be too large for a float
    return max(1, min(cap, round(median * math.exp(min(sigma * z, beyond)))))


def _prompts(
    own: Sequence[int], shared: int, seed: int, source: Sequence[int] | None
) -> list[dict[str, Any]]:
    if source is None:
        return [
            {"prompt_tokens": shared + n, "prompt_shared": shared, "prompt_seed": seed * 2**20 + i}
            for i, n in enumerate(own)
        ]
    longest = max(shared, *own)
    if len(source) < longest:
        raise _wrong("source", f"at least {longest} tokens, the longest prompt", len(source))
    random = Random(f"places {seed}")

    def cut(n: int) -> tuple[int, ...]:
        at = int(random.random() * (len(source) - n + 1))
        return tuple(source[at : at + n])

    prefix = cut(shared)
    return [{"prompt": prefix + cut(n)} for n in own]


def _draw(random: Random, n: int, vocab_size: int) -> tuple[int, ...]:
    return tuple(int(random.random() * vocab_size) for _ in range(n))
