"""Mutation testing: `python tools/mutate.py src/teachkit/attention.py`, called by `make stress`.

Changes one operator, constant, condition, return value or statement of a module at a time and runs
tests/test_<stem>.py against it; a mutant that fails no test has survived. Survivors are listed. A mutant that
never ends counts as killed. A line that ends in `# no mutate: <reason>` is left alone.

Each mutant runs in a process forked from one that has imported torch already (so not on Windows).
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    line: int
    what: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    protected = {n for n, text in enumerate(source.splitlines(), 1) if "# no mutate:" in text}
    left_alone = _left_alone(tree)
    made = []
    for index, node in enumerate(ast.walk(tree)):
        what = _change(node)
        if what is None or node.lineno in protected or id(node) in left_alone:
            continue
        changed = copy.deepcopy(tree)
        _apply(changed, next(n for i, n in enumerate(ast.walk(changed)) if i == index))
        made.append(Mutant(node.lineno, what, ast.unparse(ast.fix_missing_locations(changed))))
    return sorted(made, key=lambda mutant: mutant.line)


def _left_alone(tree: ast.AST) -> set[int]:
    """Nodes that are no behaviour: annotations, docstrings, the text of error messages, imports."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            roots.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            roots += [node.returns] if node.returns else []
            roots += node.decorator_list
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            roots.append(node)
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            roots.append(node)
    return {id(inner) for root in roots for inner in ast.walk(root)}


def _change(node: ast.AST) -> str | None:
    """What `_apply` would change about this node, in words; None for a node without a mutant."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            return f"{type(op).__name__} -> {OPERATORS[type(op)].__name__}"
        case ast.Compare(ops=[op, *_]):
            return f"{type(op).__name__} -> {OPERATORS[type(op)].__name__}"
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert() as op):
            return f"without {type(op).__name__}"
        case ast.Constant(value=bool() | int() | float() as value):
            return f"{value} -> {_other(value)}"
        case ast.If() | ast.IfExp() | ast.While():
            return "condition negated"
        case ast.Return(value=ast.expr()):
            return "return None"
        case ast.Expr(value=ast.Call()):
            return "call removed"
        case ast.keyword(arg=str(name)):
            return f"argument {name} removed"
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute(), *_]):
            return "assignment removed"
    return None


def _other(value: float) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1


def _apply(tree: ast.AST, node: ast.AST) -> None:
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare):
        node.ops[0] = OPERATORS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)  # type: ignore[arg-type]
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.UnaryOp):
        _replace(tree, node, node.operand)
    elif isinstance(node, ast.keyword):
        _replace(tree, node, None)
    else:
        _replace(tree, node, ast.Pass())


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST | None) -> None:
    """Put `new` where `old` stands in its parent; None removes it from its list."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                place = next(i for i, item in enumerate(value) if item is old)
                value[place : place + 1] = [] if new is None else [new]
                return
    raise AssertionError("the node is not in the tree")


def _start(module: Path, source: str, tests: list[str], package: Path) -> tuple[int, Path]:
    """Fork a child that runs the tests on a copy of the package with `source` in place of `module`."""
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    shutil.copytree(
        package, folder / package.name, ignore=shutil.ignore_patterns("checkpoints", "__pycache__")
    )
    if (package / "checkpoints").is_dir():
        (folder / package.name / "checkpoints").symlink_to(package / "checkpoints")
    (folder / package.name / module.relative_to(package)).write_text(source, encoding="utf-8")
    child = os.fork()
    if child:
        return child, folder
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os._exit(_run_tests(folder, tests))


def _run_tests(folder: Path, tests: list[str]) -> int:
    import pytest
    import torch

    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    torch.set_num_threads(1)
    options = ["-x", "-q", "-m", "not slow and not stress"]
    options += [f"-pno:{plugin}" for plugin in ("cacheprovider", "randomly", "nbval")]  # nbval: slow to load
    return int(pytest.main([*options, "--hypothesis-seed=0", *tests]))


def _finish(children: dict[int, tuple[Path, float]], limit_s: float) -> tuple[int, bool]:
    """Wait for one child, or kill one that ran too long; returns its id and whether the tests passed."""
    while True:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            shutil.rmtree(children.pop(child)[0], ignore_errors=True)
            return child, os.waitstatus_to_exitcode(status) == 0
        for running, (_, started) in children.items():
            if time.monotonic() - started > limit_s:
                os.kill(running, signal.SIGKILL)
        time.sleep(0.02)


def survivors(module: Path, chosen: list[Mutant], tests: list[str], package: Path, jobs: int) -> list[Mutant]:
    """Those of `chosen` that pass every test; raises RuntimeError if the module itself does not."""
    started = time.monotonic()
    children: dict[int, tuple[Path, float]] = {}
    child, folder = _start(module, module.read_text(encoding="utf-8"), tests, package)
    children[child] = (folder, started)
    if not _finish(children, limit_s=600)[1]:
        raise RuntimeError(f"{module}: its own tests fail, or there are none: {' '.join(tests)}")
    limit_s = 10 + 5 * (time.monotonic() - started)

    alive, running, waiting = [], {}, list(reversed(chosen))
    while waiting or children:
        while waiting and len(children) < jobs:
            mutant = waiting.pop()
            child, folder = _start(module, mutant.source, tests, package)
            children[child] = (folder, time.monotonic())
            running[child] = mutant
        child, passed = _finish(children, limit_s)
        mutant = running.pop(child)
        if passed:
            alive.append(mutant)
    return sorted(alive, key=lambda mutant: mutant.line)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="+", type=Path)
    parser.add_argument(
        "--at-least", type=float, default=0.9, help="share that must be killed in each module"
    )
    parser.add_argument("--sample", type=int, help="try this many mutants per module; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--tests", nargs="+", help="test files; tests/test_<stem>.py by default")
    parser.add_argument(
        "--package", type=Path, default=ROOT / "src" / "teachkit", help="package of the modules"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    if not hasattr(os, "fork"):
        parser.error("needs fork, which this system does not have")
    import torch  # noqa: F401, once, for all that are forked from here

    failed = False
    for module in (path.resolve() for path in options.modules):
        chosen = mutants(module.read_text(encoding="utf-8"))
        if options.sample and options.sample < len(chosen):
            chosen = random.Random(options.seed).sample(chosen, options.sample)
        tests = options.tests or [str(ROOT / "tests" / f"test_{module.stem}.py")]
        alive = survivors(module, chosen, tests, options.package.resolve(), options.jobs)
        killed = 1 - len(alive) / max(1, len(chosen))
        for mutant in alive:
            print(f"{module.name}:{mutant.line}: survived: {mutant.what}")
        print(
            f"{module.name}: {len(chosen) - len(alive)} of {len(chosen)} mutants killed ({killed:.1%})",
            flush=True,
        )
        failed |= killed < options.at_least
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
