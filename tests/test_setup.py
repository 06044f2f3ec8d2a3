"""The set-up: what the make targets, the lock and the project file promise.

The commands and examples of README.md are the matter of tests/test_docs.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
TARGETS = [
    *("book", "pdf", "bundle", "screenshots", "card", "links", "lighthouse", "test", "check", "lint"),
    *("notebooks", "lab", "bench", "stress", "clean", "help"),
]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
LOCK = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LOCKED = [Requirement(line) for line in LOCK if line and not line.lstrip().startswith("#")]

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this system")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name.replace("_", "-").lower() for text in requirements}


# --- make -----------------------------------------------------------------------------------------


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_target_is_defined_and_expands(target):
    result = run("make", "-n", target)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@needs_make
def test_help_lists_every_target():
    listed = re.findall(r"^  make (\w+)", run("make", "help").stdout, flags=re.M)
    assert set(TARGETS) <= set(listed)


@needs_make
def test_make_test_ends_with_the_tests():
    """So that pytest's closing line is the last one printed."""
    commands = run("make", "--no-print-directory", "-n", "test").stdout.replace("\\\n", " ")
    assert "-m pytest" in commands.strip().splitlines()[-1]


def copy_of_makefile(folder: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)


@needs_make
@pytest.mark.slow
@pytest.mark.parametrize("target", ["book", "test", "check"])
def test_failed_install_stops_the_target(tmp_path, target):
    copy_of_makefile(tmp_path)
    result = run("make", target, "INSTALL_pip=false", "PYTHON=" + sys.executable, cwd=tmp_path)
    assert result.returncode != 0
    assert not list((tmp_path / ".venv").glob("installed-*")), "a failed install must not count as done"


@needs_make
def test_environment_is_reused_until_the_lock_changes(tmp_path):
    """By content: touching a file installs nothing again. The folder's name has a space."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    copy_of_makefile(folder)

    def plan() -> str:
        return run("make", "-n", "lint", f"PYTHON={sys.executable}", cwd=folder).stdout

    (stamp,) = re.findall(r"touch (\S+)", plan())
    (folder / stamp).parent.mkdir()
    (folder / stamp).touch()
    (folder / "constraints.txt").touch()
    assert "venv" in stamp
    assert "-m venv" not in plan()
    with (folder / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "-m venv" in plan()


# --- dependencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run", ".github/workflows/ci.yml"]
)
def test_no_index_address(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"--(extra-)?index-url|--find.links|https?://|^-[if] ", text, flags=re.M)


def test_every_dependency_has_its_reason():
    tables = PYPROJECT.split("[project.scripts]")[0]
    lines = re.findall(r'^ +"[^"]+\S*",.*$', tables.split("\ndependencies = [", 1)[1], flags=re.M)
    n_declared = len(PROJECT["dependencies"]) + sum(map(len, PROJECT["optional-dependencies"].values()))
    assert len(lines) == n_declared
    assert [line for line in lines if not re.search(r",\s+# \S", line)] == []


def test_package_needs_these_and_no_more():
    expected = {"torch", "safetensors", "tokenizers", "numpy", "jaxtyping", "huggingface-hub", "rich"}
    assert names(PROJECT["dependencies"]) == expected


def test_lock_is_exact_and_without_local_versions():
    for requirement in LOCKED:
        specifiers = list(requirement.specifier)
        assert [s.operator for s in specifiers] == ["=="], requirement
        assert "+" not in specifiers[0].version, requirement


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_lock_has_one_version_of_each_direct_dependency(version, system):
    declared = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        declared += extra
    place = {"python_version": version, "python_full_version": f"{version}.9", "sys_platform": system}
    chosen = [r for r in LOCKED if r.marker is None or r.marker.evaluate(place)]
    by_name = {}
    for requirement in chosen:
        assert by_name.setdefault(requirement.name, requirement) is requirement, (
            f"{requirement.name}: two versions"
        )
    for text in declared:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate(place):
            continue
        locked = by_name[wanted.name.replace("_", "-").lower()]
        (specifier,) = locked.specifier
        assert wanted.specifier.contains(specifier.version, prereleases=True), f"{text}: locked {locked}"


def test_one_version_everywhere():
    import teachkit

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == teachkit.__version__
    assert f"## {teachkit.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# --- an installed package -------------------------------------------------------------------------


@pytest.mark.slow
def test_clone_installs_with_plain_pip(tmp_path):
    """A clone, installed by the plain pip line into an empty environment: the command runs there.

    Dependencies come from this environment, through a .pth: what they are is the lock's matter.
    """
    clone = tmp_path / "clone"
    assert run("git", "clone", "--quiet", str(ROOT), str(clone)).returncode == 0
    assert run(sys.executable, "-m", "venv", str(tmp_path / "env")).returncode == 0
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    result = run(str(scripts / "python"), "-m", "pip", "install", "--quiet", "--no-deps", ".", cwd=clone)
    if result.returncode and re.search(r"No matching distribution|NewConnectionError", result.stderr):
        pytest.skip("the build backend cannot be fetched here")
    assert result.returncode == 0, result.stderr
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    theirs = Path(run(str(scripts / "python"), "-c", where).stdout.strip())
    ours = run(sys.executable, "-c", where).stdout.strip()
    (theirs / "dependencies.pth").write_text(ours + "\n")
    result = run(str(scripts / "teachkit"), "info", "--json", cwd=tmp_path, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert (theirs / "teachkit" / "checkpoints" / "bundled" / "model.safetensors").is_file()
    assert (theirs / "teachkit" / "py.typed").is_file()
