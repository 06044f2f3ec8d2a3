"""What a sandbox can see: Python, the packages that a lab allows, and nothing else of this machine."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Mounts:
    """read: (here, there) pairs, read-only; hidden: folders there that are empty; packages: to import
    from.
    """

    read: tuple[tuple[Path, Path], ...]
    hidden: tuple[Path, ...]
    packages: Path


def mounts(allowed: Sequence[str], *, there: Path = Path("/packages")) -> Mounts:
    """Of the interpreter that runs this. allowed: distributions, with what they need.

    Raises  ValueError: a distribution that is not installed
    """
    prefix = Path(sys.base_prefix).resolve()
    read = [(Path(p), Path(p)) for p in SYSTEM if Path(p).exists()]
    hidden = [Path("/usr/lib/python3/dist-packages"), *map(Path, _other_packages())]
    if not prefix.is_relative_to("/usr"):
        read.append((prefix, prefix))
    hidden.append(prefix / Path(sysconfig.get_path("purelib", vars=_vars(prefix))).relative_to(prefix))
    read += [(here, there / here.name) for here in sorted(_tops(allowed))]
    return Mounts(tuple(read), tuple(dict.fromkeys(p for p in hidden if p.exists())), there)


def _vars(prefix: Path) -> dict[str, str]:
    return {"base": str(prefix), "platbase": str(prefix)}


def _other_packages() -> Iterable[str]:
    """Folders of installed packages below /usr, whoever's they are."""
    for folder in ("/usr/lib", "/usr/local/lib"):
        for found in Path(folder).glob("python3*"):
            for name in ("site-packages", "dist-packages"):
                if (found / name).is_dir():
                    yield str(found / name)


def _tops(names: Sequence[str]) -> set[Path]:
    """Files and folders in site-packages that belong to these distributions and what they require."""
    found: set[Path] = set()
    for one in _closure(names):
        base = Path(str(one.locate_file(""))).resolve()
        for file in one.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__", "bin") and not top.endswith(".pth"):
                found.add(base / top)
    return {path for path in found if path.exists()}


def _closure(names: Sequence[str]) -> list[Distribution]:
    from packaging.requirements import Requirement

    done: dict[str, Distribution] = {}
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in done:
            continue
        try:
            done[name] = distribution(name)
        except PackageNotFoundError:
            if name in names:
                raise ValueError(f"{name}: a lab allows it, and it is not installed") from None
            continue
        for line in done[name].requires or ():
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                left.append(asked.name)
    return list(done.values())
