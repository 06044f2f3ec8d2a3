"""What of teachkit a submission may have: the modules that a lab names, and none besides.

A lab on attention is not to be answered with teachkit's attention. The sandbox gets a copy of the package
in which only the allowed modules lie; the others are not there to be imported, read or found.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_INIT = '''"""A part of teachkit: what this lab gives. The rest is what you write."""

from importlib import import_module


def __getattr__(name):
    try:
        return import_module(f"teachkit.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"teachkit.{name} is not there while this lab is graded") from None
'''


def make(modules: Sequence[str], folder: Path) -> Path:
    """Write the allowed part of teachkit into a folder, which is to be importable; the folder.

    Raises  ValueError: a module that teachkit does not have
    """
    package = folder / "teachkit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_INIT, encoding="utf-8")
    for name in modules:
        source = _package() / f"{name}.py"
        if not source.is_file():
            raise ValueError(f"teachkit.{name}: a lab gives it, and there is no such module")
        shutil.copyfile(source, package / f"{name}.py")
    return folder


def _package() -> Path:
    spec = find_spec("teachkit")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
