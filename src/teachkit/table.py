"""One model in several number formats: bytes, predicted and measured speed, and quality, each on its own row.

What is timed is what is judged: the same object, teacher-forced over held-out text. Predictions come from
bandwidth, arithmetic rate and overhead of an operation as measured in the same run, outside any model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from teachkit import bench, evaluate
from teachkit import cost as costs
from teachkit.bench import Machine
from teachkit.cache import Cache
from teachkit.compiled import fast
from teachkit.config import ModelConfig
from teachkit.cost import Cost, Number
from teachkit.heldout import Texts, require_disjoint
from teachkit.linear import KernelUse
from teachkit.measure import Timing, time_calls
from teachkit.model import Decoder
from teachkit.roofline import time_bound
from teachkit.table_schemes import Scheme, choose

NO_QUANTIZED_CACHE = "not compiled, because tk.fast compiles no step over a quantized cache"
NOT_ASKED = "not compiled, because that was not asked for"


@dataclass(frozen=True)
class Row:
    """A scheme, and what was found out about it.

    weight_bytes, kv_bytes  that a decode step reads at the context: of all matrices, of the past
    bound_s, predicted_s    seconds of a step: of bytes and arithmetic alone; with the overhead of
                            ``operations`` that PyTorch runs, without compilation
    eager, compiled         seconds of a step, one for each turn; compiled is None where ``note`` says why
    bits_per_byte           of the object that was timed: of the compiled one, where there is one
    eager_bits_per_byte     of the one that is not compiled; the same number where both have the same products
    difference, error       from fp32, as a share, and its standard error over the windows of the text, paired
    """

    scheme: Scheme
    bits_per_weight: float
    weight_bytes: int
    kv_bytes: float
    bound_s: float
    predicted_s: float
    operations: int
    eager: Timing
    compiled: Timing | None
    note: str
    bits_per_byte: float
    eager_bits_per_byte: float
    difference: float
    error: float


@dataclass(frozen=True)
class Table:
    """All rows, and what holds for all of them: bandwidth in bytes/s before and after."""

    model: str
    context: int
    tokens: int
    texts: Texts
    calibration: Texts | None
    machine: Machine
    bandwidths: tuple[float, float]
    rows: tuple[Row, ...]


@dataclass
class _Contestant:
    """A scheme's model, the same compiled or None, and why."""

    scheme: Scheme
    model: Decoder
    compiled: Decoder | None
    note: str

    @property
    def timed(self) -> Decoder:
        return self.model if self.compiled is None else self.compiled


def run(
    name: str,
    model: Decoder,
    texts: Texts,
    calibration: Texts | None,
    *,
    rows: Iterable[str] | None = None,
    tokens: int = 32,
    context: int | None = None,
    turns: int = 5,
    compiling: bool = True,
    measure: Callable[[], Machine] = lambda: bench.this_machine(formats=("fp32", "bf16")),
    progress: Callable[[str], None] = lambda _: None,
) -> Table:
    """The table of one model. All schemes are in memory at the same time: they take turns.

    model        in fp32, not quantized, with a tokenizer; ``name`` is what the table calls it
    texts        to judge by; ``calibration``: other texts, needed for GPTQ only
    tokens       decode steps in a turn, each the last of ``context`` tokens (512, or the model's context)
    compiling    whether to time :func:`teachkit.compiled.fast`, too
    measure      the machine's limits; ``progress`` is told what is being done
    Raises       ValueError: a row that is not known, a size that cannot be, a model in another dtype,
                 calibration that is missing or not disjoint from the text to judge by
    """
    schemes, context = choose(rows), context or min(512, model.config.context)
    _require(model, schemes, texts, calibration, tokens, context, turns)
    progress("measuring the machine")
    machine = measure()
    pieces = () if calibration is None else calibration.texts
    contestants = []
    for scheme in schemes:
        progress(f"making {scheme.name}")
        contestants.append(_contestant(scheme, model, pieces, compiling))
    progress(f"timing {len(contestants)} rows in {turns} turns")
    ids = _context_ids(model, texts, context)
    operations, timings = _time(contestants, ids, tokens, turns)
    after = measure().bytes_per_s
    bandwidths = (machine.bytes_per_s, after)
    machine = replace(machine, bytes_per_s=max(bandwidths))
    judged = [_judge(c, texts, progress) for c in contestants]
    found = tuple(
        _row(c, machine, context, n, timing, nats, judged[0][0], texts)
        for c, n, timing, nats in zip(contestants, operations, timings, judged, strict=True)
    )
    used = calibration if any(scheme.calibrated for scheme in schemes) else None
    return Table(name, context, tokens, texts, used, machine, bandwidths, found)


def _require(
    model: Decoder,
    schemes: list[Scheme],
    texts: Texts,
    calibration: Texts | None,
    tokens: int,
    context: int,
    turns: int,
) -> None:
    if odd := sorted({use.scheme for use in model.kernels()} - {"float32"}):
        raise ValueError(f"model: expected all matrices in float32, got {', '.join(odd)}")
    if model.compiled:
        raise ValueError("model: expected one that is not compiled")
    if tokens < 1 or turns < 1:
        raise ValueError(f"tokens, turns: expected at least 1, got {tokens} and {turns}")
    if not 2 <= context <= model.config.context:
        raise ValueError(f"context: expected 2 to the model's {model.config.context}, got {context}")
    if any(scheme.calibrated for scheme in schemes):
        if calibration is None:
            raise ValueError("calibration: expected text for GPTQ, got none")
        require_disjoint(calibration, texts)


def _contestant(scheme: Scheme, original: Decoder, pieces: Sequence[str], compiling: bool) -> _Contestant:
    model = scheme.model(original, pieces)
    if not compiling or scheme.kv_bits is not None:
        return _Contestant(scheme, model, None, NO_QUANTIZED_CACHE if scheme.kv_bits else NOT_ASKED)
    try:
        return _Contestant(scheme, model, fast(model), "")
    except RuntimeError as error:  # no compiler, or one that refuses: the row says so
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return _Contestant(scheme, model, None, f"not compiled, because {reason}")


# --- speed ----------------------------------------------------------------------------------------------


def _context_ids(model: Decoder, texts: Texts, context: int) -> list[int]:
    """The beginning of the text, over again where it is short."""
    assert model.tokenizer is not None
    ids = [i for text in texts.texts for i in model.tokenizer.encode(text, special=False)][:context]
    return (ids * -(-context // len(ids)))[:context]


def _time(
    contestants: list[_Contestant], ids: list[int], tokens: int, turns: int
) -> tuple[list[int], list[tuple[Timing, Timing | None]]]:
    """Operations of a step without compilation, and seconds of a step with and without, A B C, A B C."""
    calls: dict[str, Callable[[], object]] = {}
    operations = []
    for c in contestants:
        step = _step(c.scheme, c.model, ids)
        operations.append(bench.count_operations(step))
        calls[f"{c.scheme.name} eager"] = _times(step, tokens)
        if c.compiled is not None:
            calls[f"{c.scheme.name} compiled"] = _times(_step(c.scheme, c.compiled, ids), tokens)
    found = {
        name: Timing(tuple(seconds / tokens for seconds in timing.times_s))
        for name, timing in time_calls(calls, warmup=1, repeats=turns).items()
    }
    both = [(found[f"{c.scheme.name} eager"], found.get(f"{c.scheme.name} compiled")) for c in contestants]
    return operations, both


def _step(scheme: Scheme, model: Decoder, ids: list[int]) -> Callable[[], object]:
    """The step of the last of ``ids``, and the choice of the next token; the cache is left as it was."""
    # Outside inference mode, as generate() makes it: a tensor made inside is of another kind.
    cache, past = scheme.cache(model, 1, len(ids)), len(ids) - 1
    tokens = torch.tensor([ids], device=model.device)
    token = tokens[:, past:].clone()
    with torch.inference_mode():
        model(tokens[:, :past], cache=cache, last_only=True)

    @torch.inference_mode()
    def step() -> int:
        chosen = int(model(token, cache=cache)[:, -1].argmax())
        cache.truncate(0, past)
        return chosen

    return step


def _times(call: Callable[[], object], n: int) -> Callable[[], object]:
    def calls() -> None:
        for _ in range(n):
            call()

    return calls


# --- quality --------------------------------------------------------------------------------------------


def _judge(c: _Contestant, texts: Texts, progress: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Nats of each window: of the object that was timed, and of the one that is not compiled."""
    progress(f"judging {c.scheme.name} by {texts.n_bytes:,} bytes")
    timed = _nats(c.scheme, c.timed, texts)
    same = [use.kernel for use in c.timed.kernels(rows=2)] == [use.kernel for use in c.model.kernels(rows=2)]
    return timed, timed if same else _nats(c.scheme, c.model, texts)


def _nats(scheme: Scheme, model: Decoder, texts: Texts) -> Tensor:
    through = None
    if scheme.kv_bits is not None:

        def through(rows: int, tokens: int) -> Cache:
            return scheme.cache(model, rows, tokens)

    window = min(evaluate.WINDOW, model.config.context)
    return evaluate.window_nats(model, texts.texts, window=window, cache=through)


def standard_error(differences: Tensor) -> float:
    """Of the sum of differences, one for each window; NaN of a single one."""
    n = len(differences)
    return math.sqrt(n) * statistics.stdev(differences.tolist()) if n > 1 else math.nan


# --- a row ----------------------------------------------------------------------------------------------


def _row(
    c: _Contestant,
    machine: Machine,
    context: int,
    operations: int,
    timings: tuple[Timing, Timing | None],
    judged: tuple[Tensor, Tensor],
    reference: Tensor,
    texts: Texts,
) -> Row:
    uses = c.timed.kernels()
    n_bytes = sum(use.nbytes for use in uses)
    step = step_cost(
        c.model.config, uses, context, torch.finfo(c.scheme.dtype).bits, c.scheme.bits_of_cache(c.model)
    )
    bound_s = bound(step, machine)
    nats, eager_nats = (float(found.sum()) / math.log(2) / texts.n_bytes for found in judged)
    return Row(
        scheme=c.scheme,
        bits_per_weight=8 * n_bytes / sum(use.shape[0] * use.shape[1] for use in uses),
        weight_bytes=n_bytes,
        kv_bytes=float(step.total("kv_read_bytes")),
        bound_s=bound_s,
        predicted_s=bound_s + operations * machine.overhead_s,
        operations=operations,
        eager=timings[0],
        compiled=timings[1],
        note=c.note,
        bits_per_byte=nats,
        eager_bits_per_byte=eager_nats,
        difference=float(judged[0].sum() / reference.sum()) - 1,
        error=standard_error(judged[0] - reference) / float(reference.sum()),
    )


def step_cost(
    config: ModelConfig, uses: Iterable[KernelUse], context: int, act_bits: int, kv_bits: Number
) -> Cost:
    """One decode step by teachkit's cost model, with the bytes of the matrices as they are held."""
    plain = costs.decode_step(config, 1, context, weight_bits=act_bits, act_bits=act_bits, kv_bits=kv_bits)
    saved = dict.fromkeys(("attention projections", "mlp", "head"), 0.0)
    for use in uses:
        part = "mlp" if ".mlp." in use.name else "head" if use.name == "head" else "attention projections"
        saved[part] += use.shape[0] * use.shape[1] * act_bits / 8 - use.nbytes
    parts = (replace(p, weight_bytes=p.weight_bytes - saved.get(p.name, 0)) for p in plain.components)
    return replace(plain, components=tuple(parts))


def bound(step: Cost, machine: Machine) -> float:
    """Seconds of a step at least.

    Why  numbers of 16 bits can be widened and multiplied as those of 32: the faster way counts
    """
    rates = dict(machine.flops)
    if "bf16" in rates:
        rates["bf16"] = max(rates["bf16"], rates.get("fp32", 0))
    return time_bound(step, replace(machine, flops=rates).device()).seconds
