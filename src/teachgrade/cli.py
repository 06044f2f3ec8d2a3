"""teachgrade release, check, grade, report, doctor: see ``teachgrade --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from teachgrade import commands

USAGE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """0: all is well; 1: something was found wanting; 2: arguments or files that cannot be used."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"teachgrade: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("teachgrade: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        print(f"teachgrade: {error.name} is not installed: pip install 'teachkit[grade]'", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="teachgrade", description="Release labs, check and grade what comes back."
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = parsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.set_defaults(run=run)
        return one

    _release(command("release", commands.release, "make what students get from labs"))
    _check(command("check", commands.check, "try the visible part on a notebook of your own"))
    _grade(command("grade", commands.grade, "grade notebooks: files, folders, zip archives"))
    _report(command("report", commands.report, "write marks, feedback pages and a class report from results"))
    one = command("doctor", commands.doctor, "try what the sandbox promises on this machine")
    one.add_argument("--json", action="store_true")
    return parser


def _release(one: argparse.ArgumentParser) -> None:
    one.add_argument("labs", nargs="+", type=Path, help="folders of labs")
    one.add_argument("--out", type=Path, default=Path("release"))
    one.add_argument("--instructor", action="store_true", help="write the notebook with solutions as well")
    one.add_argument("--address", default="", help="git address of the course, for the set-up cell in Colab")


def _check(one: argparse.ArgumentParser) -> None:
    one.add_argument("notebook", type=Path, help="it is run here, with your rights: for your own notebooks")
    one.add_argument("--lab", help="which lab; by default the notebook says, or its name")


def _grade(one: argparse.ArgumentParser) -> None:
    one.add_argument("lab", type=Path, help="the lab's folder")
    one.add_argument("submissions", nargs="+", type=Path)
    one.add_argument(
        "--out", type=Path, default=Path("results"), help="one JSON file for each student; a rerun resumes"
    )
    one.add_argument("--private", type=Path, help="folder with scenarios of your own, in <lab>.py")
    one.add_argument("--seed", help="of the hidden inputs; by default drawn once and kept in OUT")
    one.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="submissions at a time")
    one.add_argument("--shard", default="1/1", metavar="I/N", help="grade only part I of N, by student")
    one.add_argument("--scheduler", metavar="tcp://...", help="grade on a dask.distributed cluster")
    one.add_argument(
        "--question", help="ask only this question anew, of submissions that have a result; the rest stays"
    )
    one.add_argument(
        "--unsafe-no-sandbox",
        action="store_true",
        help="run submissions with your own rights; every result says so",
    )
    one.add_argument("--json", action="store_true", help="print counts by status as JSON")


def _report(one: argparse.ArgumentParser) -> None:
    one.add_argument("lab", type=Path)
    one.add_argument("results", nargs="+", type=Path, help="folders of results, of all shards")
    one.add_argument("--out", type=Path, default=Path("report"))
    one.add_argument("--marks", type=Path, help="CSV of marks by hand: student, question, points")
    late = one.add_argument_group("late submissions")
    late.add_argument("--handed-in", type=Path, help="CSV of times: student, handed_in (ISO 8601)")
    late.add_argument("--due", help="ISO 8601 with a time zone, such as 2026-12-01T23:59+01:00")
    late.add_argument("--late-per-day", type=float, default=0.1, help="share lost for each day begun (0.1)")
    late.add_argument("--late-most", type=float, default=1.0, help="share lost at most (1.0)")
    late.add_argument("--grace-hours", type=float, default=0.0, help="not counted (0)")


if __name__ == "__main__":
    sys.exit(main())
