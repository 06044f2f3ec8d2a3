"""The arguments of ``teachkit replay``, the trace that they ask for, and a view of it as it is played."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from teachkit import completions, heldout, trace
from teachkit.config import ModelConfig
from teachkit.engine import Engine
from teachkit.model import Decoder
from teachkit.outcome import Progress, Replay
from teachkit.replay import replay
from teachkit.replay_report import Settings
from teachkit.tokenizer import Tokenizer
from teachkit.trace import Trace
from teachkit.weights import find

REQUESTS, RATE_PER_S = 16, 2.0
_ARRIVALS = {kind.replace(" ", "-"): kind for kind in trace.ARRIVALS}
_MADE = ("requests", "rate", "arrivals", "seed", "shared_prefix", "prompt_median", "output_median")
_ENGINE = ("blocks", "block_size", "max_batch_tokens", "max_batch", "no_reuse", "kv_bits", "dtype")
LINE_S, REFRESH_S = 2.0, 0.2  # seconds between two lines of text, and between two pictures on a terminal


def add_to(commands: Any, shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the command to those of the program. Options that are not given are None: they may not apply."""
    play: argparse.ArgumentParser = commands.add_parser(
        "replay",
        parents=[shared],
        help="play a trace of requests in real time: TTFT, TPOT and queue time of each",
    )
    play.add_argument("trace", metavar="TRACE", nargs="?", help="a file of JSON lines (default: make one)")
    made = play.add_argument_group("a trace that is made", "prompts are cut from text held out of training")
    made.add_argument("--requests", type=int, metavar="N", help=f"how many (default {REQUESTS})")
    made.add_argument("--rate", type=float, metavar="R", help=f"requests per second (default {RATE_PER_S:g})")
    made.add_argument("--arrivals", choices=_ARRIVALS, help="(default poisson)")
    made.add_argument("--seed", type=int, help="of times, lengths and prompts (default 0)")
    made.add_argument("--shared-prefix", type=int, metavar="N", help="tokens with which all prompts begin")
    made.add_argument("--prompt-median", type=float, metavar="N", help=f"(default {trace.MEDIAN_PROMPT})")
    made.add_argument("--output-median", type=float, metavar="N", help=f"(default {trace.MEDIAN_OUTPUT})")
    ours = play.add_argument_group("the engine")
    ours.add_argument("--blocks", type=int, metavar="N", help="blocks of keys and values (default 256)")
    ours.add_argument("--block-size", type=int, metavar="N", help="tokens in a block (default 16)")
    ours.add_argument("--max-batch-tokens", type=int, metavar="N", help="tokens in a step (default 256)")
    ours.add_argument("--max-batch", type=int, metavar="N", help="requests at a time (default: all)")
    ours.add_argument("--no-reuse", action="store_true", default=None, help="compute known beginnings again")
    ours.add_argument("--kv-bits", type=int, choices=(8, 4), help="keys and values as codes")
    other = play.add_argument_group("another server instead, with OpenAI's completions API, such as vLLM")
    other.add_argument("--url", help="its address, such as http://localhost:8000/v1")
    other.add_argument("--served-model", metavar="NAME", help="what it calls the model")
    play.add_argument("--save-trace", metavar="FILE", help="write the trace that was made")
    play.add_argument(
        "--out", metavar="FOLDER", help="also write replay.md, .jsonl and .svg, and trace.jsonl"
    )
    return play


def play(args: argparse.Namespace, load: Callable[[], Decoder]) -> tuple[Replay, Settings]:
    """What became of the trace that the arguments name or make; how far it is stands on stderr.

    load    the model of the arguments; not called for another server, which has its own
    Raises  ValueError, OSError: as those that read traces and weights; options that exclude each other
    """
    known = None if args.trace is None else trace.load(args.trace)  # a fault is told before weights are read
    if known is not None:
        _refuse(args, (*_MADE, "save_trace"), "for a trace that is made, not beside one that is given")
    if args.url is not None:
        return _on_server(args, known)
    if args.served_model is not None:
        raise ValueError("--served-model: expected only with --url")
    model = load()
    engine, settings = _engine(args, model)
    chosen, prompts = (known, "of the trace") if known else _make(args, model.tokenizer)
    _save(args, chosen)
    with View() as view:
        return replay(engine, chosen, show=view.show), {**settings, "prompts": prompts}


def _on_server(args: argparse.Namespace, known: Trace | None) -> tuple[Replay, Settings]:
    _refuse(args, _ENGINE, "for the engine of teachkit, not with --url")
    if args.served_model is None:
        raise ValueError("--served-model: expected with --url, the name by which the server knows its model")
    folder = find(args.model)
    tokenizer = Tokenizer(folder) if (folder / "tokenizer.json").exists() else None
    chosen, prompts = (known, "of the trace") if known else _make(args, tokenizer)
    _save(args, chosen)
    filled = chosen.filled(ModelConfig.from_folder(folder).vocab_size)
    with View() as view:
        played = completions.replay(args.url, args.served_model, filled, show=view.show)
    return played, {"model": args.served_model, "prompts": prompts}


def _refuse(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: expected {why}")


def _save(args: argparse.Namespace, chosen: Trace) -> None:
    if args.save_trace is not None:
        trace.save(chosen, args.save_trace)


def _engine(args: argparse.Namespace, model: Decoder) -> tuple[Engine, dict[str, Any]]:
    given = {
        "n_blocks": args.blocks,
        "block_size": args.block_size,
        "max_batch_tokens": args.max_batch_tokens,
        "max_batch": args.max_batch,
        "reuse": None if args.no_reuse is None else False,
        "kv_bits": args.kv_bits,
    }
    engine = Engine(model, **{name: value for name, value in given.items() if value is not None})
    settings = {
        "model": args.model,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "n_blocks": engine.pool.n_blocks,
        "block_size": engine.pool.block_size,
        "max_batch_tokens": engine.scheduler.max_batch_tokens,
        "max_batch": engine.scheduler.max_batch,
        "reuse": engine.scheduler.reuse,
        "kv_bits": args.kv_bits,
    }
    return engine, settings


def _make(args: argparse.Namespace, tokenizer: Tokenizer | None) -> tuple[Trace, str]:
    """A trace, and where its prompts are from: real text where there is a tokenizer, else any ids."""
    source, prompts = None, "ids drawn from the vocabulary"
    if tokenizer is not None:
        texts = _texts(args.model)
        source = [token for text in texts.texts for token in tokenizer.encode(text, special=False)]
        prompts = f"cut from {texts.source}"
    arrivals: trace.Arrivals = _ARRIVALS[args.arrivals or "poisson"]
    rate = RATE_PER_S if args.rate is None and arrivals != "at once" else args.rate
    options = {
        "shared_prefix_tokens": args.shared_prefix,
        "prompt_median": args.prompt_median,
        "output_median": args.output_median,
    }
    made = trace.make(
        REQUESTS if args.requests is None else args.requests,
        seed=args.seed or 0,
        arrivals=arrivals,
        rate_per_s=rate,
        source=source,
        **{name: value for name, value in options.items() if value is not None},
    )
    return made, prompts


def _texts(model: str) -> heldout.Texts:
    """What the checkpoint was not trained on, or else the bundled one."""
    folder = find(model)
    return heldout.held_out(folder if (folder / "heldout.json").exists() else find("bundled"))


class View:
    """How far a replay is, on stderr: a picture that changes on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._live: Any = None
        self._next_s = 0.0

    def __enter__(self) -> View:
        if self._console.is_terminal:
            from rich.live import Live

            # Drawn by us, between two steps: a thread that draws would run beside the model.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, now: Progress) -> None:
        """Say how far it is, unless that was said a moment ago."""
        if time.perf_counter() < self._next_s and now.done < now.total:
            return
        if self._live is not None:
            self._live.update(picture(now), refresh=True)
        else:
            print(f"teachkit: {in_words(now)}", file=sys.stderr, flush=True)
        self._next_s = time.perf_counter() + (LINE_S if self._live is None else REFRESH_S)


def in_words(now: Progress) -> str:
    """How far it is, in a line."""
    failed = f" ({now.failed} failed)" if now.failed else ""
    blocks = "" if now.n_blocks is None else f", {now.blocks_used} of {now.n_blocks} blocks"
    return (
        f"{now.now_s:.1f} s: {now.done} of {now.total} requests done{failed}, {now.running} running, "
        f"{now.waiting} waiting, {now.tokens:,} tokens{blocks}"
    )


def picture(now: Progress) -> Any:
    """The same for a terminal: bars for requests and blocks, numbers beside them."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    failed = f", [bold]{now.failed} failed[/]" if now.failed else ""
    table.add_row(
        "requests",
        ProgressBar(total=now.total, completed=now.done, width=32),
        f"{now.done} of {now.total} done{failed}, {now.running} running, {now.waiting} waiting",
    )
    if now.n_blocks is not None and now.blocks_used is not None:
        bar = ProgressBar(total=now.n_blocks, completed=now.blocks_used, width=32)
        table.add_row("blocks", bar, f"{now.blocks_used} of {now.n_blocks}")
    rate = now.tokens / now.now_s if now.now_s > 0 else 0.0
    table.add_row("time", f"{now.now_s:.1f} s", f"{now.tokens:,} tokens, {rate:,.0f} a second so far")
    return table


def output_folder(out: str) -> Path:
    """The folder that will take the report, made now: its faults are told before the trace is played.

    Raises  OSError: it cannot be; ValueError: no matplotlib
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("out: replay.svg needs matplotlib; pip install matplotlib")
    return folder
