"""The set-up cell of the lessons, run as in Colab: an environment that has torch and others, but no teachkit.

The environment is a new one that sees the packages of this one that Colab has, through a folder of links. The
repository's address is a local checkout: pip clones it just as it would clone one on the network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import notebooks as tool

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.py"))
# In Colab's image, of what teachkit needs. The rest, and what builds it, comes from the package index.
PREINSTALLED = ("torch", "numpy", "safetensors", "tokenizers", "huggingface_hub", "packaging", "pip")
CHECK = """
import json, teachkit as tk, torch
model = tk.load("bundled")
logits = model(torch.tensor([[model.tokenizer.bos]]))
print(json.dumps([torch.__version__, torch.__file__, tk.__file__, list(logits.shape)]))
"""
lessons = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def setup_cell(lesson: Path, address: str) -> Any:
    notebook = tool.read_lesson(lesson, address)
    found = [cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", [])]
    assert len(found) == 1, f"{lesson.name}: expected one cell tagged 'setup', got {len(found)}"
    return found[0]


def closure(names: tuple[str, ...]) -> Iterator[metadata.Distribution]:
    """The distributions of `names` and of all that they need here."""
    from packaging.requirements import Requirement

    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        yield distribution
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def link_packages(target: Path) -> None:
    target.mkdir()
    for distribution in closure(PREINSTALLED):
        for name in {
            file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")
        }:
            source = Path(str(distribution.locate_file(name)))
            if source.exists() and not (target / name).exists():
                (target / name).symlink_to(source)


def checkout(target: Path) -> Path:
    """The package as it stands in the working tree, committed in a repository of its own."""
    target.mkdir()
    shutil.copytree(ROOT / "src", target / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, target)
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "-f", "."), (*identity, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_cell(python: Path, source: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_CONSTRAINT", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(python), "-c", source], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@lessons
def test_the_address_is_filled_in_from_the_configuration_and_nowhere_else(lesson):
    address = "https://example.org/someone/course"
    assert f'ADDRESS = "{address}"' in setup_cell(lesson, address).source
    assert 'ADDRESS = ""' in lesson.read_text(encoding="utf-8")


@lessons
def test_set_up_neither_upgrades_nor_constrains(lesson):
    source = setup_cell(lesson, "").source
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))
    for word in ("--upgrade", "-U", "constraints", "--force-reinstall", "==", "torch"):
        assert word not in code.replace("raise ModuleNotFoundError", "").split("subprocess.run", 1)[1]


@lessons
def test_nothing_happens_where_teachkit_is_installed(lesson, tmp_path):
    result = run_cell(Path(sys.executable), setup_cell(lesson, "file:///nowhere").source, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def different_cells() -> dict[str, Path]:
    """The lessons' set-up cells, each once, with the first lesson that has it."""
    found: dict[str, Path] = {}
    for lesson in LESSONS:
        found.setdefault(setup_cell(lesson, "").source, lesson)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lesson", different_cells().values(), ids=lambda path: path.stem)
@pytest.mark.skipif(os.name == "nt", reason="links to folders need a privilege on Windows")
@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this system")
def test_set_up_installs_teachkit_beside_the_torch_that_is_there(lesson, tmp_path):
    links, environment = tmp_path / "preinstalled", tmp_path / "env"
    link_packages(links)
    venv.create(environment, with_pip=False)
    python = python_in(environment)
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "preinstalled.pth").write_text(f"{links}\n", encoding="utf-8")

    absent = run_cell(python, setup_cell(lesson, "").source, tmp_path)
    assert absent.returncode != 0
    assert "pip install" in absent.stderr, "without an address the cell must say what to do"

    address = checkout(tmp_path / "course").as_uri()
    done = run_cell(python, setup_cell(lesson, address).source, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    used = run_cell(python, CHECK, tmp_path)
    assert used.returncode == 0, used.stderr
    version, file, package, shape = json.loads(used.stdout)
    assert version == metadata.version("torch") or version.startswith(metadata.version("torch"))
    assert Path(file).is_relative_to(links), "torch was installed anew"
    assert Path(package).is_relative_to(environment), "teachkit was not installed"
    assert not list(site.glob("torch*")), "a torch was put in front of the one that was there"
    assert shape[:2] == [1, 1]
