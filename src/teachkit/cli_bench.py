"""The arguments of ``teachkit bench``, and the table that they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from teachkit import heldout, table
from teachkit.heldout import Texts
from teachkit.table import Table
from teachkit.table_schemes import SCHEMES, choose
from teachkit.weights import find, load


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    race: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="one model in several number formats: bytes, speed and held-out bits per byte, as a table",
    )
    race.add_argument("--model", default="bundled", help="'bundled', a folder, or org/name on the hub")
    race.add_argument(
        "--rows", nargs="+", metavar="ROW", help=f"of {', '.join(SCHEMES)} (default all; fp32 always)"
    )
    race.add_argument(
        "--texts", nargs="+", metavar="FILE", help="to judge by (default: held out of training)"
    )
    race.add_argument("--sample", type=int, metavar="BYTES", help="judge by so many bytes from all texts")
    race.add_argument("--calibration", nargs="+", metavar="FILE", help="for GPTQ (default: training text)")
    race.add_argument("--context", type=int, help="tokens of the sequence (default 512)")
    race.add_argument("--tokens", type=int, default=32, help="decode steps in a turn (default 32)")
    race.add_argument("--turns", type=int, default=5, help="of which the median counts (default 5)")
    race.add_argument("--eager", action="store_true", help="compile nothing")
    race.add_argument("--out", metavar="FOLDER", help="also write table.md, table.jsonl and table.svg")
    race.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    return race


def table_of(args: argparse.Namespace) -> Table:
    """What is being done is told on stderr.

    Raises  ValueError, OSError: as :func:`teachkit.table.run` and those that read weights and texts
    """
    schemes = choose(args.rows)  # a fault is told before any weight is read
    texts, calibration = _texts(args, any(scheme.calibrated for scheme in schemes))
    _tell(f"judging by {texts.source}, {texts.n_bytes:,} bytes")
    return table.run(
        args.model,
        load(args.model, dtype=torch.float32),
        texts,
        calibration,
        rows=args.rows,
        tokens=args.tokens,
        context=args.context,
        turns=args.turns,
        compiling=not args.eager,
        progress=_tell,
    )


def _texts(args: argparse.Namespace, calibrated: bool) -> tuple[Texts, Texts | None]:
    """What the arguments name, or else what the checkpoint has, or else what the bundled one has."""
    folder = find(args.model)

    def home(file: str) -> Path:
        return folder if (folder / file).exists() else find("bundled")

    texts = heldout.from_files(args.texts) if args.texts else heldout.held_out(home("heldout.json"))
    texts = texts if args.sample is None else heldout.sample(texts, args.sample)
    if not calibrated:
        return texts, None
    if args.calibration:
        return texts, heldout.from_files(args.calibration)
    return texts, heldout.training(home("manifest.json"))


def _tell(what: str) -> None:
    print(f"teachkit: {what}", file=sys.stderr, flush=True)
