"""Faults put into teachkit, one at a time, to see that a lesson notices: tests/faults/<stem>.toml lists them.

[[fault]]
name = "scale is left out"
module = "teachkit/attention.py"
old = "scale = D**-0.5 if scale is None else scale"   # stands exactly once in the module
new = "scale = 1.0"
why = "the lesson computes the variance of the scores with and without it"
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).resolve().parent / "faults"
FIELDS = ("name", "module", "old", "new", "why")
PER_MODULE = 2


@dataclass(frozen=True)
class Fault:
    """One change of the package that makes it wrong: in `module`, `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str
    why: str


def read(path: Path) -> list[Fault]:
    """The faults of one file.

    Raises  ValueError: a field is missing, unknown or empty
    """
    faults = []
    for number, entry in enumerate(tomllib.loads(path.read_text(encoding="utf-8")).get("fault", []), start=1):
        if set(entry) != set(FIELDS):
            raise ValueError(f"{path.name}: fault {number} has {sorted(entry)}, expected {sorted(FIELDS)}")
        if empty := [field for field in ("name", "module", "old", "why") if not entry[field].strip()]:
            raise ValueError(f"{path.name}: fault {number} has empty {', '.join(empty)}")
        faults.append(Fault(**entry))
    return faults


def problems(faults: Sequence[Fault], modules: Sequence[str], source: Path) -> list[str]:
    """What is wrong with a lesson's faults: too few for a taught module, not applicable, not even Python.

    modules  the lesson's taught modules, as its metadata names them
    source   the folder that holds teachkit/
    """
    found = [f"two faults are named {name!r}" for name, n in Counter(f.name for f in faults).items() if n > 1]
    count = Counter(fault.module for fault in faults)
    few = [module for module in modules if count[f"teachkit/{module}.py"] < PER_MODULE]
    found += [f"{module}: at least {PER_MODULE} faults are expected" for module in few]
    return found + [problem for fault in faults if (problem := _problem(fault, source))]


def _problem(fault: Fault, source: Path) -> str:
    try:
        compile(apply(fault, source), fault.module, "exec")
    except SyntaxError as error:
        return f"{fault.name}: the module is not Python any more: {error.msg}"
    except ValueError as error:
        return str(error)
    return ""


def apply(fault: Fault, source: Path) -> str:
    """The text of the module with the fault in it.

    Raises  ValueError: no such module, `old` does not stand in it exactly once, or nothing changes
    """
    path = source / fault.module
    if not path.is_file():
        raise ValueError(f"{fault.name}: there is no {fault.module}")
    text = path.read_text(encoding="utf-8")
    if (n := text.count(fault.old)) != 1:
        raise ValueError(f"{fault.name}: {fault.old!r} stands {n} times in {fault.module}, expected once")
    if fault.old == fault.new:
        raise ValueError(f"{fault.name}: old and new are the same")
    return text.replace(fault.old, fault.new)


def copy_package(target: Path, fault: Fault | None = None, source: Path = ROOT / "src") -> Path:
    """Copy teachkit into `target`, with `fault` if one is given; returns `target`, to be put on PYTHONPATH.

    Without bytecode: a .pyc is trusted by its source's size and time in seconds; a fault need change neither.
    """
    shutil.copytree(source / "teachkit", target / "teachkit", ignore=shutil.ignore_patterns("__pycache__"))
    if fault is not None:
        (target / fault.module).write_text(apply(fault, source), encoding="utf-8")
    return target
