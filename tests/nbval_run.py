"""Run nbval on one lesson in a fresh kernel, and say what was compared.

nbval alone reports a pass for a cell of which it compared nothing, and cannot say which teachkit the kernel
imported. `python tests/nbval_run.py LESSON RECORD` counts the comparisons, asks the kernel, and writes both
to RECORD as JSON; `run()` does so in a process of its own and reads them.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SANITIZE = HERE / "nbval_sanitize.cfg"
# Asked of the kernel after the last cell that ran.
QUESTIONS = {
    "teachkit": "getattr(__import__('sys').modules.get('teachkit'), '__file__', '')",
    "prefix": "__import__('sys').prefix",
    "threads": "__import__('torch').get_num_threads() if 'torch' in __import__('sys').modules else 0",
}
TIMEOUT_S = 300
# nbval is the only plugin that is needed; the others would load what they test.
SETTINGS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@dataclass(frozen=True)
class Run:
    """One nbval run.

    status    pytest's exit status: 0 passed, 1 a cell failed, others: nothing can be said
    executed  code cells that ran
    compared  code cells, counted from 0, of which at least one output was compared
    failed    (cell, reason) of cells whose output differs or that raised
    broken    failures of the machinery: a dead kernel, a timeout
    examples  what each Python block in the prose raised, "" if nothing; empty if they were not asked for
    kernel    the kernel's answers to QUESTIONS
    log       what pytest printed
    """

    status: int
    executed: int
    compared: list[int]
    failed: list[tuple[int, str]]
    broken: list[str]
    examples: list[str]
    kernel: dict[str, Any]
    log: str


def run(
    notebook: Path,
    *,
    source: Path | None = None,
    env: dict[str, str] | None = None,
    first: bool = False,
    examples: bool = False,
) -> Run:
    """nbval on `notebook` in a process of its own.

    source    a folder with a teachkit to import instead of the installed one
    env       more environment variables, for the kernel
    first     stop at the first cell that fails
    examples  after the last cell, run the Python blocks that stand in the prose: answers to exercises
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record.json")
        variables = {**os.environ, "IPYTHONDIR": folder, **SETTINGS, **(env or {})}
        for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "COV_CORE_SOURCE"):
            variables.pop(name, None)
        if source is not None:
            # Before site-packages on sys.path, so before the editable install; the test asks the kernel.
            variables["PYTHONPATH"] = str(source)
        command = [sys.executable, str(HERE / "nbval_run.py"), str(notebook), str(record)]
        command += ["--first"] * first + ["--examples"] * examples
        done = subprocess.run(
            command, capture_output=True, text=True, env=variables, timeout=TIMEOUT_S, check=False
        )
        log = done.stdout + done.stderr
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else _nothing()
    found["failed"] = [tuple(pair) for pair in found["failed"]]
    return Run(status=done.returncode, log=log, **found)


def _nothing() -> dict[str, Any]:
    nothing = {"executed": 0, "compared": [], "failed": [], "examples": [], "kernel": {}}
    return {**nothing, "broken": ["no record was written"]}


class Probe:
    """A pytest plugin: watches nbval's cells and kernel."""

    def __init__(self, *, examples: bool) -> None:
        self.examples = examples
        self.record = {**_nothing(), "broken": []}

    def watch(self) -> None:
        from nbval import plugin

        compare, teardown = plugin.IPyNbCell.compare_outputs, plugin.IPyNbFile.teardown

        def counted(cell: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
            ref = list(ref)
            skipped = cell.parent.skip_compare
            shown = (
                {out.name: out.text} if out.output_type == "stream" else out.get("data", {}) for out in ref
            )
            if any(key not in skipped and text for keys in shown for key, text in keys.items()):
                self.record["compared"].append(cell.cell_num)
            return bool(compare(cell, test, ref, skip_compare))

        def asked(file: Any) -> None:
            if file.kernel is not None and file.kernel.is_alive():
                if self.examples:
                    self.record["examples"] = [raised(file.kernel.kc, block) for block in blocks(file.nb)]
                self.record["kernel"] = ask(file.kernel.kc)
            teardown(file)

        plugin.IPyNbCell.compare_outputs, plugin.IPyNbFile.teardown = counted, asked

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.record["executed"] += report.when == "call" and not report.skipped

    def pytest_exception_interact(self, node: Any, call: Any) -> None:
        from nbval.plugin import NbCellError

        error = call.excinfo.value
        if isinstance(error, NbCellError) and not str(error).startswith("Timeout"):
            self.record["failed"].append((error.cell_num, str(error)))
        else:
            self.record["broken"].append(f"{node.name}: {type(error).__name__}: {error}")


def blocks(lesson: Any) -> list[str]:
    """The Python blocks in a lesson's Markdown cells."""
    prose = "\n\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    return re.findall(r"^```python\n(.*?)^```", prose, flags=re.M | re.S)


def raised(client: Any, code: str) -> str:
    reply = execute(client, code)
    return "" if reply["status"] == "ok" else f"{reply['ename']}: {reply['evalue']}, from {code!r}"


def ask(client: Any) -> dict[str, Any]:
    """The kernel's answers to QUESTIONS."""
    answers = execute(client, "", user_expressions=QUESTIONS)["user_expressions"]
    return {k: ast.literal_eval(v["data"]["text/plain"]) for k, v in answers.items() if v["status"] == "ok"}


def execute(client: Any, code: str, **fields: Any) -> dict[str, Any]:
    """The kernel's reply to `code`."""
    sent = client.execute(code, silent=True, **fields)
    while True:
        reply = client.get_shell_msg(timeout=TIMEOUT_S)
        if reply["parent_header"].get("msg_id") == sent:
            return dict(reply["content"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("--first", action="store_true", help="stop at the first cell that fails")
    parser.add_argument("--examples", action="store_true", help="run the Python blocks of the prose, too")
    options = parser.parse_args()
    import pytest

    probe = Probe(examples=options.examples)
    probe.watch()
    # The project's own pytest options (doctests, shape checks, warnings) are not for lessons.
    settings = options.record.with_name("pytest.ini")
    settings.write_text("[pytest]\n", encoding="utf-8")
    notebook = options.notebook.resolve()
    arguments = [str(notebook), "-c", str(settings), "--rootdir", str(notebook.parent), "-q", "--color=no"]
    arguments += ["-p", "nbval.plugin", "-p", "no:cacheprovider", "--nbval-cell-timeout=120"]
    arguments += ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={SANITIZE}"]
    arguments += ["-x"] * options.first
    status = pytest.main(arguments, plugins=[probe])
    options.record.write_text(json.dumps(probe.record), encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
