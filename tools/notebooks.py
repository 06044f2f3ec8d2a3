"""Write each notebooks/<stem>.ipynb from its notebooks/<stem>.py, executed; `--check` verifies the pairs.

A lesson is written in the .py (jupytext, py:percent). Its header holds the notebook's metadata, among it
`teachkit: {stem, modules, objectives, minutes, lab}`; `last_run` is added here, from the run itself.
In a cell tagged `setup`, the line `ADDRESS = "..."` gets the repository's address from _config.yml.

--check compares contents, never file times: source, kind and tags of every cell, the metadata, execution
counts 1, 2, 3 ... (nbval skips a cell without one, silently), no error among the outputs, no machine's path.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT_S = 600
HEADER = {"stem", "modules", "objectives", "minutes", "lab"}
LAST_RUN = {"date", "device", "threads", "versions", "seconds", "peak_memory_bytes"}
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"(?:/(?:home|root|Users)/|/tmp/ipykernel_|[A-Z]:\\\\?Users)")
# Runs in the lesson's kernel after its last cell: only there are its threads and its memory known.
PROBE = """
import json, platform, sys
def _probe():
    import torch
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            cpu = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:  # not getrusage: a process that Linux starts begins there with its parent's peak
        with open("/proc/self/status") as file:
            peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if sys.platform == "win32":
            import psutil
            peak = psutil.Process().memory_info().peak_wset
        else:
            import resource
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    print(json.dumps({"device": device, "threads": torch.get_num_threads(), "versions": versions,
                      "peak_memory_bytes": peak}))
_probe()
"""


def repository_address(root: Path) -> str:
    """`repository: url:` of _config.yml, the only place where the address stands; may be empty."""
    path = root / "_config.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str((config.get("repository") or {}).get("url") or "")


def read_lesson(source: Path, address: str) -> Any:
    """The lesson's .py as a notebook: not executed, cell ids from the position, address filled in."""
    notebook = jupytext.read(source)
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem}-{number}"[-64:]
        if "setup" in cell.metadata.get("tags", []):
            cell.source = re.sub(
                r'^ADDRESS = ".*?"', lambda _: f'ADDRESS = "{address}"', cell.source, flags=re.M
            )
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def execute(notebook: Any, folder: Path, root: Path) -> None:
    """Execute in place, in a fresh kernel that starts in `folder`; adds metadata.teachkit.last_run."""
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,  # live figures bring a twin; a widget is nothing without its kernel
    )
    started = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - started
    probe = json.loads(notebook.cells.pop().outputs[0].text)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_scrub(output, root) for output in cell.outputs]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
    date = datetime.now(timezone.utc).date().isoformat()
    notebook.metadata.setdefault("teachkit", {})["last_run"] = {
        "date": date,
        "seconds": round(seconds, 1),
        **probe,
    }


def _scrub(value: Any, root: Path) -> Any:
    """`value` without paths of this machine, in every string of a nested output."""
    if isinstance(value, dict):
        scrubbed = {k: v if k.startswith("image/") else _scrub(v, root) for k, v in value.items()}
        return nbformat.from_dict(scrubbed)
    if isinstance(value, list):
        return [_scrub(item, root) for item in value]
    if isinstance(value, str):
        value = re.sub(r"/tmp/ipykernel_\d+/\d+\.py", "cell", value)
        for path, name in ((str(root), "."), (sys.prefix, ".venv"), (str(Path.home()), "~")):
            value = value.replace(path, name)
    return value


def differences(source: Path, address: str) -> list[str]:
    """Every way in which the committed .ipynb is not the executed form of `source`."""
    path = source.with_suffix(".ipynb")
    if not path.is_file():
        return [f"{path.name}: missing"]
    expected, found = read_lesson(source, address), nbformat.read(path, as_version=4)
    problems = _metadata_differences(expected.metadata, found.metadata, source.stem)
    if len(expected.cells) != len(found.cells):
        problems.append(f"{len(expected.cells)} cells in the .py, {len(found.cells)} in the .ipynb")
    count = 0
    for number, (ours, theirs) in enumerate(zip(expected.cells, found.cells, strict=False)):
        for field in ("cell_type", "source", "id"):
            if ours[field] != theirs.get(field):
                problems.append(f"cell {number}: {field} differs")
        if ours.metadata.get("tags", []) != theirs.metadata.get("tags", []):
            problems.append(f"cell {number}: tags differ")
        if theirs.cell_type == "code":
            count += 1
            problems += [f"cell {number}: {problem}" for problem in _output_problems(theirs, count)]
    return [f"{path.name}: {problem}" for problem in problems]


def _metadata_differences(expected: Any, found: Any, stem: str) -> list[str]:
    header, stored = dict(expected.get("teachkit", {})), dict(found.get("teachkit", {}))
    last_run = stored.pop("last_run", {})
    problems = []
    if set(header) != HEADER:
        problems.append(f"teachkit in the .py's header has {sorted(header)}, expected {sorted(HEADER)}")
    if header.get("stem") != stem:
        problems.append(f"teachkit.stem is {header.get('stem')!r}, expected {stem!r}")
    if header != stored:
        problems.append("teachkit metadata differs from the .py's header")
    if set(last_run) != LAST_RUN:
        problems.append(f"last_run has {sorted(last_run)}, expected {sorted(LAST_RUN)}")
    return problems


def _output_problems(cell: Any, count: int) -> list[str]:
    problems = []
    if cell.execution_count != count:
        problems.append(f"execution count {cell.execution_count}, expected {count}")
    if any(output.output_type == "error" for output in cell.outputs):
        problems.append("an error is among the outputs")
    text = [{k: v for k, v in o.get("data", o).items() if not k.startswith("image/")} for o in cell.outputs]
    if MACHINE_PATH.search(json.dumps(text)):
        problems.append("an output shows a path of the machine")
    return problems


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stems", nargs="*", help="lessons; all when none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a pair disagrees")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with notebooks/ and _config.yml")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    folder, address = root / "notebooks", repository_address(root)
    sources = sorted(folder.glob("*.py"))
    if unknown := set(options.stems) - {source.stem for source in sources}:
        parser.error(f"no such lesson: {', '.join(sorted(unknown))}")
    if options.stems:
        sources = [source for source in sources if source.stem in options.stems]

    if options.check:
        problems = [line for source in sources for line in differences(source, address)]
        if not options.stems:
            orphans = {path.stem for path in folder.glob("*.ipynb")} - {source.stem for source in sources}
            problems += [f"{stem}.ipynb: has no {stem}.py" for stem in sorted(orphans)]
        for line in problems:
            print(line, file=sys.stderr)
        if problems:
            print("`make notebooks` writes the .ipynb from the .py", file=sys.stderr)
        else:
            print(f"{len(sources)} lessons: .py and .ipynb agree")
        return 1 if problems else 0

    for source in sources:
        notebook = read_lesson(source, address)
        execute(notebook, folder, root)
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        run = notebook.metadata.teachkit.last_run
        print(f"{source.stem}: {run['seconds']} s, {run['peak_memory_bytes'] / 1e9:.2f} GB at its peak")
    return 0


if __name__ == "__main__":
    sys.exit(main())
