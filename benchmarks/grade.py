"""Submissions per minute: `teachgrade grade`, in its sandbox, beside `nbgrader autograde`, on the same lab.

    python benchmarks/grade.py                              # 12 submissions, three turns: ten minutes
    python benchmarks/grade.py --nbgrader PATH/TO/python    # an interpreter that has nbgrader and torch
    python benchmarks/grade.py --turns 1 --many 1000        # and whether memory stays flat: most of an hour

nbgrader stays out of this environment, with whose packages it would not agree. Without --nbgrader, the script
makes one for it, once, with torch and numpy as they are here:

    python -m venv build/nbgrader
    build/nbgrader/bin/python -m pip install nbgrader==0.9.6 torch==VERSION numpy==VERSION

Both get the code cells of one lab (without those that only show something), filled in by the same students:
in turn one who is right, one with a mistake of the lab's bank in place of an answer, and one who left all
blank. teachgrade asks its scenarios. nbgrader gets the same as its authors write it: a test cell for each
question, with a call for each call of the scenarios and an assertion for each comparison, by the same
tolerances. Inputs and expected tensors lie in a file beside the notebook; as numbers in it they would make
nbgrader slower. So both compare equally often, but for a wrong answer: there nbgrader's cell ends at the
first difference, while teachgrade asks on, to find out which mistake it was. Marks are compared, question by
question.

Whole commands are timed from outside, in turns: teachgrade on one worker, nbgrader (its command line knows no
workers), teachgrade on two. One thread each (OMP_NUM_THREADS=1), files warm. "Beyond importing torch" is a
submission's time less the time in which a fresh worker in the same sandbox has torch and is ready. nbgrader
has no sandbox: it runs what was handed in with the rights of whoever grades.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from teachgrade.bubblewrap import available
from teachgrade.judge import Key
from teachgrade.lab import Lab, code_cells, load
from teachgrade.operations import play
from teachgrade.sandboxed import Starter
from teachgrade.scenario import Look, Recorded, tolerance
from teachgrade.source import BEGIN, without_markers, without_solutions
from teachgrade.values import Raised, Ref
from teachkit import measure

ROOT = Path(__file__).resolve().parent.parent
NBGRADER = "0.9.6"
SEED = "benchmark"
DATA = "data.pt"
FASTER, TWO_OVER_ONE, BEYOND_S = 3.0, 1.7, 1.0  # what is asked of teachgrade


@dataclass(frozen=True)
class Answered:
    """What one student made of the lab: the source of each code cell. kind: right, partly, blank."""

    student: str
    kind: str
    cells: tuple[str, ...]


def answers(lab: Lab, n: int) -> list[Answered]:
    """n students: right, partly right, blank, and again; the mistakes are spread over the lab's bank."""
    cells = code_cells(lab.source)
    right = [without_markers(cell) for cell in cells]
    blank = [without_solutions(cell) for cell in cells]
    bank = sorted((lab.folder / "wrong").glob("*.py"))
    partly = -(-(n - 1) // 3)
    found = []
    for at in range(n):
        kind = ("right", "partly", "blank")[at % 3]
        made = list(blank if kind == "blank" else right)
        if kind == "partly":
            file = bank[at // 3 * len(bank) // partly]
            names = lab.question(file.stem.partition("_")[0]).names
            place = max(i for i, cell in enumerate(right) if defined(cell) & set(names))
            made[place] += "\n\n" + file.read_text(encoding="utf-8")
        found.append(Answered(f"student-{at:04}-{kind}", kind, tuple(made)))
    return found


def defined(cell: str) -> set[str]:
    return {node.name for node in ast.parse(cell).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


# What nbgrader's tests are made of: a cell that students cannot change, before the test cells.
HELPERS = f'''
import math

import torch

data = torch.load("{DATA}")


def caught(call):
    """What the call gives, or the exception that it raises."""
    try:
        return call()
    except Exception as error:
        return error


def same(got, expected, rtol=None, atol=None):
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    elif isinstance(expected, float):
        assert math.isclose(got, expected, rel_tol=1e-9 if rtol is None else rtol, abs_tol=atol or 0.0)
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            same(one, other, rtol, atol)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name in expected:
            same(got[name], expected[name], rtol, atol)
    else:
        assert got == expected


def raised(got, name):
    assert isinstance(got, Exception)
    assert name in [kind.__name__ for kind in type(got).__mro__]
'''.strip()


@dataclass
class TestCell:
    """One question as code. tensors: ``t[0]``, ``t[1]``, ... of it, inputs and expected ones."""

    lines: list[str]
    tensors: list[torch.Tensor] = field(default_factory=list)
    compared: int = 0

    def add(self, one: Recorded, expected: Sequence[Any], fails: Sequence[bool]) -> None:
        """A recording. fails: for each operation, whether it raises in the reference."""
        self.lines.append(f"# {one.name}")
        looks = iter(zip(one.looks, expected, strict=True))
        for at, op in enumerate(one.ops):
            if op["do"] == "see":
                self._see(f"v{op['of'].op}", *next(looks))
            else:
                call = self._call(op)
                self.lines.append(f"v{at} = caught(lambda: {call})" if fails[at] else f"v{at} = {call}")

    def _see(self, got: str, look: Look, expected: Any) -> None:
        self.compared += 1
        if isinstance(expected, Raised):
            self.lines.append(f"raised({got}, {expected.name!r})")
            return
        rtol, atol = look.rtol, look.atol
        if (dtype := first_dtype(expected)) is not None:
            usual = tolerance(dtype)
            rtol, atol = usual[0] if rtol is None else rtol, usual[1] if atol is None else atol
        self.lines.append(f"same({got}, {self._code(expected)}, {rtol}, {atol})")

    def _call(self, op: dict[str, Any]) -> str:
        if op["do"] == "value":
            return self._code(op["value"])
        target = op["name"] if op["do"] == "call" else f"v{op['of'].op}.{op['name']}"
        if op["do"] == "get":
            return target
        inputs = [self._code(value) for value in op["args"]]
        inputs += [f"{name}={self._code(value)}" for name, value in op["kwargs"].items()]
        return f"{target}({', '.join(inputs)})"

    def _code(self, value: Any) -> str:
        """An expression that gives the value."""
        if isinstance(value, Ref):
            return f"v{value.op}"
        if isinstance(value, torch.Tensor):
            self.tensors.append(value.detach().clone(memory_format=torch.contiguous_format))
            return f"t[{len(self.tensors) - 1}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self._code(k)}: {self._code(v)}' for k, v in value.items())}}}"
        if isinstance(value, (list, tuple)):
            inside = "".join(f"{self._code(item)}, " for item in value)
            return f"[{inside}]" if isinstance(value, list) else f"({inside})" if value else "()"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if value is None or isinstance(value, (bool, int, float, str, set, torch.dtype)):
            return repr(value)
        raise TypeError(f"a scenario has a {type(value).__name__}, which is not known how to write")


def first_dtype(value: Any) -> torch.dtype | None:
    """Of the first tensor in a value."""
    if isinstance(value, torch.Tensor):
        return value.dtype
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((dtype for part in parts if (dtype := first_dtype(part)) is not None), None)


def tests_of(key: Key) -> dict[str, TestCell]:
    """By question: the same operations and comparisons as teachgrade's, with the same inputs."""
    found: dict[str, TestCell] = {}
    for one, expected in zip(key.recorded, key.expected, strict=True):
        cell = found.setdefault(one.question, TestCell([f't = data["{one.question}"]']))
        every = [{"do": "see", "of": Ref(at), "label": ""} for at in range(len(one.ops))]
        after = play([*one.ops, *every], key.lab.reference)[len(one.looks) :]
        cell.add(one, expected, [isinstance(value, Raised) for value in after])
    return found


class Course:
    """nbgrader's course folder with a lab released: copied for each turn, so that all begin alike."""

    def __init__(self, python: str, folder: Path, lab: Lab, tests: dict[str, TestCell]) -> None:
        self.python, self.folder, self.lab = python, folder, lab
        source = folder / "source" / lab.stem
        source.mkdir(parents=True)
        config = 'c = get_config()\nc.CourseDirectory.course_id = "benchmark"\n'
        (folder / "nbgrader_config.py").write_text(config, encoding="utf-8")
        torch.save({question: cell.tensors for question, cell in tests.items()}, source / DATA)
        nbformat.write(self._assignment(tests), source / f"{lab.stem}.ipynb")
        self.run("generate_assignment", folder)

    def _assignment(self, tests: dict[str, TestCell]) -> Any:
        cells = []
        for number, code in enumerate(code_cells(self.lab.source)):
            cells.append(marked(new_code_cell(code), f"cell-{number}", solution=BEGIN in code))
        cells.append(marked(new_code_cell(HELPERS), "helpers"))
        for question in self.lab.questions:
            if question.kind == "words":
                words = new_markdown_cell("Your answer here.")
                cells.append(marked(words, question.id, solution=True, points=question.points))
            else:
                code = "\n".join(tests[question.id].lines)
                cells.append(marked(new_code_cell(code), question.id, points=question.points))
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        return new_notebook(cells=cells, metadata={"kernelspec": kernel})

    def handed_in(self, by: Sequence[Answered], folder: Path) -> Path:
        """A copy of the course, in which each has filled in the released notebook; the folder."""
        shutil.copytree(self.folder, folder)
        released = folder / "release" / self.lab.stem
        for one in by:
            target = folder / "submitted" / one.student / self.lab.stem
            shutil.copytree(released, target)
            notebook = nbformat.read(target / f"{self.lab.stem}.ipynb", as_version=4)
            for cell in notebook.cells:
                about = cell.metadata["nbgrader"]
                if cell.cell_type == "code" and about["solution"]:
                    cell.source = one.cells[int(about["grade_id"].removeprefix("cell-"))]
            nbformat.write(notebook, target / f"{self.lab.stem}.ipynb")
        return folder

    def autograde(self, folder: Path) -> float:
        """Seconds for all that was handed in."""
        return self.run("autograde", folder)

    def run(self, command: str, folder: Path) -> float:
        return timed([self.python, "-m", "nbgrader", command, self.lab.stem], folder)

    def marks(self, folder: Path) -> dict[str, dict[str, bool]]:
        """By student and question: whether all points were given; of code alone."""
        command = [self.python, "-c", MARKS, self.lab.stem]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(command[0], folder),
            check=True,
            capture_output=True,
            text=True,
        )
        questions = [question.id for question in self.lab.questions if question.kind == "code"]
        return {who: {q: found[q] for q in questions} for who, found in json.loads(done.stdout).items()}


MARKS = """
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    found = {
        one.student.id: {g.name: g.auto_score == g.max_score for part in one.notebooks for g in part.grades}
        for one in book.assignment_submissions(sys.argv[1])
    }
print(json.dumps(found))
"""


def marked(cell: Any, name: str, *, solution: bool = False, points: float | None = None) -> Any:
    """A cell with what nbgrader's editor writes into it."""
    about = {
        "grade_id": name,
        "schema_version": 3,
        "solution": solution,
        "task": False,
        "locked": not solution,
    }
    about |= {"grade": False} if points is None else {"grade": True, "points": points}
    cell.metadata["nbgrader"] = about
    return cell


class Ours:
    """teachgrade on the same submissions, as notebooks in a folder."""

    def __init__(self, lab: Lab, folder: Path, by: Sequence[Answered]) -> None:
        self.lab, self.submissions = lab, folder / "submissions"
        self.submissions.mkdir(parents=True)
        for one in by:
            notebook = new_notebook(cells=[new_code_cell(code) for code in one.cells])
            nbformat.write(notebook, self.submissions / f"{one.student}.ipynb")

    def command(self, out: Path, workers: int) -> list[str]:
        command = [sys.executable, "-m", "teachgrade.cli", "grade", str(self.lab.folder)]
        command += [str(self.submissions), "--out", str(out), "--seed", SEED]
        return [*command, "--workers", str(workers)]

    def grade(self, out: Path, workers: int) -> float:
        """Seconds for all submissions; results go to the new folder ``out``."""
        out.mkdir()
        return timed(self.command(out, workers), out)

    @staticmethod
    def results(out: Path) -> dict[str, dict[str, Any]]:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]
        return {one["student"]: one for one in found}

    def marks(self, out: Path) -> dict[str, dict[str, bool]]:
        """As :meth:`Course.marks`."""
        code = {question.id for question in self.lab.questions if question.kind == "code"}
        return {
            who: {q["question"]: q["status"] == "passed" for q in one["questions"] if q["question"] in code}
            for who, one in self.results(out).items()
        }


def environment(python: str, folder: Path) -> dict[str, str]:
    """For both alike: as if the interpreter's environment were activated, with nobody's Jupyter settings."""
    left_out = {"JUPYTER_PATH", "VIRTUAL_ENV"} | (set() if python == sys.executable else {"PYTHONPATH"})
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {"JUPYTER_CONFIG_DIR": str(folder / ".jupyter"), "IPYTHONDIR": str(folder / ".ipython")}
    # nbgrader calls programs of its environment by name.
    own["PATH"] = os.pathsep.join([str(Path(python).absolute().parent), os.environ.get("PATH", "")])
    return kept | own | {"OMP_NUM_THREADS": "1"}


def timed(command: Sequence[str], folder: Path) -> float:
    """Seconds of a command, run in a folder, from outside."""
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(command[0], folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{log.read()[-3_000:]}")
    return seconds


def peer(given: str | None) -> str:
    """An interpreter with nbgrader and a torch of this version; made below build/ if none is given."""
    python = given or str(ROOT / "build" / "nbgrader" / "bin" / "python")
    version = torch.__version__.partition("+")[0]
    if given is None and not Path(python).is_file():
        print(f"making an environment with nbgrader {NBGRADER} and torch {version} in build/nbgrader")
        subprocess.run([sys.executable, "-m", "venv", str(ROOT / "build" / "nbgrader")], check=True)
        wanted = [f"nbgrader=={NBGRADER}", f"torch=={version}", f"numpy=={np.__version__}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    shown = "import nbgrader, torch; print(nbgrader.__version__, torch.__version__)"
    done = subprocess.run([python, "-c", shown], check=True, capture_output=True, text=True)
    theirs = done.stdout.split()
    print(f"nbgrader {theirs[0]} with torch {theirs[1]}; teachgrade with torch {torch.__version__}")
    if theirs[1] != torch.__version__:
        print("the two builds of torch differ: their imports may take different times")
    return python


def start_times(lab: Lab, n: int = 3) -> list[float]:
    """Seconds until a fresh worker in the sandbox has imported torch and says so."""
    start = Starter(lab.packages, lab.modules, forking=False)
    found = []
    for _ in range(n):
        started = time.perf_counter()
        worker = start(0)
        try:
            if worker.receive(time.monotonic() + 60) != {"ready": True}:
                raise SystemExit("the worker did not start")
            found.append(time.perf_counter() - started)
        finally:
            worker.close()
    start.close()
    return found


@dataclass
class Runs:
    """What was measured. walls: by contestant, seconds of whole commands; alone: by kind, of submissions."""

    walls: dict[str, list[float]] = field(default_factory=dict)
    alone: dict[str, list[float]] = field(default_factory=dict)
    long: dict[str, list[float]] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    differ: set[str] = field(default_factory=set)

    def median(self, name: str) -> float:
        return statistics.median(self.walls[name])


LONG = 10  # times as many submissions, for two workers beside one
ONE, PEER, TWO = "teachgrade, 1 worker", "nbgrader autograde", "teachgrade, 2 workers"


def take_turns(lab: Lab, course: Course, by: Sequence[Answered], turns: int, folder: Path) -> Runs:
    ours, runs = Ours(lab, folder / "ours", by), Runs()
    kinds = {one.student: one.kind for one in by}
    for turn in range(turns):
        here = folder / f"turn-{turn}"
        copy = course.handed_in(by, here / "course")
        runs.ready += start_times(lab)
        walls = {ONE: ours.grade(here / "one", 1), PEER: course.autograde(copy)}
        walls[TWO] = ours.grade(here / "two", 2)
        print(f"  turn {turn + 1}: " + ", ".join(f"{k} {v:.1f} s" for k, v in walls.items()), flush=True)
        for name, seconds in walls.items():
            runs.walls.setdefault(name, []).append(seconds)
        for student, result in ours.results(here / "one").items():
            runs.alone.setdefault(kinds[student], []).append(result["time_s"])
        mine = ours.marks(here / "one")
        if mine != ours.marks(here / "two") or set(mine) != set(kinds):
            raise SystemExit("teachgrade: the marks differ between one worker and two")
        if not all(all(mine[student].values()) for student, kind in kinds.items() if kind == "right"):
            raise SystemExit("teachgrade: a right submission does not get all marks")
        runs.differ |= set(differences(mine, course.marks(copy)))
    # In a short run the command's own start, which has one worker whoever asks, hides the second one's work.
    repeated = [replace(one, student=f"{one.student}-{k}") for k in range(LONG) for one in by]
    ours = Ours(lab, folder / "long", repeated)
    for turn in range(turns):
        for name, workers in ((ONE, 1), (TWO, 2)):
            runs.long.setdefault(name, []).append(ours.grade(folder / f"long-{turn}-{workers}", workers))
    return runs


def warm_up(lab: Lab, course: Course, one: Answered, folder: Path) -> None:
    """One submission by each: afterwards nothing is read or compiled for the first time."""
    course.autograde(course.handed_in([one], folder / "course"))
    Ours(lab, folder / "ours", [one]).grade(folder / "results", 1)


def differences(ours: dict[str, dict[str, bool]], theirs: dict[str, dict[str, bool]]) -> Iterator[str]:
    for student, marks in ours.items():
        for question, passed in marks.items():
            if theirs[student][question] != passed:
                says = "passed" if passed else "not passed"
                yield f"{student}, {question}: {says} by teachgrade, nbgrader says otherwise"


def report(runs: Runs, n: int) -> dict[str, float]:
    """Print what was found; the ratios and times that are asked for."""
    print(f"\n{'':24}{'s in all':>9}{'s each':>8}{'a minute':>10}")
    for name, turns in runs.walls.items():
        seconds = statistics.median(turns)
        print(f"{name:24}{seconds:9.1f}{seconds / n:8.2f}{60 * n / seconds:10.1f}")
    ready = statistics.median(runs.ready)
    print(f"\na sandbox made anew has imported torch after {ready:.2f} s; forked, a submission takes in all")
    for kind, times in runs.alone.items():
        print(f"  {kind:8}{statistics.median(times):6.2f} s (the longest {max(times):.2f} s)")
    n_long = len(runs.long[ONE]), len(runs.long[TWO])
    print(
        f"{LONG} times as many submissions, {n_long[0]} turns: "
        + ", ".join(f"{who} {statistics.median(walls):.1f} s" for who, walls in runs.long.items())
    )
    every = [seconds for times in runs.alone.values() for seconds in times]
    found = {
        "teachgrade over nbgrader": runs.median(PEER) / runs.median(ONE),
        "two workers over one": statistics.median(runs.long[ONE]) / statistics.median(runs.long[TWO]),
        "a whole submission, s": statistics.median(every),
        "the same, of the whole command": runs.median(ONE) / n,
    }
    asked = {
        "teachgrade over nbgrader": f"asked: at least {FASTER:g}",
        "two workers over one": f"asked: at least {TWO_OVER_ONE:g}",
        "a whole submission, s": f"asked: at most {BEYOND_S:g} besides importing torch",
    }
    print()
    for name, value in found.items():
        print(f"{name:32}{value:6.2f}  {asked.get(name, '')}")
    for line in sorted(runs.differ):
        print(line)
    return found


def many(lab: Lab, n: int, workers: int, folder: Path) -> list[tuple[int, int]]:
    """Grade n submissions of one answer each; pairs of how many are done and the grader's resident bytes."""
    cells = [without_markers(cell) for cell in code_cells(lab.source)]
    first = next(q for q in lab.questions if q.kind == "code")
    until = max(i for i, cell in enumerate(cells) if defined(cell) & set(first.names))
    handed_in = [Answered(f"student-{at:05}", "small", (*cells[: until + 1], f"# {at}")) for at in range(n)]
    ours, out = Ours(lab, folder, handed_in), folder / "results"
    command, page, samples = ours.command(out, workers), os.sysconf("SC_PAGE_SIZE"), []
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment(command[0], folder), stdout=log, stderr=log)
        while process.poll() is None:
            resident = Path(f"/proc/{process.pid}/statm").read_text(encoding="utf-8").split()
            done = sum(1 for _ in out.glob("student-*.json"))
            if int(resident[1]):  # 0: it has just ended
                samples.append((done, int(resident[1]) * page))
            time.sleep(0.5)
    if process.returncode or len(ours.results(out)) != n:
        raise SystemExit(f"teachgrade: {len(ours.results(out))} of {n} results")
    return samples


def memory(lab: Lab, n: int, folder: Path) -> measure.Result:
    """Resident memory after a tenth of n small submissions and at the end."""
    workers = os.cpu_count() or 1
    samples = many(lab, n, workers, folder)
    early = next(size for done, size in samples if done >= n / 10)
    late, most = samples[-1][1], max(size for _, size in samples)
    print(
        f"\n{n:,} small submissions: the grader has {early / 1e6:.0f} MB resident after a tenth of them, "
        f"{late / 1e6:.0f} MB at the end, {most / 1e6:.0f} MB at most"
    )
    about = {"lab": lab.stem, "submissions": n, "workers": workers}
    about |= {"after_a_tenth_bytes": early, "at_the_end_bytes": late, "most_bytes": most}
    return measure.result("grade.memory", late / early, "end over a tenth", config=about)


def compare(lab: Lab, python: str, n: int, turns: int, folder: Path) -> tuple[Runs, list[measure.Result]]:
    """Both graders on n submissions; what was measured, and its records."""
    tests = tests_of(Key(lab, SEED))
    compared = sum(cell.compared for cell in tests.values())
    print(f"{measure.device_name()}; {lab.title}: {n} submissions, {compared} comparisons in each")
    course, by = Course(python, folder / "course", lab, tests), answers(lab, n)
    warm_up(lab, course, by[0], folder / "warm-up")
    runs = take_turns(lab, course, by, turns, folder)
    about = {"lab": lab.stem, "submissions": n, "comparisons": compared, "marks_differ": len(runs.differ)}
    about |= report(runs, n)
    records = [
        measure.result(
            "grade", 60 * n / runs.median(who), "submissions/min",
            timing=measure.Timing(tuple(walls)), config=about | {"who": who},
        )
        for who, walls in runs.walls.items()
    ]  # fmt: skip
    return runs, records


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", default="kv_cache")
    parser.add_argument("--submissions", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--nbgrader", help="an interpreter that has nbgrader and torch")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="N small submissions, for memory")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grade.jsonl"))
    args = parser.parse_args()
    if not available():
        print("no sandbox on this machine (see teachgrade doctor): grading is left out")
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    python = peer(args.nbgrader and os.path.abspath(args.nbgrader))
    lab = load(ROOT / "labs" / args.lab)
    with tempfile.TemporaryDirectory(prefix="teachgrade-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        runs, records = compare(lab, python, args.submissions, args.turns, folder)
        if args.many:
            records.append(memory(lab, args.many, folder / "many"))
    measure.append(records, args.out)
    print(f"{len(records)} result records added to {args.out}")
    if runs.differ:
        raise SystemExit(f"{len(runs.differ)} marks differ")


if __name__ == "__main__":
    main()
