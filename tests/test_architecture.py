"""The shape of the code: imports run downward, torch stays where it is needed, files stay small."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# A module imports only from its own level or a lower one.
LEVELS = {
    "config": 0,
    "hardware": 0,
    "shapes": 1,
    "blocks": 0,
    "tokenizer": 0,
    "output": 0,
    "measure": 0,
    "attention": 0,
    "kernels": 0,
    "native": 0,
    "linear": 1,
    "dot_linear": 1,
    "layers": 1,
    "quant": 0,
    "sampling": 0,
    "rows": 0,
    "rolling": 1,
    "cache": 1,
    "quant_cache": 1,
    "block_table": 1,
    "block_attention": 1,
    "paged": 1,
    "scheduler": 1,
    "request": 1,
    "cost": 1,
    "memory": 1,
    "roofline": 2,
    "llm_analysis": 2,
    "estimate": 3,
    "report": 4,
    "model": 2,
    "weights": 3,
    "gptq": 3,
    "convert": 3,
    "decode": 3,
    "compiled": 3,
    "schemes": 3,
    "saved": 3,
    "stored": 0,
    "engine": 3,
    "trace": 4,
    "outcome": 4,
    "completions": 4,
    "replay": 4,
    "replay_report": 5,
    "maps": 3,
    "evaluate": 4,
    "bench": 4,
    "heldout": 0,
    "table_schemes": 4,
    "table": 5,
    "table_report": 5,
    "cli_bench": 5,
    "cli_replay": 5,
    "cli": 5,
    "__init__": 6,
    # Figures show what they are given: they know nothing of models, and nothing knows them.
    "figures.plots": 0,
    "figures.html": 1,
    "figures.live": 2,
    "figures.attention_explorer": 2,
    "figures.step_parts": 2,
    "figures.quality_speed": 2,
    "figures.request_times": 2,
    "figures.logit_lens": 2,
    "figures.block_frames": 0,
    "figures.block_table": 2,
    "figures.decode_steps": 2,
    "figures.int4_packing": 2,
    "figures.kv_memory": 2,
    "figures.latency_plane": 2,
    "figures.next_token": 2,
    "figures.page_model": 2,
    "figures.page_model_weights": 0,
    "figures.questions": 2,
    "figures.timeline": 0,
    "figures.timeline_svg": 1,
    "figures.request_timeline": 2,
    "figures.roofline": 2,
    "figures.step_counts": 0,
    "figures.step_breakdown": 2,
    "figures.__init__": 3,
}
WITHOUT_TORCH = {
    "config",
    "shapes",
    "llm_analysis",
    "estimate",
    "report",
    "hardware",
    "blocks",
    "block_table",
    "scheduler",
    "trace",
    "outcome",
    "completions",
    "cost",
    "memory",
    "roofline",
}
BASE = {"torch", "safetensors", "tokenizers", "numpy", "jaxtyping", "huggingface_hub", "rich"}
# Imported inside a function only, by these modules.
WHEN_NEEDED = {
    "huggingface_hub": {"weights"},
    "matplotlib": {"figures.plots", "figures.step_parts", "figures.quality_speed", "figures.request_times"},
    "ipywidgets": {"figures.live"},
    "rich": {"cli_replay"},
    "cycler": {"figures.plots"},  # comes with matplotlib
}
MODULE_LINES, FUNCTION_LINES = 250, 60


def name_of(path):
    return ".".join(path.relative_to(SRC / "teachkit").with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted((SRC / "teachkit").rglob("*.py"))}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
each_module = pytest.mark.parametrize("name", MODULES)


@cache
def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name, *, at_once=False):
    """What a module imports, resolved: of ``from a import b`` a.b if that is a module of ours, else a."""
    functions = [node for node in ast.walk(tree_of(name)) if isinstance(node, FUNCTION)]
    later = {id(inner) for function in functions for inner in ast.walk(function)}
    found = set()
    for node in ast.walk(tree_of(name)):
        if at_once and id(node) in later:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import on line {node.lineno}"
            full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {long if ours(long) else node.module for long in full.values()}
    return found


def ours(dotted):
    """The module of teachkit that a dotted name stands for, None for any other."""
    parts = dotted.split(".")
    if parts[0] != "teachkit":
        return None
    return next((n for n in (".".join(parts[1:]), ".".join([*parts[1:], "__init__"])) if n in MODULES), None)


def siblings(name):
    """Modules of teachkit that a module imports."""
    return {ours(dotted) for dotted in imports(name)} - {None}


def packages(name, **options):
    """Top-level packages that a module imports."""
    return {dotted.split(".")[0] for dotted in imports(name, **options)}


# --- direction -----------------------------------------------------------------------------------------


def test_every_module_has_a_level():
    assert set(MODULES) <= set(LEVELS), "add the module to LEVELS, and to the table of the design"


@each_module
def test_imports_run_downward(name):
    too_high = {other for other in siblings(name) if LEVELS[other] > LEVELS[name]}
    assert not too_high, f"{name} (level {LEVELS[name]}) imports {too_high}"


def test_imports_form_no_cycle():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in siblings(name):
            visit(other)
        done.add(path.pop())

    for name in MODULES:
        visit(name)
    assert done == set(MODULES)


def test_figures_and_models_do_not_know_each_other():
    """Only the command line knows both: it hands the numbers of one to the other, when asked to."""
    for name in set(MODULES) - {"cli"}:
        inside = name.startswith("figures.")
        assert all(other.startswith("figures.") == inside for other in siblings(name)), name
    assert not any((ours(dotted) or "").startswith("figures.") for dotted in imports("cli", at_once=True))


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH & set(MODULES)))
def test_knows_nothing_of_torch(name):
    assert "torch" not in packages(name)
    assert siblings(name) <= WITHOUT_TORCH


@each_module
def test_never_imports_the_grader(name):
    assert "teachgrade" not in packages(name)


# --- dependencies --------------------------------------------------------------------------------------


@each_module
def test_only_base_dependencies(name):
    foreign = packages(name) - set(sys.stdlib_module_names) - {"teachkit"}
    optional = {package for package, users in WHEN_NEEDED.items() if name in users}
    assert foreign <= (BASE - set(WHEN_NEEDED)) | optional
    assert not packages(name, at_once=True) & set(WHEN_NEEDED), "import it inside the function that needs it"


def test_base_dependencies_are_those_declared():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = text.split("\ndependencies = [", 1)[1].split("\n]", 1)[0]
    lines = [line.split('"')[1] for line in listed.splitlines() if '"' in line]
    assert {line.split(">")[0] for line in lines} == BASE


def test_importing_teachkit_is_light():
    check = (
        "import sys, teachkit, teachkit.cli, teachkit.figures\n"
        "heavy = {'huggingface_hub', 'matplotlib', 'transformers', 'beartype', 'IPython', 'ipywidgets'}\n"
        "heavy |= {'rich', 'torch._dynamo'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- size and documentation ----------------------------------------------------------------------------


def lines_of_code(node, source):
    """Lines within a node that hold code: no blank lines, comments or docstrings."""
    docstrings = set()
    for inner in ast.walk(node):
        if isinstance(inner, (*FUNCTION, ast.ClassDef, ast.Module)) and ast.get_docstring(inner) is not None:
            docstrings |= set(range(inner.body[0].lineno, inner.body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent | {tokenize.ENDMARKER}:
            code |= set(range(token.start[0], token.end[0] + 1))
    if not isinstance(node, ast.Module):
        code &= set(range(node.lineno, node.end_lineno + 1))
    return len(code - docstrings)


def test_lines_of_code_by_hand():
    source = '''"""Two
lines."""

# a comment
x = (
    1
)
def f():
    """One."""
    return x  # a comment
'''
    tree = ast.parse(source)
    assert lines_of_code(tree, source) == 5
    assert lines_of_code(tree.body[-1], source) == 2


@each_module
def test_small(name):
    source, tree = MODULES[name].read_text(encoding="utf-8"), tree_of(name)
    assert lines_of_code(tree, source) <= MODULE_LINES
    for node in ast.walk(tree):
        if isinstance(node, FUNCTION):
            assert lines_of_code(node, source) <= FUNCTION_LINES, f"{node.name}, line {node.lineno}"


SAY_ALL = {"forward", "__call__", "median_s", "vocab_size"}  # by their names, or the class says it
PROTOCOL = {"lengths", "capacity", "nbytes", "plan", "truncate", "positions", "valid", "layer", "attend"}


@each_module
def test_public_names_are_documented(name):
    """Those of the cache protocol are documented once, in the protocol."""
    tree = tree_of(name)
    assert ast.get_docstring(tree), name
    for owner in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        protocol = isinstance(owner, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in owner.bases)
        if isinstance(owner, ast.ClassDef) and owner.name.startswith("_"):
            continue
        for node in owner.body:
            if not isinstance(node, (*FUNCTION, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if node.name not in SAY_ALL | (set() if protocol else PROTOCOL):
                assert ast.get_docstring(node), f"{name}: {node.name}, line {node.lineno}"


@each_module
def test_has_a_test_of_its_own(name):
    if name == "__init__":
        return
    package, _, stem = name.rpartition(".")
    tests = ROOT / "tests"
    expected = tests / f"test_{stem}.py"
    assert expected.exists() or (package and (tests / f"test_{package}.py").exists()), (
        f"{expected} is missing"
    )


def test_tolerances_come_from_the_table():
    for path in (ROOT / "tests").glob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        if "from tolerance import" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.keyword) and node.arg in ("atol", "rtol"):
                assert ast.unparse(node.value) == "0", f"{path.name}, line {node.value.lineno}"
