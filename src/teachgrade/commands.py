"""What the commands of the shell do. Each gives an exit status: 0, or 1 if something was found wanting."""

from __future__ import annotations

import argparse
import json
import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

OK, FOUND = 0, 1


def release(options: argparse.Namespace) -> int:
    """``teachgrade release``"""
    from teachgrade.lab import load
    from teachgrade.release import make

    for folder in options.labs:
        lab = load(folder)
        made = make(lab, options.address)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{lab.stem}.ipynb").write_text(made.student, encoding="utf-8")
        (options.out / f"{lab.stem}.visible.json").write_text(made.visible, encoding="utf-8")
        if options.instructor:
            (options.out / f"{lab.stem}.instructor.ipynb").write_text(made.instructor, encoding="utf-8")
        print(
            f"{lab.stem}: {len(lab.questions)} questions;"
            " no line of a solution and no hidden scenario in what students get"
        )
    return OK


def check(options: argparse.Namespace) -> int:
    """``teachgrade check``"""
    from teachgrade.cells import is_shown_only, run_cell
    from teachgrade.self_check import judge
    from teachgrade.submission import lab_of, load
    from teachgrade.visible_part import load as visible

    stem = options.lab or lab_of(options.notebook)
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
    n_passed = sum(map(bool, found))
    print(f"{n_passed} of {len(found)} questions pass what is visible of them.")
    return OK if all(found) else FOUND


def grade(options: argparse.Namespace) -> int:
    """``teachgrade grade``"""
    from teachgrade.batch import Batch, shard
    from teachgrade.collect import find
    from teachgrade.lab import load
    from teachgrade.progress import showing

    index, _, count = options.shard.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise ValueError(f"--shard: expected I/N, got {options.shard!r}")
    if options.workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {options.workers}")
    lab = load(options.lab, options.private)
    if options.question is not None:
        lab.question(options.question)
    entries = shard(find(options.submissions, lab.stem), int(index), int(count))
    seed = options.seed or _kept_seed(options.out)
    with ExitStack() as stack:
        task, executor, workers = _task(options, lab, seed, stack)
        batch = Batch(
            lab,
            task,
            seed=seed,
            sandbox="none" if options.unsafe_no_sandbox else "bubblewrap",
            workers=workers,
            only=options.question,
            executor=executor,
        )
        done = batch.run(entries, options.out, stack.enter_context(showing(len(entries))))
    if options.json:
        print(json.dumps({"total": done.total, "resumed": done.resumed, "by_status": dict(done.by_status)}))
    return FOUND if done.by_status["sandbox_error"] else OK


def _task(options: argparse.Namespace, lab: Any, seed: str, stack: ExitStack) -> Any:
    """What grades one submission, where (None: here), and how many at a time."""
    import torch

    from teachgrade import cluster
    from teachgrade.batch import Graders
    from teachgrade.bubblewrap import available
    from teachgrade.judge import Key
    from teachgrade.sandboxed import Starter

    if options.scheduler is not None:
        if options.unsafe_no_sandbox:
            raise ValueError("--scheduler: not without a sandbox; student code would run on other machines")
        executor, workers = stack.enter_context(cluster.executor(options.scheduler))
        return cluster.ClusterTask(cluster.pack_lab(lab.folder, options.private), seed), executor, workers
    if os.name != "posix":
        raise ValueError("labs are graded on Linux; here, teachgrade check tries the visible part")
    if not (available() or options.unsafe_no_sandbox):
        raise ValueError(
            "no sandbox on this machine (see teachgrade doctor); --unsafe-no-sandbox grades without one"
        )
    torch.set_num_threads(1)  # as inside: sums are added in the same order
    start = Starter(lab.packages, lab.modules, sandbox=not options.unsafe_no_sandbox)
    stack.callback(start.close)
    graders = Graders(Key(lab, seed), start)
    stack.callback(graders.close)
    return graders, None, options.workers


def _kept_seed(folder: Path) -> str:
    """The seed of a folder of results: drawn at first, and then the same, so that marks are the same
    again.
    """
    path = folder / "seed.txt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def report(options: argparse.Namespace) -> int:
    """``teachgrade report``"""
    from teachgrade import export, late, pages
    from teachgrade.class_report import class_report
    from teachgrade.lab import load
    from teachgrade.result import path_of, read_all

    lab = load(options.lab)
    by_hand = export.read_marks(options.marks.read_text(encoding="utf-8-sig")) if options.marks else {}
    if unknown := sorted({question for _, question in by_hand} - {q.id for q in lab.questions}):
        raise ValueError(f"marks: {lab.stem} has no question {', '.join(unknown)}")
    results = [export.with_marks(one, by_hand) for one in read_all(options.results)]
    if not results:
        raise ValueError(f"no result in {', '.join(map(str, options.results))}")
    factors = late.factors(options)
    out = options.out
    titles = {q.id: q.title for q in lab.questions}
    pages.write(results, lab.title, titles, out, factors)
    (out / "class.html").write_text(class_report(results, lab.title, titles), encoding="utf-8")
    (out / "marks.csv").write_text(export.to_csv(results, factors), encoding="utf-8")
    (out / "junit.xml").write_text(export.to_junit(results), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "gradescope").mkdir(exist_ok=True)
    for one in results:
        made = export.to_gradescope(one, factors.get(one["student"], 1.0))
        path_of(out / "gradescope", one["student"]).write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    print(
        f"{len(results)} submissions: {out / 'class.html'}, {out / 'marks.csv'}, feedback/, gradescope/,"
        " junit.xml, results.json"
    )
    stray = sorted({student for student, _ in by_hand} - {one["student"] for one in results})
    if stray:
        print(f"marks by hand for students without a result: {', '.join(stray)}")
    no_time = sorted({one["student"] for one in results} - set(factors)) if options.due else []
    if no_time:
        print(f"no time of handing in, so counted as in time: {', '.join(no_time)}")
    return FOUND if stray or no_time else OK


def doctor(options: argparse.Namespace) -> int:
    """``teachgrade doctor``"""
    from teachgrade.doctor import examine

    found = examine()
    if options.json:
        print(json.dumps([vars(one) for one in found]))
    else:
        for one in found:
            print(f"{'ok ' if one.ok else 'NOT'}  {one.what}: {one.seen}")
    return OK if all(one.ok for one in found) else FOUND
