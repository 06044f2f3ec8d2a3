"""The command line: ``teachkit generate`` and ``teachkit info``."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from typing import Any

import torch

from teachkit.config import ModelConfig
from teachkit.decode import Generation, generate
from teachkit.model import Decoder
from teachkit.sampling import greedy, sampler
from teachkit.weights import load

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit code 0: done, 1: the input was at fault (the message says how), 2: usage."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model may write what a narrow encoding cannot
    try:
        return int(args.run(args))
    except (ValueError, OSError) as error:
        print("teachkit:", " ".join(str(error).split()), file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="teachkit", description="LLM inference in small files, on real weights."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", default="bundled", help="'bundled', a folder, or org/name on the hub")
    shared.add_argument("--dtype", choices=_DTYPES, default="fp32", help="of the weights in memory")
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
    return parser


def _load(args: argparse.Namespace) -> Decoder:
    return load(args.model, dtype=_DTYPES[args.dtype], device=args.device)


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
    """Config, parameters and bytes of a loaded model; sizes in bytes."""
    c: ModelConfig = model.config
    parameters = list(model.parameters())
    itemsize = parameters[0].element_size()
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
        "parameters": sum(p.numel() for p in parameters),
        "dtype": str(parameters[0].dtype).removeprefix("torch."),
        "weight_bytes": sum(p.nbytes for p in parameters),
        "kv_bytes_per_token": c.kv_bytes_per_token(itemsize),
        "kv_bytes_at_full_context": c.kv_bytes_per_token(itemsize) * c.context,
    }


def _info(args: argparse.Namespace) -> int:
    facts = describe(_load(args))
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:26}{value:,}" if isinstance(value, int) else f"{name:26}{value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
