"""teachgrade release, check, grade, report, doctor: see ``teachgrade --help``."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OK, FOUND, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """0: all is well; 1: something was found wanting; 2: arguments or files that cannot be used."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"teachgrade: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="teachgrade", description="Release labs, check and grade what comes back."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("release", help="make the student notebook and the visible data of labs")
    one.add_argument("labs", nargs="+", type=Path, help="folders of labs")
    one.add_argument("--out", type=Path, default=Path("release"))
    one.add_argument("--instructor", action="store_true", help="write the notebook with solutions as well")
    one.set_defaults(run=_release)

    one = commands.add_parser("check", help="try the visible part on a notebook, as its student may")
    one.add_argument("notebook", type=Path)
    one.add_argument("--lab", help="which lab; by default the notebook's name")
    one.set_defaults(run=_check)

    one = commands.add_parser("grade", help="grade notebooks: files, folders, zip archives")
    one.add_argument("lab", type=Path, help="the lab's folder")
    one.add_argument("submissions", nargs="+", type=Path)
    one.add_argument(
        "--out", type=Path, default=Path("results"), help="one JSON file for each student; a rerun resumes"
    )
    one.add_argument("--private", type=Path, help="folder with an instructor's own scenarios, in <lab>.py")
    one.add_argument("--seed", help="of the hidden inputs; by default kept in OUT, made once")
    one.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    one.add_argument("--shard", default="1/1", metavar="I/N", help="grade only part I of N, by student")
    one.add_argument(
        "--unsafe-no-sandbox",
        action="store_true",
        help="run submissions with your own rights; every result says so",
    )
    one.add_argument("--json", action="store_true", help="print counts by status as JSON")
    one.set_defaults(run=_grade)

    one = commands.add_parser("report", help="marks, feedback pages and a class report from results")
    one.add_argument("lab", type=Path)
    one.add_argument("results", nargs="+", type=Path, help="folders of results, of all shards")
    one.add_argument("--out", type=Path, default=Path("report"))
    one.add_argument("--marks", type=Path, help="CSV of marks by hand: student, question, points")
    one.set_defaults(run=_report)

    one = commands.add_parser("doctor", help="try what the sandbox promises on this machine")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=_doctor)
    return parser


def _release(options: argparse.Namespace) -> int:
    from teachgrade.lab import load
    from teachgrade.release import make

    for folder in options.labs:
        lab = load(folder)
        made = make(lab)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{lab.stem}.ipynb").write_text(made.student, encoding="utf-8")
        (options.out / f"{lab.stem}.visible.json").write_text(made.visible, encoding="utf-8")
        if options.instructor:
            (options.out / f"{lab.stem}.instructor.ipynb").write_text(made.instructor, encoding="utf-8")
        print(
            f"{lab.stem}: {len(lab.questions)} questions, no line of a solution and no hidden scenario in what students get"
        )
    return OK


def _check(options: argparse.Namespace) -> int:
    from teachgrade.cells import is_shown_only, run_cell
    from teachgrade.self_check import judge
    from teachgrade.submission import load
    from teachgrade.visible_part import load as visible

    stem = options.lab or options.notebook.stem
    questions = visible(stem)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in load(options.notebook).cells:
        if not is_shown_only(cell.source):
            error, _ = run_cell(cell.source, cell.file, names)
            if error:
                print(f"{cell.file}: {error}")
    found = [judge(f"{stem}.{name}", one, names) for name, one in questions.items() if one.names]
    for one in found:
        print(one.text)
    return OK if all(found) else FOUND


def _grade(options: argparse.Namespace) -> int:
    from teachgrade import kit
    from teachgrade.batch import Batch, Progress, shard
    from teachgrade.collect import find
    from teachgrade.judge import Key
    from teachgrade.lab import load
    from teachgrade.mounts import mounts
    from teachgrade.sandbox import Limits, Worker, available

    if not (available() or options.unsafe_no_sandbox):
        raise ValueError(
            "no sandbox on this machine (see teachgrade doctor); --unsafe-no-sandbox grades without one"
        )
    index, _, count = options.shard.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise ValueError(f"--shard: expected I/N, got {options.shard!r}")
    lab = load(options.lab, options.private)
    entries = shard(find(options.submissions, lab.stem), int(index), int(count))
    seed = options.seed or _kept_seed(options.out)
    visible = None if options.unsafe_no_sandbox else mounts(lab.packages)
    with tempfile.TemporaryDirectory(prefix="teachgrade-kit-") as folder:
        os.chmod(folder, 0o755)
        given = kit.make(lab.modules, Path(folder) / "given")
        batch = Batch(
            Key(lab, seed), lambda slot: Worker(visible, Limits(), given, slot),
            seed=seed, sandbox="none" if visible is None else "bubblewrap", workers=options.workers,
        )  # fmt: skip

        def show(now: Progress) -> None:
            if sys.stderr.isatty() or now.done == now.total or now.done % 20 == 0:
                counts = ", ".join(f"{n} {status}" for status, n in now.by_status.most_common())
                print(f"teachgrade: {now.done} of {now.total}: {counts}", file=sys.stderr)

        done = batch.run(entries, options.out, show)
    if options.json:
        print(json.dumps({"total": done.total, "resumed": done.resumed, "by_status": dict(done.by_status)}))
    return FOUND if done.by_status["sandbox_error"] else OK


def _kept_seed(folder: Path) -> str:
    """The seed of a folder of results: drawn at first, and then the same, so that marks are the same again."""
    path = folder / "seed.txt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _report(options: argparse.Namespace) -> int:
    from teachgrade import export, pages
    from teachgrade.lab import load
    from teachgrade.result import path_of, read_all

    lab = load(options.lab)
    marks = export.read_marks(options.marks.read_text(encoding="utf-8")) if options.marks else {}
    results = [export.with_marks(one, marks) for one in read_all(options.results)]
    titles = {q.id: q.title for q in lab.questions}
    pages.write(results, titles, options.out)
    (options.out / "marks.csv").write_text(export.to_csv(results), encoding="utf-8")
    (options.out / "junit.xml").write_text(export.to_junit(results), encoding="utf-8")
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "gradescope").mkdir(exist_ok=True)
    for one in results:
        path = path_of(options.out / "gradescope", one["student"])
        path.write_text(json.dumps(export.to_gradescope(one), indent=1) + "\n", encoding="utf-8")
    print(
        f"{len(results)} submissions: {options.out / 'class.html'}, {options.out / 'marks.csv'}, feedback, gradescope, junit.xml"
    )
    return OK


def _doctor(options: argparse.Namespace) -> int:
    from teachgrade.doctor import examine

    found = examine()
    if options.json:
        print(json.dumps([vars(one) for one in found]))
    else:
        for one in found:
            print(f"{'ok ' if one.ok else 'NOT'}  {one.what}: {one.seen}")
    return OK if all(one.ok for one in found) else FOUND


if __name__ == "__main__":
    sys.exit(main())
