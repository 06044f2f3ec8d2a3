"""The command line: ``teachkit generate``, ``info``, ``estimate``, ``bench`` and ``replay``."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from teachkit import bench, cli_bench, cli_replay, replay_report, table_report, trace
from teachkit.config import ModelConfig
from teachkit.cost import parameters
from teachkit.decode import Generation, generate
from teachkit.estimate import Estimate, Phase, estimate, find_config
from teachkit.hardware import Device
from teachkit.hardware import device as published
from teachkit.measure import append
from teachkit.model import Decoder
from teachkit.outcome import Replay
from teachkit.report import as_data, as_text
from teachkit.sampling import greedy, sampler
from teachkit.table import Table
from teachkit.weights import load

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit code 0: done, 1: the input was at fault (the message says how), 2: usage.

    All that `estimate` and `bench` are given stands in their arguments: a fault in it is one of usage, 2. So
    is one in the trace of `replay`; 1 says that a request of it failed.
    """
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model may write what a narrow encoding cannot
    try:
        return int(args.run(args))
    except (ValueError, OSError, OverflowError) as error:
        print("teachkit:", " ".join(str(error).split()), file=sys.stderr)
        return int(args.fault)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="teachkit", description="LLM inference in small files, on real weights."
    )
    parser.set_defaults(fault=1)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", default="bundled", help="'bundled', a folder, or org/name on the hub")
    shared.add_argument(
        "--dtype", choices=_DTYPES, help="of the weights in memory (default fp32; of a saved model, as saved)"
    )
    shared.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    shared.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    write = commands.add_parser("generate", parents=[shared], help="continue a prompt, and say how fast")
    write.add_argument("prompt")
    write.add_argument("--max-new-tokens", type=int, default=64)
    write.add_argument("--temperature", type=float, default=0.0, help="0 (the default) is greedy")
    write.add_argument("--top-k", type=int)
    write.add_argument("--top-p", type=float)
    write.add_argument("--seed", type=int)
    write.add_argument("--stop", action="append", default=[], help="end before this string; may be repeated")
    write.set_defaults(run=_generate)

    info = commands.add_parser("info", parents=[shared], help="config, parameters, bytes, KV bytes per token")
    info.set_defaults(run=_info)
    _add_estimate(commands)
    cli_bench.add_to(commands).set_defaults(run=_bench, fault=2)
    cli_replay.add_to(commands, shared).set_defaults(run=_replay, fault=2)
    return parser


def _add_estimate(commands: Any) -> None:
    guess = commands.add_parser(
        "estimate", help="memory, time and price of serving a model, from its config and a data sheet"
    )
    guess.add_argument(
        "model",
        metavar="MODEL-OR-CONFIG",
        help="a published name such as llama-2-7b, 'bundled', a folder with a config.json, or its path",
    )
    guess.add_argument(
        "--device",
        required=True,
        help="a published name such as a100-80gb, or 'here': this machine, measured for some seconds",
    )
    guess.add_argument("--batch", type=int, default=1, help="sequences at a time (default 1)")
    guess.add_argument("--context", type=int, required=True, help="tokens of each sequence")
    guess.add_argument("--prompt", type=int, help="tokens of each that prefill reads (default: the context)")
    for what, name in (("weight", "weights"), ("act", "activations"), ("kv", "keys and values")):
        guess.add_argument(f"--{what}-bits", type=_number, default=16, help=f"of the {name} (default 16)")
    guess.add_argument("--tp", type=int, default=1, help="devices that share each matrix (default 1)")
    guess.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    guess.add_argument("--plot", metavar="FILE", help="also draw the parts, as PNG or SVG")
    guess.set_defaults(run=_estimate, fault=2)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _load(args: argparse.Namespace) -> Decoder:
    return load(args.model, dtype=_DTYPES.get(args.dtype), device=args.device)


def _generate(args: argparse.Namespace) -> int:
    model = _load(args)
    chosen = greedy
    if args.temperature > 0:
        chosen = sampler(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    elif args.temperature < 0 or args.top_k is not None or args.top_p is not None:
        raise ValueError("--temperature: expected more than 0 (with --top-k or --top-p too)")
    quiet = args.json

    def show(piece: str) -> None:
        print(piece, end="", flush=True)

    if not quiet:
        show(args.prompt)
    made = generate(
        model, args.prompt, args.max_new_tokens, chosen, args.seed, args.stop, None if quiet else show
    )
    print(
        json.dumps(_speed(made) | {"text": made.text, "tokens": made.tokens}) if quiet else _speed_line(made)
    )
    return 0


def _speed(made: Generation) -> dict[str, Any]:
    known = not math.isnan(made.tpot_s)
    return {
        "finish": made.finish,
        "ttft_s": made.ttft_s,
        "tpot_s": made.tpot_s if known else None,
        "tokens_per_s": 1 / made.tpot_s if known else None,
    }


def _speed_line(made: Generation) -> str:
    line = f"\n\n{len(made.tokens)} tokens ({made.finish}) · TTFT {made.ttft_s * 1e3:.1f} ms"
    if math.isnan(made.tpot_s):
        return line
    return f"{line} · TPOT {made.tpot_s * 1e3:.2f} ms · {1 / made.tpot_s:.0f} tokens/s"


def describe(model: Decoder) -> dict[str, Any]:
    """Config, parameters and bytes of a loaded model, quantized or not; sizes in bytes.

    scheme, bits_per_weight   of the matrices; the other counts are of all that is held
    """
    c: ModelConfig = model.config
    uses, held, itemsize = model.kernels(), model.state_dict().values(), model.dtype.itemsize
    body, head = list(dict.fromkeys(use.scheme for use in uses[:-1])), uses[-1].scheme
    return {
        "family": c.family,
        "n_layers": c.n_layers,
        "d_model": c.d_model,
        "n_heads": c.n_heads,
        "n_kv_heads": c.n_kv_heads,
        "head_dim": c.head_dim,
        "d_ff": c.d_ff,
        "vocab_size": c.vocab_size,
        "context": c.context,
        "parameters": sum(parameters(c).values()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "scheme": ", ".join(body) + ("" if body == [head] else f"; head {head}"),
        "bits_per_weight": 8 * model.weight_bytes() / sum(use.shape[0] * use.shape[1] for use in uses),
        "weight_bytes": sum(tensor.nbytes for tensor in held),
        "kv_bytes_per_token": c.kv_bytes_per_token(itemsize),
        "kv_bytes_at_full_context": c.kv_bytes_per_token(itemsize) * c.context,
    }


def _info(args: argparse.Namespace) -> int:
    facts = describe(_load(args))
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            form = "" if isinstance(value, str) else "," if isinstance(value, int) else ".4g"
            print(f"{name:26}{value:{form}}")
    return 0


def _estimate(args: argparse.Namespace) -> int:
    if args.plot is not None:
        from teachkit.figures.step_parts import require_format  # figures know no models, only this knows both

        require_format(args.plot)
    config = find_config(args.model)
    device, notes = (published(args.device), ()) if args.device != "here" else _here()
    sizes = {name: getattr(args, name) for name in ("batch", "context", "prompt", "tp")}
    bits = {name: getattr(args, name) for name in ("weight_bits", "act_bits", "kv_bits")}
    found = estimate(args.model, config, device, **sizes, **bits)
    found = replace(found, notes=found.notes + notes)
    shown = json.dumps(as_data(found), allow_nan=False) if args.json else as_text(found)
    if args.plot is not None:
        _plot(found, args.plot)
    print(shown)
    return 0


def _here() -> tuple[Device, tuple[str, ...]]:
    """This machine as a device, and what to say of it. One 16-bit format is left: the faster."""
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    print(f"teachkit: measuring this machine ({kind}), some seconds", file=sys.stderr)
    machine = bench.this_machine(kind)
    device = machine.device(bench.memory_bytes(kind))
    rates = dict(device.flops)
    if {"fp16", "bf16"} <= set(rates):
        del rates[min("fp16", "bf16", key=lambda name: rates[name])]
    said = f"an operation takes {machine.overhead_s * 1e6:.2g} us here however small it is: not counted"
    return replace(device, flops=rates), (said,)


def _bench(args: argparse.Namespace) -> int:
    made = cli_bench.table_of(args)
    if args.out is not None:
        _write_table(made, Path(args.out))
    print(json.dumps(table_report.as_data(made)) if args.json else table_report.as_markdown(made))
    return 0


def _write_table(made: Table, folder: Path) -> None:
    from teachkit.figures.quality_speed import Point, save_quality_speed

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(table_report.as_markdown(made) + "\n", encoding="utf-8")
    (folder / "table.jsonl").unlink(missing_ok=True)
    append(table_report.records(made), folder / "table.jsonl")
    points = [
        Point(
            row.scheme.label,
            row.bits_per_byte,
            1 / row.eager.median_s,
            None if row.compiled is None else 1 / row.compiled.median_s,
        )
        for row in made.rows
    ]
    title = f"{made.model} on {made.machine.name}: speed and quality"
    try:
        save_quality_speed(folder / "table.svg", title, points)
    except ImportError as error:
        raise ValueError(f"out: table.svg needs matplotlib ({error}); pip install matplotlib") from error


def _replay(args: argparse.Namespace) -> int:
    folder = None if args.out is None else cli_replay.output_folder(args.out)
    played, settings = cli_replay.play(args, lambda: _load(args))
    if folder is not None:
        _write_replay(played, settings, folder)
    data = json.dumps(replay_report.as_data(played, settings)) if args.json else None
    print(data or replay_report.as_markdown(played, settings))
    return 1 if played.failures else 0


def _write_replay(played: Replay, settings: replay_report.Settings, folder: Path) -> None:
    from teachkit.figures.request_times import RequestTimes, in_words, save_request_times

    times = [
        RequestTimes(
            one.asked.arrival_s,
            one.first_s,
            one.ended_s,
            one.tpot_s if one.tpot_s == one.tpot_s else None,
            one.failed,
        )
        for one in played.outcomes
    ]
    title = f"{played.trace.name}: {played.served_by}"
    save_request_times(folder / "replay.svg", title, times)
    report = replay_report.as_markdown(played, settings)
    picture = f"![{in_words(title, times)}](replay.svg)"
    (folder / "replay.md").write_text(f"{report}\n\n{picture}\n", encoding="utf-8")
    trace.save(
        replace(played.trace, requests=tuple(o.asked for o in played.outcomes)), folder / "trace.jsonl"
    )
    (folder / "replay.jsonl").unlink(missing_ok=True)
    append(replay_report.records(played, settings), folder / "replay.jsonl")


def _plot(found: Estimate, path: str) -> None:
    from teachkit.figures.step_parts import save_step_parts

    def parts(phase: Phase) -> list[tuple[str, float, str]]:
        return [(part.name, part.seconds, part.side) for part in phase.bound.parts]

    steps = {
        f"Prefill of {found.batch:,} x {found.prompt:,} tokens": parts(found.prefill),
        f"Decode step of {found.batch:,} sequences at {found.context:,} tokens": parts(found.decode),
    }
    try:
        several = f"{found.tp} x " if found.tp > 1 else ""
        save_step_parts(path, f"{found.name} on {several}{found.device.name}: time at least", steps)
    except ImportError as error:
        raise ValueError(f"plot: needs matplotlib ({error}); pip install matplotlib") from error


if __name__ == "__main__":
    raise SystemExit(main())
